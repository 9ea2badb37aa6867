"""The training loop: `model.fit` over slices of the plan of batches, with validation and checkpoints in between.

A slice ends where an epoch ends or a checkpoint is due. At those points the state is whole on every backend, so no
checkpoint is ever taken in the middle of `model.fit`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kft.data import batches
from kft.data.feed import Feed, for_keras, in_row_order
from kft.data.store import Store
from kft.errors import Interrupted
from kft.evaluation import metrics
from kft.recipe import Recipe
from kft.training import callbacks, checkpoints, optimizers
from kft.training.checkpoints import Position
from kft.training.devices import Devices


@dataclass(frozen=True)
class Trainer:
    """A model made ready for `model.fit`, and how its batches are planned.

    Attributes:
        network: Token features to raw outputs, compiled; shares its layers with the task model.
        devices: Where it computes.
        recipe: The knobs.
        rate: The learning rate as a function of the batch number.
    """

    network: keras.Model
    devices: Devices
    recipe: Recipe
    rate: optimizers.WarmupDecay

    @property
    def inputs(self) -> list[str]:
        """The names of the network's inputs."""
        return list(self.network.input)

    def plan(self, store: Store, epoch: int) -> list[batches.Batch]:
        """The batches of one epoch."""
        return plan(store, self.recipe, self.devices, epoch)


@dataclass(frozen=True)
class Outcome:
    """How training went: seconds in training batches, rows a second, the last position, notes for the user."""

    train_s: float
    examples_per_s: float
    position: Position
    notes: tuple[str, ...]


def plan(store: Store, recipe: Recipe, devices: Devices, epoch: int) -> list[batches.Batch]:
    """The shuffled batches of one epoch, in the shapes these devices like."""
    return batches.plan(
        store.lengths,
        recipe.batch_size,
        seed=recipe.seed,
        epoch=epoch,
        fixed_lengths=shapes(store, devices),
        multiple_of=devices.count,
    )


def total_steps(recipe: Recipe, batches_per_epoch: int) -> int:
    """Batches of a whole fit."""
    return min(batches_per_epoch * recipe.epochs, recipe.max_steps or sys.maxsize)


def shapes(store: Store, devices: Devices) -> tuple[int, ...]:
    """The few lengths that batches are padded to where each shape is compiled; none where any length will do."""
    return batches.fixed_lengths(int(store.lengths.max())) if devices.is_compiled else ()


def prepare(
    task_model: Any,
    loss: Any,
    recipe: Recipe,
    devices: Devices,
    *,
    peak: float,
    factors: Mapping[str, float],
    batches_per_epoch: int,
) -> Trainer:
    """Compiles the task model for training. Call inside the devices' scope.

    Args:
        task_model: The KerasHub task, frozen where it should be.
        loss: The Keras loss on its raw outputs.
        recipe: The knobs.
        devices: Where to compute.
        peak: The peak learning rate.
        factors: What multiplies the rate of some variables, by path.
        batches_per_epoch: Batches in one pass over the rows.
    """
    network = keras.Model(task_model.input, task_model.output)
    rate = optimizers.schedule(recipe, peak, total_steps(recipe, batches_per_epoch))
    network.compile(
        optimizer=optimizers.adamw(recipe, rate, network.trainable_variables, factors),
        loss=loss,
        weighted_metrics=[callbacks.BatchLoss(loss)],
        jit_compile=devices.jit_compile,
    )
    network.optimizer.build(network.trainable_variables)
    return Trainer(network, devices, recipe, rate)


def train(
    trainer: Trainer,
    store: Store,
    targets: np.ndarray,
    *,
    run_dir: Path,
    validate: Callable[[], dict[str, float]] | None,
    best_by: str,
    start: Position | None = None,
    quiet: bool = False,
) -> Outcome:
    """Trains from `start`, and leaves the weights to keep in the network.

    Args:
        trainer: The compiled model.
        store: Token features of the training rows.
        targets: `(rows, …)` targets.
        run_dir: Where history, TensorBoard and checkpoints go.
        validate: Gives the metrics of the validation rows, prefixed `val_`; None keeps the last weights.
        best_by: The validation metric, without prefix, whose best weights are kept.
        start: Where to go on, with the state already restored; None for the beginning.
        quiet: No progress on the screen.

    Raises:
        TrainingError: The loss is not finite, or a checkpoint cannot be written.
        Interrupted: SIGINT or SIGTERM came; a checkpoint of the last finished batch was written.
    """
    recipe, network, folder = trainer.recipe, trainer.network, run_dir / "checkpoints"
    position = start or Position()
    total = total_steps(recipe, len(trainer.plan(store, 0)))
    seconds, rows_seen, notes = 0.0, 0, []
    epoch_losses = _losses_so_far(run_dir / "history.jsonl", position)  # may replace the file, so before it is opened
    with (
        contextlib.closing(callbacks.History(run_dir)) as history,
        callbacks.Signals() as signals,
        callbacks.Progress(total, recipe.batch_size, quiet) as progress,
    ):
        while position.step < total:
            planned = trainer.plan(store, position.epoch)[: total - position.step + position.batch]
            for begin, end in callbacks.segments(position.batch, len(planned), recipe.checkpoint_every):
                part = planned[begin:end]
                watch = callbacks.Watch(
                    step=position.step,
                    epoch=position.epoch,
                    history=history,
                    rate=trainer.rate.at,
                    part=part,
                    progress=progress.at(position.epoch),
                    interrupted=signals.came,
                )
                began = time.monotonic()
                fed = for_keras(Feed(store, part, trainer.inputs, targets))
                network.fit(fed, verbose=0, shuffle=False, callbacks=[watch])
                seconds += time.monotonic() - began
                history.flush()
                if watch.failure:
                    raise watch.failure
                epoch_losses += watch.losses
                rows_seen += sum(len(b.rows) - b.num_padding for b in part[: len(watch.losses)])
                position = replace(position, batch=begin + len(watch.losses), step=watch.step)
                if signals.came() or (end < len(planned) and recipe.checkpoint_every):
                    _checkpoint(folder, network, position)
                if signals.number is not None:
                    raise Interrupted(signals.number, f"stopped at step {position.step}; go on with --resume {run_dir}")
            position = _end_epoch(position, history, epoch_losses, validate, best_by, progress)
            _checkpoint(folder, network, position)
            epoch_losses = []
            if validate and recipe.early_stopping_patience and position.stale_epochs >= recipe.early_stopping_patience:
                notes.append(
                    f"stopped early after epoch {position.epoch}: {best_by} no better for "
                    f"{position.stale_epochs} epochs"
                )
                break
    if position.best_step is not None and position.best_step != position.step:
        checkpoints.restore_weights(folder / f"step-{position.best_step:08d}", network)
        notes.append(f"kept the weights of step {position.best_step}, the best by {best_by}")
    return Outcome(seconds, rows_seen / seconds if seconds else 0.0, position, tuple(notes))


def _losses_so_far(path: Path, position: Position) -> list[float]:
    """Losses of the batches of the epoch in progress that a resumed fit does not repeat."""
    records = callbacks.rewind_history(path, position.step, position.epoch) if position.step else []
    return [r["loss"] for r in records if r["kind"] == "step" and r["epoch"] == position.epoch]


def _end_epoch(
    position: Position,
    history: callbacks.History,
    losses: list[float],
    validate: Callable[[], dict[str, float]] | None,
    best_by: str,
    progress: callbacks.Progress,
) -> Position:
    """Validates, records the epoch, and moves the position to the start of the next."""
    found = validate() if validate else {}
    loss = float(np.mean(losses))
    history.add({"kind": "epoch", "epoch": position.epoch, "step": position.step, "loss": loss, **found})
    history.flush()
    shown = "  ".join(f"{name} {value:.4f}" for name, value in found.items() if name in ("val_loss", f"val_{best_by}"))
    progress.say(f"epoch {position.epoch + 1}: loss {loss:.4f}  {shown}")
    position = replace(position, epoch=position.epoch + 1, batch=0)
    if not found:
        return position
    value = found[f"val_{best_by}"]
    sign = 1 if metrics.direction(best_by) == "max" else -1
    if position.best_value is None or sign * value > sign * position.best_value:
        return replace(position, best_step=position.step, best_value=value, stale_epochs=0)
    return replace(position, stale_epochs=position.stale_epochs + 1)


def _checkpoint(folder: Path, network: keras.Model, position: Position) -> None:
    """Writes a checkpoint, then drops all older ones but the best."""
    newest = checkpoints.save(folder, network, network.optimizer, position)
    best = f"step-{position.best_step:08d}" if position.best_step is not None else ""
    checkpoints.keep_only(folder, {newest.name, best})


def outputs(network: keras.Model, store: Store, devices: Devices, batch_size: int) -> np.ndarray:
    """The network's raw outputs for every row, in row order: `(rows, …)` float32."""
    planned = batches.plan(
        store.lengths, batch_size, shuffle=False, fixed_lengths=shapes(store, devices), multiple_of=devices.count
    )
    found = network.predict(for_keras(Feed(store, planned, list(network.input))), verbose=0)
    return in_row_order(np.asarray(found, np.float32), planned)
