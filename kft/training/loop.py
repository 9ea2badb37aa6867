"""The training loop: `model.fit` over slices of the plan of batches, with validation and checkpoints in between.

A slice ends where an epoch ends or a checkpoint is due. At those points the state is whole on every backend, so no
checkpoint is ever taken in the middle of `model.fit`.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from kft import disk
from kft.data.streams import Step, Stream, totals_of
from kft.errors import Interrupted, TrainingError
from kft.evaluation import kinds
from kft.losses.objective import STREAM
from kft.models.finite import not_finite
from kft.recipe import Recipe
from kft.training import callbacks, checkpoints
from kft.training import history as histories
from kft.training.accumulation import update_totals
from kft.training.checkpoints import Position
from kft.training.devices import memory_errors
from kft.training.trainers import Trainer, total_steps


@dataclass(frozen=True)
class Outcome:
    """How training went: the last position, and notes for the user."""

    position: Position
    notes: tuple[str, ...]

    @property
    def examples_per_s(self) -> float:
        """Rows a second while training, over all processes that took part one after the other."""
        return self.position.num_rows / self.position.train_s if self.position.train_s else 0.0


def train(
    trainer: Trainer,
    sources: Mapping[str, Stream],
    *,
    run_dir: Path,
    validate: Callable[[], dict[str, float]] | None,
    best_by: str,
    start: Path | None = None,
    notes: Sequence[str] = (),
    quiet: bool = False,
) -> Outcome:
    """Trains from a checkpoint, and leaves the weights to keep in the network.

    In each term, the loss of an update is the weighted sum over its rows, divided by what they count and by the mean
    weight of all rows.

    Args:
        trainer: The compiled model.
        sources: The training rows by stream, the one that epochs are counted by first.
        run_dir: Where history, TensorBoard and checkpoints go.
        validate: Gives the metrics of the validation rows, prefixed `val_`; None keeps the last weights.
        best_by: The validation metric, without prefix, whose best weights are kept.
        start: The checkpoint to go on from; None for the beginning.
        notes: What the outcome's notes begin with.
        quiet: No progress on the screen.

    Raises:
        TrainingError: Loss or gradients are not finite, or a checkpoint cannot be written.
        OutOfMemory: A batch does not fit the device's memory.
        Interrupted: SIGINT or SIGTERM came; a checkpoint of the last finished step was written.
    """
    recipe, learner, folder = trainer.recipe, trainer.learner, run_dir / checkpoints.FOLDER
    position = _restored(trainer, start, run_dir)
    total = total_steps(recipe, trainer.windows.batches_per_epoch)
    expected = {term.name: sources[term.stream].expected_weights(term.name) for term in trainer.objective.terms}
    if start is not None:
        checkpoints.refuse_other_plan(start, position, trainer.windows.batches_per_epoch, total)
    epoch_losses = [r["loss"] for r in histories.read(run_dir) if r["kind"] == "step" and r["epoch"] == position.epoch]
    with (
        contextlib.closing(histories.History(run_dir, position.step)) as history,
        callbacks.Signals() as signals,
        callbacks.Progress(total, recipe.batch_size, quiet, list(dict.fromkeys([*position.notes, *notes]))) as progress,
    ):
        # A signal in the last step of the fit leaves its epoch to be ended.
        while (position.step < total or position.batch) and not _is_stale(position, recipe):
            planned = trainer.plan(sources, position.epoch)[: total - position.step + position.batch]
            totals, scales = _totals(trainer, planned, expected)
            for begin, end in callbacks.segments(position.batch, len(planned), recipe.checkpoint_every):
                part = planned[begin:end]
                watch = callbacks.Watch(
                    step=position.step,
                    epoch=position.epoch,
                    history=history,
                    rate=trainer.rate.at,
                    part=[step[STREAM] for step in part],
                    sources=sources[STREAM].store.sources,
                    micro_batches=trainer.micro_batches,
                    scales={name: values[begin:end] for name, values in scales.items()},
                    first_update=trainer.windows.most_calls // trainer.micro_batches,
                    progress=progress,
                    interrupted=signals.came,
                )
                began = time.monotonic()
                with memory_errors(partial(_out_of_memory, watch)):
                    share = {name: values[begin:end] for name, values in totals.items()}
                    fed = trainer.feed(sources, part, share, position.epoch)
                    learner.fit(fed, verbose=0, shuffle=False, callbacks=[watch])
                seconds = time.monotonic() - began
                history.flush()
                if watch.failure:
                    raise watch.failure
                _refuse_what_is_not_finite(trainer.network, watch.step, trainer.rate.at(watch.step - 1))
                epoch_losses += watch.losses
                done = part[: len(watch.losses)]
                position = replace(
                    position,
                    batch=begin + len(done),
                    step=watch.step,
                    train_s=position.train_s + seconds,
                    num_rows=position.num_rows + _num_rows(done),
                    notes=tuple(progress.notes),
                )
                number = signals.number
                if number is not None or (end < len(planned) and recipe.checkpoint_every):
                    _checkpoint(trainer, run_dir, position)
                if number is not None:
                    raise Interrupted(number, f"stopped at step {position.step}; go on with --resume {run_dir}")
            if position.epoch == 0:
                _say_if_nothing_is_learnt(trainer, epoch_losses, progress)
            position = _end_epoch(position, history, epoch_losses, validate, best_by, progress)
            _checkpoint(trainer, run_dir, replace(position, notes=tuple(progress.notes)))
            epoch_losses = []
        if _is_stale(position, recipe):
            progress.note(
                f"stopped early after epoch {position.epoch}: {best_by} no better for {position.stale_epochs} epochs"
            )
    if position.best_step is not None and position.best_step != position.step:
        checkpoints.restore_weights(checkpoints.at(folder, position.best_step), trainer.network)
        progress.note(f"kept the weights of step {position.best_step}, the best by {best_by}")
    return Outcome(position, tuple(progress.notes))


def _totals(
    trainer: Trainer, planned: Sequence[Step], expected: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """By term, what the rows of each step's update count together, and that beside what those of the step count."""
    totals, scales = {}, {}
    for term in trainer.objective.terms:
        of_term = [step[term.stream] for step in planned]
        totals[term.name] = update_totals(of_term, expected[term.name], trainer.recipe.gradient_accumulation_steps)
        scales[term.name] = totals[term.name] / np.maximum(totals_of(of_term, expected[term.name]), 1e-12)
    return totals, scales


def _num_rows(steps: Sequence[Step]) -> int:
    """The rows of some steps, those that fill batches up left out."""
    return sum(len(batch.rows) - batch.num_padding for step in steps for batch in step.values())


def _restored(trainer: Trainer, start: Path | None, run_dir: Path) -> Position:
    """The state and the history as they were at a checkpoint, or those of the beginning."""
    folder = run_dir / checkpoints.FOLDER
    checkpoints.forget_after(folder, start)
    if start is None:
        (run_dir / histories.FILE).unlink(missing_ok=True)
        return Position(micro_batches=trainer.micro_batches)
    position = checkpoints.restore(start, trainer.network, trainer.learner.optimizer, trainer.micro_batches)
    with disk.writing(run_dir / histories.FILE) as copy:
        shutil.copyfile(start / histories.FILE, copy)
    if position.best_step is not None and not checkpoints.is_intact(checkpoints.at(folder, position.best_step)):
        note = f"the weights of step {position.best_step}, the best so far, were lost; the best is sought from here on"
        notes = (*position.notes, note)
        return replace(position, best_step=None, best_value=None, best_loss=None, stale_epochs=0, notes=notes)
    return position


def _out_of_memory(watch: callbacks.Watch) -> str:
    return f"step {watch.step + 1}: out of memory"


def _refuse_what_is_not_finite(network: keras.Model, step: int, rate: float) -> None:
    """Looks at the weights that an update has made: before they are judged, kept or saved.

    Raises:
        TrainingError: Names some that are not finite.
    """
    if broken := not_finite(network.trainable_variables):
        shown = ", ".join(broken[:5]) + (", …" if len(broken) > 5 else "")
        raise TrainingError(
            f"step {step}: {len(broken)} of the trained variables have values that are not finite ({shown}; learning "
            f"rate {rate:.3g}). Training stopped; earlier checkpoints are intact. Try a lower learning_rate or "
            "weight_decay, a longer warmup, or precision=float32."
        )


def _is_stale(position: Position, recipe: Recipe) -> bool:
    """Whether early stopping ends the fit here."""
    patience = recipe.early_stopping_patience
    return patience is not None and position.stale_epochs >= patience


def _say_if_nothing_is_learnt(trainer: Trainer, losses: list[float], progress: callbacks.Progress) -> None:
    """Notes a loss that did not fall in the first epoch, by the means of its first and last quarter."""
    quarter = len(losses) // 4
    if quarter < 4:
        return
    first, last = float(np.mean(losses[:quarter])), float(np.mean(losses[-quarter:]))
    if last >= first:
        progress.note(
            f"the loss did not fall in the first epoch ({first:.4f} in its first quarter, {last:.4f} in its last): "
            "try another learning_rate, and check that the labels belong to the texts"
        )


def _end_epoch(
    position: Position,
    history: histories.History,
    losses: list[float],
    validate: Callable[[], dict[str, float]] | None,
    best_by: str,
    progress: callbacks.Progress,
) -> Position:
    """Validates, records the epoch, and moves the position to the start of the next.

    Of epochs with the same value of `best_by`, the one with the least validation loss is the best. That does not make
    training go on: patience counts epochs without a better value.
    """
    found = validate() if validate else {}
    loss = float(np.mean(losses))
    history.add({"kind": "epoch", "epoch": position.epoch, "step": position.step, "loss": loss, **found})
    history.flush()
    shown = "  ".join(f"{name} {value:.4f}" for name, value in found.items() if name in ("val_loss", f"val_{best_by}"))
    progress.say(f"epoch {position.epoch + 1}: loss {loss:.4f}  {shown}")
    position = replace(position, epoch=position.epoch + 1, batch=0)
    if not found:
        return position
    value, loss_there = found[f"val_{best_by}"], found.get("val_loss", 0.0)
    if not math.isfinite(value):
        progress.note(f"epoch {position.epoch}: val_{best_by} is {value}; its weights are not kept as the best")
        return replace(position, stale_epochs=position.stale_epochs + 1)
    sign = 1 if kinds.direction(best_by) == "max" else -1
    is_better = position.best_value is None or sign * value > sign * position.best_value
    is_tie = value == position.best_value and position.best_loss is not None and loss_there < position.best_loss
    if is_better or is_tie:
        position = replace(position, best_step=position.step, best_value=value, best_loss=loss_there)
    return replace(position, stale_epochs=0 if is_better else position.stale_epochs + 1)


def _checkpoint(trainer: Trainer, run_dir: Path, position: Position) -> None:
    """Writes a checkpoint, then drops all but the newest few and the best."""
    folder, learner = run_dir / checkpoints.FOLDER, trainer.learner
    checkpoints.save(folder, learner.network, learner.optimizer, position, run_dir / histories.FILE)
    checkpoints.keep_only(folder, trainer.recipe.save_total_limit, position.best_step)
