"""Checkpoints: everything a fit needs to go on as if it had never stopped.

A checkpoint is a folder `step-<number>` with `state.safetensors` (every variable of model and optimizer, the random
states of dropout included), `position.json`, `history.jsonl` up to there and `sha256.json`. It is written under
another name, flushed to the disk and renamed, so one that has its name is whole; none is ever written over.
"""

from __future__ import annotations

import re
import shutil
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
import pydantic
import safetensors.numpy
from typing_extensions import TypedDict

from kft import disk, schemas, untrusted
from kft.errors import RunError, TrainingError
from kft.schemas import Count, Number, Text
from kft.training import arrays, random_state, variables

FOLDER = "checkpoints"
STATE, POSITION, HISTORY, SUMS = "state.safetensors", "position.json", "history.jsonl", "sha256.json"
MAX_POSITION_BYTES = 2**20
_NAME = re.compile(r"step-\d{8,}")


@dataclass(frozen=True)
class Position:
    """Where in a fit a checkpoint stands.

    Attributes:
        epoch: The epoch in progress, from 0.
        batch: Batches of that epoch already trained on.
        step: Batches trained on since the start: one a step.
        best_step: The step of the best weights so far by `save_best_by`; None before the first validation.
        best_value: That metric's value there.
        best_loss: The validation loss there, which decides between equal values.
        stale_epochs: Validations since then, in the stage in progress.
        stage: The stage whose state it is, from 0: that of the last batch trained on.
        micro_batches: Pieces that each batch was computed in.
        train_s: Seconds spent in training batches.
        num_rows: Rows trained on, counted once an epoch.
        notes: What the user should know of the training so far.
    """

    epoch: Count = 0
    batch: Count = 0
    step: Count = 0
    best_step: Count | None = None
    best_value: Number | None = None
    best_loss: Number | None = None
    stale_epochs: Count = 0
    stage: Count = 0
    micro_batches: Annotated[Count, pydantic.Field(ge=1)] = 1
    train_s: Annotated[Number, pydantic.Field(ge=0)] = 0.0
    num_rows: Count = 0
    notes: tuple[Text, ...] = ()


_typed_dict: Any = TypedDict
_Written = pydantic.with_config(extra="forbid")(
    _typed_dict(
        "_Written",
        {**typing.get_type_hints(Position, include_extras=True), "stage": NotRequired[Count], "notes": list[Text]},
    )
)


def at(folder: Path, step: int) -> Path:
    """The checkpoint of this step."""
    return folder / f"step-{step:08d}"


def save(folder: Path, network: Any, optimizer: Any, position: Position, history: Path) -> Path:
    """Writes a checkpoint of this position under `folder`, with a copy of the history so far.

    Raises:
        TrainingError: The disk is full or not writable. Older checkpoints are untouched.
    """
    target = at(folder, position.step)
    folder.mkdir(parents=True, exist_ok=True)
    advice = f"Earlier checkpoints are intact: make room, then go on with --resume {folder.parent}"
    with disk.writing_folder(target, TrainingError, advice) as partial:
        own = dict(variables.named(network, optimizer))
        safetensors.numpy.save_file({**arrays.of(own), **random_state.arrays()}, partial / STATE)
        disk.write_json(partial / POSITION, asdict(position), TrainingError)
        shutil.copyfile(history, partial / HISTORY)
        sums = {name: disk.sha256(partial / name) for name in (STATE, POSITION, HISTORY)}
        disk.write_json(partial / SUMS, sums, TrainingError)
    return target


def restore(path: Path, network: Any, optimizer: Any, micro_batches: int = 1) -> Position:
    """Puts a checkpoint's state into a model and optimizer of the same shape.

    Args:
        path: The checkpoint.
        network: The model.
        optimizer: Its optimizer.
        micro_batches: Pieces that each batch will be computed in; may be other than before.

    Raises:
        RunError: A file is damaged, or the variables are not those of this model.
    """
    verify(path)
    position = read_position(path)
    own = dict(variables.named(network, optimizer))
    is_other = micro_batches != position.micro_batches
    arrays = _read(path, own, lambda name: _is_random(name) or (is_other and _is_sum(name)))
    if is_other:
        _recount(arrays, micro_batches / position.micro_batches)
    for name, array in arrays.items():
        own[name].assign(array)
    random_state.restore(_random_of(path))
    return replace(position, micro_batches=micro_batches)


def _read(path: Path, own: Mapping[str, Any], is_left_out: Callable[[str], bool] | None = None) -> dict[str, Any]:
    """The arrays of a checkpoint for these variables; see `arrays.read`."""
    advice = "Resume with the recipe and the version of kft that it was begun with, or fit anew."
    return arrays.read(path / STATE, own, path, advice, is_left_out)


def _recount(arrays: dict[str, np.ndarray], factor: float) -> None:
    """The optimizer's count of calls, as other micro-batches would have made it; sums of gradients stay as they are."""
    for name, array in arrays.items():
        if name.startswith("optimizer/iteration"):
            arrays[name] = np.rint(array * factor).astype(array.dtype)


def _is_sum(name: str) -> bool:
    """Whether a variable holds gradients summed up for an update to come; there are none without accumulation."""
    return name.startswith("optimizer/") and name.partition("#")[0].endswith("gradient_accumulator")


def _is_random(name: str) -> bool:
    """Whether an array is the state of a generator of the backend's."""
    return name.startswith(random_state.PREFIX)


def _random_of(path: Path) -> dict[str, np.ndarray]:
    """The states of generators in a checkpoint, whose sha256 has been compared."""
    with safetensors.safe_open(path / STATE, framework="numpy") as opened:
        names = [name for name in opened.keys() if _is_random(name)]  # noqa: SIM118 (it is no dict)
        return {name: opened.get_tensor(name) for name in names}


def restore_weights(path: Path, network: Any, is_of_other: bool = False) -> None:
    """Puts only the model's variables of a checkpoint back, as for the best epoch's weights.

    Args:
        path: The checkpoint.
        network: The model.
        is_of_other: Whether it is of another stage, which may have had variables of its own.

    Raises:
        RunError: As for `restore`.
    """
    verify(path)
    own = dict(variables.named(network, None))
    arrays = _read(
        path,
        own,
        lambda name: name.startswith("optimizer/") or _is_random(name) or (is_of_other and name not in own),
    )
    for name, array in arrays.items():
        own[name].assign(array)


def read_position(path: Path) -> Position:
    """The position a checkpoint was written at.

    Raises:
        RunError: The file is damaged, or of another step than the checkpoint.
    """
    where = path / POSITION
    found = untrusted.read_json(where, _Written, RunError, max_bytes=MAX_POSITION_BYTES)
    position = Position(**{**found, "notes": tuple(found["notes"])})
    if at(path.parent, position.step).name != path.name:
        raise RunError(f"{where}: found step {position.step} in {path.name}. The file is damaged.")
    for name in ("batch", "best_step"):
        if (getattr(position, name) or 0) > position.step:
            past = f"found {getattr(position, name)}, which is past step {position.step}"
            raise RunError(f"{where}: {name}: {past}. The file is damaged.")
    return position


def refuse_other_plan(
    path: Path, position: Position, batches_per_epoch: int, total: int, begins: Sequence[int] = (0,)
) -> None:
    """Refuses a position that a fit does not come to.

    Args:
        path: The checkpoint.
        position: Its position.
        batches_per_epoch: Batches in one pass over the rows.
        total: Batches of the fit.
        begins: The first epoch of each stage.

    Raises:
        RunError: Says which step its epoch and batch would be.
    """
    step = min(position.epoch * batches_per_epoch + position.batch, total)
    if position.step != step or position.batch > batches_per_epoch:
        raise RunError(
            f"{path / POSITION}: found step {position.step} at batch {position.batch} of epoch {position.epoch}, but "
            f"this fit has {batches_per_epoch} batches an epoch and {total} steps. The file is damaged."
        )
    epoch = position.epoch if position.batch else max(position.epoch - 1, 0)  # of the last batch trained on
    stage = sum(begin <= epoch for begin in begins) - 1
    if position.stage != stage:
        raise RunError(
            f"{path / POSITION}: found stage {position.stage}, but epoch {epoch} is of stage {stage}. The file is "
            "damaged."
        )


def verify(path: Path) -> None:
    """Compares every file of a checkpoint with its sha256.

    Raises:
        RunError: Names the file that is missing or differs.
    """
    sums = untrusted.read_json(path / SUMS, dict[str, schemas.Sha256], RunError, max_bytes=MAX_POSITION_BYTES)
    for name in (STATE, POSITION, HISTORY):
        if not (path / name).is_file() or disk.sha256(path / name) != sums.get(name):
            raise RunError(f"{path / name}: missing, or its sha256 differs from the recorded one: damaged on disk.")


def is_intact(path: Path) -> bool:
    """Whether every file of a checkpoint is as it was written."""
    try:
        verify(path)
    except RunError:
        return False
    return True


def newest_intact(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are all as written, and what was wrong with newer ones."""
    problems = []
    for path in reversed(_all(folder)):
        try:
            verify(path)
            read_position(path)
        except RunError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def forget_after(folder: Path, chosen: Path | None) -> None:
    """Removes the checkpoints newer than the chosen one: damaged ones, since it is the newest that is intact."""
    disk.remove_partial(folder)
    for path in _all(folder):
        if chosen is None or path.name > chosen.name:
            disk.remove(path)


def keep_only(folder: Path, num_newest: int, best_step: int | None) -> None:
    """Removes all checkpoints but the newest few and the best, and leftovers of writes that were cut off."""
    kept = _all(folder)[-num_newest:]
    if best_step is not None:
        kept.append(at(folder, best_step))
    disk.remove_partial(folder)
    for path in _all(folder):
        if path not in kept:
            disk.remove(path)


def _all(folder: Path) -> list[Path]:
    """The checkpoints, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))
