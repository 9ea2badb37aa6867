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

import numpy as np

from kft import disk
from kft.accelerate import sparse_embeddings
from kft.data.streams import Step, Stream, totals_of
from kft.errors import Interrupted
from kft.evaluation import kinds
from kft.losses.objective import STREAM
from kft.training import callbacks, checkpoints
from kft.training import history as histories
from kft.training.accumulation import update_totals
from kft.training.checkpoints import Position
from kft.training.devices import memory_errors
from kft.training.spans import total_steps
from kft.training.trainers import Trainer
from kft.training.variables import Part

Sources = Mapping[str, Stream]
"""The training rows by stream, the one that epochs are counted by first."""
Enter = Callable[[int, Callable[[str], None]], tuple[Trainer, Sources]]
"""From the number of a stage, and what takes notes, to what trains in it and on which rows, by the weights as they are.
"""


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
    sources: Sources,
    *,
    run_dir: Path,
    validate: Callable[[], dict[str, float]] | None,
    best_by: str,
    start: Path | None = None,
    notes: Sequence[str] = (),
    quiet: bool = False,
    begins: Sequence[int] = (0,),
    enter: Enter | None = None,
) -> Outcome:
    """Trains from a checkpoint, and leaves the weights to keep in the network.

    In each term, the loss of an update is the weighted sum over its rows, divided by what they count and by the mean
    weight of all rows.

    A fit in stages goes through one plan of steps. Each stage begins with the weights of the last epoch of the one
    before, and with an optimizer and a schedule of its own. The weights to keep are the best of all stages; early
    stopping counts the epochs of the last stage alone.

    Args:
        trainer: The compiled model: of the first stage, or of the one that the checkpoint is of.
        sources: The training rows, as it reads them.
        run_dir: Where history, TensorBoard and checkpoints go.
        validate: Gives the metrics of the validation rows, prefixed `val_`; None keeps the last weights.
        best_by: The validation metric, without prefix, whose best weights are kept.
        start: The checkpoint to go on from; None for the beginning.
        notes: What the outcome's notes begin with.
        quiet: No progress on the screen.
        begins: The first epoch of each stage.
        enter: Begins the stages after the trainer's.

    Raises:
        TrainingError: Loss or gradients are not finite, or a checkpoint cannot be written.
        OutOfMemory: A batch does not fit the device's memory.
        Interrupted: SIGINT or SIGTERM came; a checkpoint of the last finished step was written.
    """
    recipe, folder = trainer.recipe, run_dir / checkpoints.FOLDER
    total = total_steps(recipe, trainer.windows.batches_per_epoch)
    position = _restored(trainer, start, run_dir)
    if start is not None:
        checkpoints.refuse_other_plan(start, position, trainer.windows.batches_per_epoch, total, begins)
    expected = {term.name: sources[term.stream].expected_weights(term.name) for term in trainer.objective.terms}
    epoch_losses = [r["loss"] for r in histories.read(run_dir) if r["kind"] == "step" and r["epoch"] == position.epoch]
    with (
        contextlib.closing(histories.History(run_dir, position.step)) as history,
        callbacks.Signals() as signals,
        callbacks.Progress(total, recipe.batch_size, quiet, list(dict.fromkeys([*position.notes, *notes]))) as progress,
    ):
        watch: callbacks.Watch | None = None
        # A signal in the last step of the fit leaves its epoch to be ended.
        while (position.step < total or position.batch) and not _is_stale(position, trainer):
            if not position.batch and position.epoch >= trainer.span.end:
                began = time.monotonic()
                assert enter is not None, "a fit of several stages is told how each begins"
                following, watch = trainer.span.number + 1, None
                del trainer, sources  # so that the optimizer leaves memory before the next one comes
                trainer, sources = enter(following, progress.note)
                seconds = time.monotonic() - began
                position = replace(
                    position, stage=trainer.span.number, stale_epochs=0, train_s=position.train_s + seconds
                )
            planned = trainer.plan(sources, position.epoch)[: total - position.step + position.batch]
            totals, scales = _totals(trainer, planned, expected)
            for begin, end in callbacks.segments(position.batch, len(planned), recipe.checkpoint_every):
                part = planned[begin:end]
                watch = callbacks.Watch(
                    step=position.step,
                    epoch=position.epoch,
                    history=history,
                    rate=trainer.rate_at,
                    part=[step[STREAM] for step in part],
                    sources=sources[STREAM].store.sources,
                    micro_batches=trainer.micro_batches,
                    scales={name: values[begin:end] for name, values in scales.items()},
                    first_update=trainer.span.first_step + trainer.windows.most_calls // trainer.micro_batches,
                    progress=progress,
                    interrupted=signals.came,
                    stage=_named(trainer),
                )
                began = time.monotonic()
                with memory_errors(partial(_out_of_memory, watch)):
                    share = {name: values[begin:end] for name, values in totals.items()}
                    fed = trainer.feed(sources, part, share, position.epoch)
                    trainer.learner.fit(fed, verbose=0, shuffle=False, callbacks=[watch])
                seconds = time.monotonic() - began
                history.flush()
                if watch.failure:
                    raise watch.failure
                callbacks.refuse_what_is_not_finite(trainer.network, watch.step, trainer.rate_at(watch.step - 1))
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
                callbacks.say_if_nothing_is_learnt(epoch_losses, progress)
            position = _end_epoch(position, history, epoch_losses, validate, best_by, progress, _named(trainer))
            _checkpoint(trainer, run_dir, replace(position, notes=tuple(progress.notes)))
            epoch_losses = []
        if _is_stale(position, trainer):
            progress.note(
                f"stopped early after epoch {position.epoch}: {best_by} no better for {position.stale_epochs} epochs"
            )
    if position.best_step is not None and position.best_step != position.step:
        _restore_best(checkpoints.at(folder, position.best_step), trainer)
        progress.note(f"kept the weights of step {position.best_step}, the best by {best_by}")
    return Outcome(position, tuple(progress.notes))


def _named(trainer: Trainer) -> dict[str, int]:
    """What records say of the stage, from 0; nothing where there is one."""
    return {"stage": trainer.span.number} if trainer.span.count > 1 else {}


def _restore_best(path: Path, trainer: Trainer) -> None:
    """Puts the weights of a checkpoint back, which may be of an earlier stage."""
    if checkpoints.read_position(path).stage == trainer.span.number:
        checkpoints.restore_weights(path, trainer.saved)
        return
    checkpoints.restore_weights(path, Part(trainer.whole, trainer.whole, holds_whole=True), is_of_other=True)
    sparse_embeddings.take_out(trainer.network)


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
    position = checkpoints.restore(start, trainer.saved, trainer.learner.optimizer, trainer.micro_batches)
    with disk.writing(run_dir / histories.FILE) as copy:
        shutil.copyfile(start / histories.FILE, copy)
    if position.best_step is not None and not checkpoints.is_intact(checkpoints.at(folder, position.best_step)):
        note = f"the weights of step {position.best_step}, the best so far, were lost; the best is sought from here on"
        notes = (*position.notes, note)
        return replace(position, best_step=None, best_value=None, best_loss=None, stale_epochs=0, notes=notes)
    return position


def _out_of_memory(watch: callbacks.Watch) -> str:
    return f"step {watch.step + 1}: out of memory"


def _is_stale(position: Position, trainer: Trainer) -> bool:
    """Whether early stopping ends the fit here: in its last stage."""
    patience = trainer.recipe.early_stopping_patience
    return patience is not None and trainer.span.is_last and position.stale_epochs >= patience


def _end_epoch(
    position: Position,
    history: histories.History,
    losses: list[float],
    validate: Callable[[], dict[str, float]] | None,
    best_by: str,
    progress: callbacks.Progress,
    stage: Mapping[str, int],
) -> Position:
    """Validates, records the epoch, and moves the position to the start of the next.

    Of epochs with the same value of `best_by`, the one with the least validation loss is the best. That does not make
    training go on: patience counts epochs without a better value.
    """
    found = validate() if validate else {}
    loss = float(np.mean(losses))
    history.add({"kind": "epoch", "epoch": position.epoch, "step": position.step, **stage, "loss": loss, **found})
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
    folder = run_dir / checkpoints.FOLDER
    if not trainer.span.is_last:
        sparse_embeddings.put_back(trainer.network)  # for later stages, which may read the tables as they are
    checkpoints.save(folder, trainer.saved, trainer.learner.optimizer, position, run_dir / histories.FILE)
    checkpoints.keep_only(folder, trainer.recipe.save_total_limit, position.best_step)
