"""The ledger of a study: one record for each finished trial.

It is all that a search remembers. It is replaced whole after each trial, so a kill at any moment leaves the
trials before, or those and the new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from typing_extensions import TypedDict

from kft import disk, untrusted
from kft.errors import RunError, quoted
from kft.evaluation import kinds
from kft.schemas import Number, Text

TRIALS = "trials.jsonl"

Record = dict[str, Any]
"""`trial` (from 1), `status` (completed or failed), `knobs`, `objective` (its name) and `value`, `metrics` of
the validation rows, `seconds`, `path` of the run, relative to the study, and `message`: why it failed."""


class _Written(TypedDict):
    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # type: ignore[misc]

    trial: Annotated[int, pydantic.Field(ge=1, le=10**6)]
    status: Literal["completed", "failed"]
    knobs: dict[Text, Any]
    objective: Text
    value: Number | None
    metrics: dict[Text, Number]
    seconds: Number
    path: Text
    message: Text | None


def read(out: Path, knobs: Collection[str], objective: str) -> list[Record]:
    """The finished trials of a study, in the order they ran.

    Args:
        out: The study's directory.
        knobs: The names of those that are searched.
        objective: The metric that ranks the trials.

    Raises:
        RunError: The file is damaged, or a line holds what this study does not write.
    """
    path = out / TRIALS
    if not os.path.lexists(path):
        return []
    records = untrusted.read_json_lines(path, _Written, RunError)
    trials: set[int] = set()
    for line, record in enumerate(records, 1):
        name = _wrong(record, knobs, objective) or ("trial" if record["trial"] in trials else None)
        if name is not None:
            raise RunError(
                f"{path}, line {line}: {name}: found {quoted(record[name])}, which this study does not write there. "
                "Restore the file, or tune into another out."
            )
        trials.add(record["trial"])
    return records


def _wrong(record: Record, knobs: Collection[str], objective: str) -> str | None:
    """The name of a value that a study of these knobs and this objective does not write."""
    is_right = {
        "path": record["path"] == run_path(record["trial"]),
        "knobs": {*record["knobs"]} == {*knobs},
        "objective": record["objective"] == objective,
        "value": (record["value"] is not None) == (record["status"] == "completed"),
    }
    return next((name for name, is_so in is_right.items() if not is_so), None)


def run_path(trial: int) -> str:
    """Where the run of a trial is, relative to the study."""
    return f"trials/{trial:03d}"


def write(out: Path, records: Sequence[Record]) -> None:
    """Replaces the ledger in one step, so that it is whole at any moment."""
    lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records]
    disk.write_text(out / TRIALS, "".join(lines))


def ranked(records: Sequence[Record]) -> list[Record]:
    """The completed trials, best first; of equal ones the earlier first.

    >>> shared = {"status": "completed", "objective": "accuracy"}
    >>> found = [{"trial": 1, "value": 0.5, **shared}, {"trial": 2, "value": 0.7, **shared}]
    >>> [record["trial"] for record in ranked(found)]
    [2, 1]
    """
    completed = [record for record in records if record["status"] == "completed"]
    if not completed:
        return []
    is_max = kinds.direction(completed[0]["objective"]) == "max"
    return sorted(completed, key=lambda record: record["value"], reverse=is_max)


def drop_losing_weights(out: Path, records: Sequence[Record]) -> None:
    """Removes the weights of all trials but the best; recipe, metrics and history stay."""
    best = next(iter(ranked(records)), None)
    for record in records:
        if record is not best:
            for folder in ("preset", "checkpoints"):
                disk.remove(out / run_path(record["trial"]) / folder)
