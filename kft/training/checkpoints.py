"""Checkpoints: everything a fit needs to go on as if it had never stopped.

A checkpoint is a folder `step-<number>` with `state.safetensors` (every variable of model and optimizer, the random
states of dropout included), `position.json`, `history.jsonl` up to there and `sha256.json`. It is written under
another name, flushed to the disk and renamed, so one that has its name is whole; none is ever written over.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from kft import disk
from kft.errors import RunError, TrainingError

FOLDER = "checkpoints"
ROLES = (
    "gradient_accumulator",
    "momentum",
    "velocity",
    "iteration",
    "gradient_norm",
    "num_updates",
    "learning_rate",
    "step_counter",
    "dynamic_scale",
)
STATE, POSITION, HISTORY, SUMS = "state.safetensors", "position.json", "history.jsonl", "sha256.json"


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
        stale_epochs: Validations since then.
        micro_batches: Pieces that each batch was computed in.
        train_s: Seconds spent in training batches.
        num_rows: Rows trained on, counted once an epoch.
        notes: What the user should know of the training so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    best_loss: float | None = None
    stale_epochs: int = 0
    micro_batches: int = 1
    train_s: float = 0.0
    num_rows: int = 0
    notes: tuple[str, ...] = ()


def at(folder: Path, step: int) -> Path:
    """The checkpoint of this step."""
    return folder / f"step-{step:08d}"


def save(folder: Path, network: Any, optimizer: Any, position: Position, history: Path) -> Path:
    """Writes a checkpoint of this position under `folder`, with a copy of the history so far.

    Raises:
        TrainingError: The disk is full or not writable. Older checkpoints are untouched.
    """
    target = at(folder, position.step)
    partial = folder / f".partial-{target.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        safetensors.numpy.save_file(_arrays(network, optimizer), partial / STATE)
        (partial / POSITION).write_text(json.dumps(asdict(position), indent=2), encoding="utf-8")
        shutil.copyfile(history, partial / HISTORY)
        sums = {name: disk.sha256(partial / name) for name in (STATE, POSITION, HISTORY)}
        (partial / SUMS).write_text(json.dumps(sums, indent=2), encoding="utf-8")
        for path in [*partial.iterdir(), partial]:
            disk.flush(path)
        replaced = folder / f"{target.name}.old"
        if target.exists():  # the same step, at the end of an epoch that a signal came in
            target.rename(replaced)
        partial.rename(target)
        disk.flush(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            f"{target}: the checkpoint could not be written ({error}). Earlier checkpoints are intact: make room, then "
            f"go on with --resume {folder.parent}"
        ) from error
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
    arrays = safetensors.numpy.load_file(path / STATE)
    position = read_position(path)
    if micro_batches != position.micro_batches:
        _recount(arrays, micro_batches / position.micro_batches)
    variables = dict(_variables(network, optimizer))
    names = {name for name in {*arrays, *variables} if micro_batches == position.micro_batches or not _is_sum(name)}
    for name in sorted(names):
        if name not in arrays or name not in variables or arrays[name].size != math.prod(variables[name].shape):
            raise RunError(
                f"{path}: variable {name!r} is not the same in checkpoint and model; resume with the same recipe."
            )
    for name in sorted({*arrays} & {*variables}):
        variables[name].assign(arrays[name].reshape(variables[name].shape))
    return replace(position, micro_batches=micro_batches)


def _recount(arrays: dict[str, np.ndarray], factor: float) -> None:
    """The optimizer's count of calls, as other micro-batches would have made it; sums of gradients stay as they are."""
    for name, array in arrays.items():
        if name.startswith("optimizer/iteration/"):
            arrays[name] = np.rint(array * factor).astype(array.dtype)


def _is_sum(name: str) -> bool:
    """Whether a variable holds gradients summed up for an update to come; there are none without accumulation."""
    return name.startswith("optimizer/gradient_accumulator/")


def restore_weights(path: Path, network: Any) -> None:
    """Puts only the model's variables of a checkpoint back, as for the best epoch's weights."""
    verify(path)
    with safetensors.safe_open(path / STATE, framework="numpy") as arrays:
        for name, variable in _variables(network, None):
            variable.assign(arrays.get_tensor(name).reshape(variable.shape))


def read_position(path: Path) -> Position:
    """The position a checkpoint was written at."""
    read = json.loads((path / POSITION).read_text(encoding="utf-8"))
    return Position(**{**read, "notes": tuple(read["notes"])})


def verify(path: Path) -> None:
    """Compares every file of a checkpoint with its sha256.

    Raises:
        RunError: Names the file that is missing or differs.
    """
    try:
        sums = json.loads((path / SUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path / SUMS}: missing or damaged ({error}); this checkpoint cannot be trusted.") from None
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
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            verify(path)
        except RunError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def forget_after(folder: Path, chosen: Path | None) -> None:
    """Removes the checkpoints newer than the chosen one: damaged ones, since it is the newest that is intact."""
    for path in folder.glob("*step-*"):
        if chosen is None or path.name.startswith(".") or path.name > chosen.name:
            shutil.rmtree(path, ignore_errors=True)


def keep_only(folder: Path, num_newest: int, best_step: int | None) -> None:
    """Removes all checkpoints but the newest few and the best, and leftovers of writes that were cut off."""
    kept = sorted(folder.glob("step-*"))[-num_newest:]
    if best_step is not None:
        kept.append(at(folder, best_step))
    for path in folder.glob("*step-*"):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _variables(network: Any, optimizer: Any) -> Iterator[tuple[str, Any]]:
    """Every variable with a name that is unique and the same in every process that builds the same model."""
    seen: set[int] = set()
    groups = [("model", network.variables), ("optimizer", optimizer.variables if optimizer else [])]
    for group, variables in groups:
        own = [v for v in variables if group == "optimizer" or v not in _metric_variables(network)]
        counts: dict[str, int] = {}
        for variable in own:
            if id(variable) in seen:
                continue
            seen.add(id(variable))
            # An optimizer's names begin with those of layers, which count up from model to model in a process.
            role = variable.name if group == "model" else next(r for r in ROLES if variable.name.endswith(r))
            counts[role] = counts.get(role, -1) + 1
            yield f"{group}/{role}/{counts[role]:04d}", variable


def _metric_variables(network: Any) -> Any:
    metrics = network.metrics if network.compiled else []
    return _Identities(variable for metric in metrics for variable in metric.variables)


class _Identities(set):
    """A set that holds variables by identity, since comparing them by value makes tensors."""

    def __init__(self, variables: Any):
        super().__init__(id(variable) for variable in variables)

    def __contains__(self, variable: object) -> bool:
        return super().__contains__(id(variable))


def _arrays(network: Any, optimizer: Any) -> dict[str, np.ndarray]:
    return {
        name: np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        for name, variable in _variables(network, optimizer)
    }
