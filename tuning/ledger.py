"""The ledger of a study: one record for each finished trial.

It is all that a search remembers. It is replaced whole after each trial, so a kill at any moment leaves the
trials before, or those and the new one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kft.errors import RunError
from kft.evaluation import metrics

TRIALS = "trials.jsonl"

Record = dict[str, Any]
"""`trial` (from 1), `status` (completed or failed), `knobs`, `objective` (its name) and `value`, `metrics` of
the validation rows, `seconds`, `path` of the run, relative to the study, and `message`: why it failed."""


def read(out: Path) -> list[Record]:
    """The finished trials of a study, in the order they ran.

    Raises:
        RunError: The file is damaged.
    """
    path = out / TRIALS
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}). Restore it, or tune into another out.") from None


def write(out: Path, records: Sequence[Record]) -> None:
    """Replaces the ledger in one step, so that it is whole at any moment."""
    partial = out / f".partial-{TRIALS}"
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, out / TRIALS)


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
    is_max = metrics.direction(completed[0]["objective"]) == "max"
    return sorted(completed, key=lambda record: record["value"], reverse=is_max)


def drop_losing_weights(out: Path, records: Sequence[Record]) -> None:
    """Removes the weights of all trials but the best; recipe, metrics and history stay."""
    best = next(iter(ranked(records)), None)
    for record in records:
        if record is not best:
            for folder in ("preset", "checkpoints"):
                shutil.rmtree(out / record["path"] / folder, ignore_errors=True)
