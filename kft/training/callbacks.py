"""What happens beside the arithmetic of training: history, TensorBoard, the progress bar, watchfulness, signals."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import keras
from keras import ops
from keras.src.losses.loss import unscale_loss_for_distribution

from kft.data.batches import Batch
from kft.errors import TrainingError


class BatchLoss(keras.metrics.Metric):
    """The loss of the latest batch alone, where Keras's own `loss` is a mean since the start of the epoch.

    Args:
        loss: The Keras loss to apply.
    """

    def __init__(self, loss: Any):
        super().__init__(name="batch_loss")
        self.loss = loss
        self.value = self.add_variable((), "zeros", name="value", aggregation="mean")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        # Keras divides losses by the number of replicas, so that their gradients add up to the mean.
        loss = unscale_loss_for_distribution(self.loss(y_true, y_pred, sample_weight))
        self.value.assign(ops.cast(loss, self.value.dtype))

    def result(self) -> Any:
        return ops.convert_to_tensor(self.value)  # JAX does not take the variable itself


class History:
    """`history.jsonl` and TensorBoard scalars: one record a batch and one an epoch, in the order they happened.

    Records carry no clock times, so a fit that was killed and resumed leaves the same file as one that was not.
    """

    def __init__(self, run_dir: Path):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events, self._summaries = event_pb2, summary_pb2
        self.path = run_dir / "history.jsonl"
        self._file = self.path.open("a", encoding="utf-8")
        self._board = EventFileWriter(str(run_dir / "tensorboard"))

    def add(self, record: dict[str, Any]) -> None:
        """Appends a record; its numbers become scalars at its `step`."""
        self._file.write(json.dumps(record) + "\n")
        values = [
            self._summaries.Summary.Value(tag=f"{record['kind']}/{name}", simple_value=float(value))
            for name, value in record.items()
            if name not in ("kind", "step") and isinstance(value, int | float)
        ]
        event = self._events.Event(
            wall_time=time.time(), step=record["step"], summary=self._summaries.Summary(value=values)
        )
        self._board.add_event(event)

    def flush(self) -> None:
        """Puts all records so far into the files."""
        self._file.flush()
        self._board.flush()

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        self._board.close()


def read_history(path: Path) -> list[dict[str, Any]]:
    """All records of a history file; a last line that was cut off in writing is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def rewind_history(path: Path, step: int, epoch: int) -> list[dict[str, Any]]:
    """Drops the records behind a checkpoint, and returns those that stay."""
    kept = [
        record
        for record in read_history(path)
        if (record["step"] <= step if record["kind"] == "step" else record["epoch"] < epoch)
    ]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    partial.replace(path)
    return kept


class Watch(keras.callbacks.Callback):
    """Follows each batch: records it, moves the progress bar, and stops on a loss that is not finite or on a signal.

    Args:
        step: Batches trained on before.
        epoch: The epoch in progress.
        history: Where records go.
        rate: (step) to the learning rate of that batch.
        part: The batches of this call, for the message.
        progress: (step, loss) after each batch.
        interrupted: Tells whether a signal asked to stop.
    """

    def __init__(
        self,
        *,
        step: int,
        epoch: int,
        history: History,
        rate: Callable[[int], float],
        part: Sequence[Batch],
        progress: Callable[[int, float], None],
        interrupted: Callable[[], bool],
    ):
        super().__init__()
        self.step, self.epoch = step, epoch
        self.history, self.rate, self.part = history, rate, part
        self.progress, self.interrupted = progress, interrupted
        self.losses: list[float] = []
        self.failure: TrainingError | None = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {})["batch_loss"])
        rate = self.rate(self.step)
        self.step += 1
        if not math.isfinite(loss):
            rows = ", ".join(str(row) for row in self.part[len(self.losses)].rows[:8])
            self.failure = TrainingError(
                f"step {self.step}: the loss is {loss} "
                f"(learning rate {rate:.3g}; rows {rows}, … of the training part). "
                "Training stopped; earlier checkpoints are intact. Try a lower learning_rate, a longer warmup, or "
                "precision=float32."
            )
            self.model.stop_training = True
            return
        self.losses.append(loss)
        self.history.add({"kind": "step", "step": self.step, "epoch": self.epoch, "loss": loss, "learning_rate": rate})
        self.progress(self.step, loss)
        if self.interrupted():
            self.model.stop_training = True


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
    """A progress bar with rate and time left; on something that is no terminal, a line every tenth of the way."""

    def __init__(self, total_steps: int, batch_size: int, quiet: bool = False):
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.total, self.batch_size, self.quiet = total_steps, batch_size, quiet
        console = Console(stderr=True)
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

    def at(self, epoch: int) -> Callable[[int, float], None]:
        """The function to call after each batch of this epoch (from 0)."""

        def move(step: int, loss: float) -> None:
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

        return move

    def say(self, line: str) -> None:
        """A line above the bar."""
        if not self.quiet:
            self._bar.console.print(line, highlight=False)


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
