"""Checkpoints: everything a fit needs to go on as if it had never stopped.

A checkpoint is a folder `step-<number>` with `state.safetensors` (every variable of model and optimizer, the random
states of dropout included), `position.json` and `sha256.json`. It is written under another name, flushed to the disk
and renamed, so one that has its name is whole; none is ever written over.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from kft.errors import RunError, TrainingError

STATE, POSITION, SUMS = "state.safetensors", "position.json", "sha256.json"


@dataclass(frozen=True)
class Position:
    """Where in a fit a checkpoint stands.

    Attributes:
        epoch: The epoch in progress, from 0.
        batch: Batches of that epoch already trained on.
        step: Batches trained on since the start.
        best_step: The step of the best weights so far by `save_best_by`; None before the first validation.
        best_value: That metric's value there.
        stale_epochs: Validations since then.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    stale_epochs: int = 0


def save(folder: Path, network: Any, optimizer: Any, position: Position) -> Path:
    """Writes a checkpoint of this position under `folder`.

    Raises:
        TrainingError: The disk is full or not writable. Older checkpoints are untouched.
    """
    target = folder / f"step-{position.step:08d}"
    partial = folder / f".partial-{target.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        safetensors.numpy.save_file(_arrays(network, optimizer), partial / STATE)
        (partial / POSITION).write_text(json.dumps(asdict(position), indent=2), encoding="utf-8")
        sums = {name: sha256(partial / name) for name in (STATE, POSITION)}
        (partial / SUMS).write_text(json.dumps(sums, indent=2), encoding="utf-8")
        for path in [*partial.iterdir(), partial]:
            flush(path)
        if target.exists():  # the same step, reached again after a resume from an older checkpoint
            shutil.rmtree(target)
        partial.rename(target)
        flush(folder)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            f"{target}: the checkpoint could not be written ({error}). Earlier checkpoints are intact: make room, then "
            f"go on with --resume {folder.parent}"
        ) from error
    return target


def restore(path: Path, network: Any, optimizer: Any) -> Position:
    """Puts a checkpoint's state into a model and optimizer of the same shape.

    Raises:
        RunError: A file is damaged, or the variables are not those of this model.
    """
    verify(path)
    arrays = safetensors.numpy.load_file(path / STATE)
    variables = dict(_variables(network, optimizer))
    found = {(name, array.size) for name, array in arrays.items()}
    odd = sorted(found ^ {(name, math.prod(variable.shape)) for name, variable in variables.items()})
    if odd:
        raise RunError(
            f"{path}: variable {odd[0][0]!r} is not the same in checkpoint and model; resume with the same recipe."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name].reshape(variable.shape))
    return read_position(path)


def restore_weights(path: Path, network: Any) -> None:
    """Puts only the model's variables of a checkpoint back, as for the best epoch's weights."""
    verify(path)
    with safetensors.safe_open(path / STATE, framework="numpy") as arrays:
        for name, variable in _variables(network, None):
            variable.assign(arrays.get_tensor(name).reshape(variable.shape))


def read_position(path: Path) -> Position:
    """The position a checkpoint was written at."""
    return Position(**json.loads((path / POSITION).read_text(encoding="utf-8")))


def verify(path: Path) -> None:
    """Compares every file of a checkpoint with its sha256.

    Raises:
        RunError: Names the file that is missing or differs.
    """
    try:
        sums = json.loads((path / SUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path / SUMS}: missing or damaged ({error}); this checkpoint cannot be trusted.") from None
    for name in (STATE, POSITION):
        if not (path / name).is_file() or sha256(path / name) != sums.get(name):
            raise RunError(f"{path / name}: missing, or its sha256 differs from the recorded one: damaged on disk.")


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


def keep_only(folder: Path, kept: set[str]) -> None:
    """Removes every checkpoint whose name is not in `kept`, and leftovers of writes that were cut off."""
    for path in folder.glob("*step-*"):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def flush(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _variables(network: Any, optimizer: Any) -> Iterator[tuple[str, Any]]:
    """Every variable with a name that is unique and the same in every process that builds the same model."""
    seen: set[int] = set()
    groups = [("model", network.variables), ("optimizer", optimizer.variables if optimizer else [])]
    for group, variables in groups:
        own = [v for v in variables if group == "optimizer" or v not in _metric_variables(network)]
        for i, variable in enumerate(own):
            if id(variable) not in seen:
                seen.add(id(variable))
                # An optimizer's names hold those of layers, which count up from model to model in a process.
                yield f"{group}/{i:04d}" + (f"/{variable.name}" if group == "model" else ""), variable


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
