"""The history of a run: a record a step and one an epoch, in history.jsonl and as TensorBoard scalars."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

from kft import schemas, untrusted
from kft.errors import RunError

FILE = "history.jsonl"


class History:
    """`history.jsonl` and TensorBoard scalars: one record a batch and one an epoch, in the order they happened.

    Records carry no clock times, so a fit that was killed and resumed leaves the same file as one that was not.

    Args:
        run_dir: The run's directory.
        step: Steps trained before; TensorBoard drops scalars it has seen of later ones.
    """

    def __init__(self, run_dir: Path, step: int = 0):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._events, self._summaries = event_pb2, summary_pb2
        self.path = run_dir / FILE
        self._file = self.path.open("a", encoding="utf-8")
        # TensorBoard's own writer has a thread, in which a full disk would go unnoticed.
        board = run_dir / "tensorboard"
        board.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}"
        self._board = RecordWriter((board / name).open("wb"))
        self._write(file_version="brain.Event:2")
        self._write(step=step + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def add(self, record: dict[str, Any]) -> None:
        """Appends a record; its numbers become scalars at its `step`. Those that are not finite are left out."""
        record = {k: v for k, v in record.items() if not isinstance(v, float) or math.isfinite(v)}
        self._file.write(json.dumps(record) + "\n")
        values = [
            self._summaries.Summary.Value(tag=f"{record['kind']}/{name}", simple_value=float(value))
            for name, value in record.items()
            if name not in ("kind", "step") and isinstance(value, int | float)
        ]
        self._write(step=record["step"], summary=self._summaries.Summary(value=values))

    def _write(self, **event: Any) -> None:
        self._board.write(self._events.Event(wall_time=time.time(), **event).SerializeToString())

    def flush(self) -> None:
        """Puts all records so far into the files."""
        self._file.flush()
        self._board.flush()

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        self._board.close()


def read(run_dir: Path) -> list[dict[str, Any]]:
    """All records of a run, oldest first; a last line that was cut off in writing is left out.

    Raises:
        RunError: The file is damaged.
    """
    path = run_dir / FILE
    if not os.path.lexists(path):
        return []
    return untrusted.read_json_lines(path, schemas.HistoryRecord, RunError)
