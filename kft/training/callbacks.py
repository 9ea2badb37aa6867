"""What happens beside the arithmetic of training: watchfulness, signals, the progress bar."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import keras
import numpy as np

from kft.data.batches import Batch
from kft.errors import TrainingError, printable
from kft.models.finite import not_finite
from kft.training import optimizer_state
from kft.training.history import History
from kft.training.learner import LOSS_PREFIX


class Watch(keras.callbacks.Callback):
    """Follows each step: records it, moves the progress bar, and stops on numbers that are not finite or on a signal.

    Args:
        step: Steps trained before.
        epoch: The epoch in progress.
        history: Where records go.
        rate: (step) to the learning rate of that step.
        part: The batches of this call, one a step.
        sources: (rows of a batch) to the rows of the table that they are from.
        micro_batches: Pieces that each of them is fed in.
        scales: By term, what its summed losses of each batch are multiplied by to make the mean over its rows:
            `(batches,)`.
        first_update: The step that ends with the first update of the weights, if loss scaling does not skip it.
        progress: What shows each step.
        interrupted: Tells whether a signal asked to stop.
        stage: What records say of the stage of the fit.
    """

    def __init__(
        self,
        *,
        step: int,
        epoch: int,
        history: History,
        rate: Callable[[int], float],
        part: Sequence[Batch],
        sources: Callable[[np.ndarray], np.ndarray],
        micro_batches: int,
        scales: Mapping[str, np.ndarray],
        first_update: int,
        progress: Progress,
        interrupted: Callable[[], bool],
        stage: Mapping[str, int] | None = None,
    ):
        super().__init__()
        self.step, self.epoch = step, epoch
        self.history, self.rate, self.micro_batches = history, rate, micro_batches
        self.part, self.sources, self.scales = part, sources, scales
        self.first_update, self.progress, self.interrupted = first_update, progress, interrupted
        self.stage = stage or {}
        self.losses: list[float] = []
        self.failure: TrainingError | None = None
        self._pieces: list[dict[str, float]] = []
        self._has_checked = step >= first_update

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._pieces.append({name: float((logs or {})[LOSS_PREFIX + name]) for name in self.scales})
        norm = optimizer_state.gradient_norm(self.model.optimizer)
        if not all(map(math.isfinite, [*self._pieces[-1].values(), norm])):
            self.failure = self._not_finite(sum(self._pieces[-1].values()), norm)
            self.model.stop_training = True
            return
        if len(self._pieces) < self.micro_batches:
            return
        by_term = {
            name: sum(piece[name] for piece in self._pieces) * float(scales[len(self.losses)])
            for name, scales in self.scales.items()
        }
        loss, rate = sum(by_term.values()), self.rate(self.step)
        self._pieces = []
        self.step += 1
        self.losses.append(loss)
        self.history.add(
            {
                "kind": "step",
                "step": self.step,
                "epoch": self.epoch,
                **self.stage,
                "loss": loss,
                **({f"loss_{name}": value for name, value in by_term.items()} if len(by_term) > 1 else {}),
                "learning_rate": rate,
                "gradient_norm": norm,
            }
        )
        self.progress.move(self.step, self.epoch, loss)
        if not self._has_checked and self.step >= self.first_update:
            self._say_what_has_no_gradient()
        if self.interrupted():
            self.model.stop_training = True

    def _say_what_has_no_gradient(self) -> None:
        idle = optimizer_state.without_gradient(self.model.optimizer)
        self._has_checked = idle is not None
        if idle:
            shown = ", ".join(idle[:5]) + (", …" if len(idle) > 5 else "")
            self.progress.note(f"{len(idle)} trainable variables had no gradient in the first update: {shown}")

    def _not_finite(self, loss: float, norm: float) -> TrainingError:
        rows = list(dict.fromkeys(self.sources(self.part[len(self.losses)].rows).tolist()))
        shown = ", ".join(str(row) for row in rows[:8]) + (", …" if len(rows) > 8 else "")
        return TrainingError(
            f"step {self.step + 1}: the loss is {loss:.6g} and the gradient norm {norm:.6g} "
            f"(learning rate {self.rate(self.step):.3g}; rows {shown} of the training part). "
            "Training stopped; earlier checkpoints are intact. Try a lower learning_rate, a longer warmup, or "
            "precision=float32."
        )


class Signals:
    """While open, SIGINT and SIGTERM are noted in place of ending the process; a second one ends it."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def came(self) -> bool:
        """Whether one has been noted."""
        return self.number is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for noted, handler in self._before.items():
            signal.signal(noted, handler)
        print("\nfinishing this batch, then a checkpoint; once more to stop at once", file=sys.stderr)


class Progress:
    """A progress bar with rate and time left; on something that is no terminal, a line every tenth of the way.

    Attributes:
        notes: What the user should know, in the order it was found.
    """

    def __init__(self, total_steps: int, batch_size: int, quiet: bool = False, notes: Sequence[str] = ()):
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.total, self.batch_size, self.quiet, self.notes = total_steps, batch_size, quiet, list(notes)
        console = Console(stderr=True, markup=False, emoji=False)  # names and labels are no markup
        self._is_terminal = console.is_terminal
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}  loss {task.fields[loss]}  {task.fields[rate]} rows/s "),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not self._is_terminal,
        )
        self._task = self._bar.add_task("train", total=total_steps, epoch=1, loss="–", rate="–")
        self._start: tuple[int, float] | None = None
        self._next_line = 0.1

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def move(self, step: int, epoch: int, loss: float) -> None:
        """Called after each step (from 1), with its epoch (from 0)."""
        now = time.monotonic()
        if self._start is None:  # the first batch compiles and says nothing of the rate
            self._start = (step, now)
        steps, seconds = step - self._start[0], now - self._start[1]
        rate = f"{steps * self.batch_size / seconds:.0f}" if steps and seconds else "–"
        self._bar.update(self._task, completed=step, epoch=epoch + 1, loss=f"{loss:.3f}", rate=rate)
        if not self._is_terminal and not self.quiet and step / self.total >= self._next_line:
            left = seconds / steps * (self.total - step) if steps else 0
            print(
                f"step {step}/{self.total}  epoch {epoch + 1}  loss {loss:.3f}  {rate} rows/s  {left:.0f} s left",
                file=sys.stderr,
            )
            self._next_line = math.floor(step / self.total * 10 + 1) / 10

    def note(self, text: str) -> None:
        """Something the user should know, shown now and kept for the report."""
        self.notes.append(text)
        self.say(f"note: {text}")

    def say(self, line: str) -> None:
        """A line above the bar."""
        if not self.quiet:
            self._bar.console.print(printable(line), highlight=False)


def refuse_what_is_not_finite(network: keras.Model, step: int, rate: float) -> None:
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


def say_if_nothing_is_learnt(losses: Sequence[float], progress: Progress) -> None:
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


def segments(start: int, end: int, every: int | None) -> Iterator[tuple[int, int]]:
    """Cuts the batches from `start` to `end` where a checkpoint is due.

    >>> list(segments(3, 10, 4))
    [(3, 4), (4, 8), (8, 10)]
    >>> list(segments(0, 10, None))
    [(0, 10)]
    """
    while start < end:
        stop = end if every is None else min(end, (start // every + 1) * every)
        yield start, stop
        start = stop
