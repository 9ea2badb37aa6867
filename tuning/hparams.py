"""Trials for TensorBoard's HParams page: the knobs of each, its metrics and how it ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.record_writer import RecordWriter

from kft import disk
from tuning.ledger import Record


def write(out: Path, record: Record) -> None:
    """Writes a trial into a folder of its own under `tensorboard` of a study, in place of one that was there.

    TensorBoard reads the list of knobs and metrics off the trials, so there is no file for the whole study.

    Raises:
        RunError: The disk is full or not writable.
    """
    board, ended = out / "tensorboard", time.time()
    board.mkdir(exist_ok=True)
    with disk.writing_folder(board / f"{record['trial']:03d}") as folder:
        name = f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}"
        # TensorBoard's own writer has a thread, in which a full disk would go unnoticed.
        with contextlib.closing(RecordWriter((folder / name).open("wb"))) as writer:
            writer.write(event_pb2.Event(wall_time=ended, file_version="brain.Event:2").SerializeToString())
            for summary in (_start(out, record, ended - record["seconds"]), _metrics(record), _end(record, ended)):
                writer.write(event_pb2.Event(wall_time=ended, step=0, summary=summary).SerializeToString())


def _start(out: Path, record: Record, time_s: float) -> Any:
    knobs = {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in record["knobs"].items()
    }
    # TensorBoard takes the mean of trials of one id, also of two studies under one folder.
    study = hashlib.sha256(os.fsencode(out.resolve())).hexdigest()[:8]
    return summary_v2.hparams_pb(knobs, trial_id=f"{study}-{record['trial']}", start_time_secs=time_s)


def _metrics(record: Record) -> Any:
    values = [
        summary_pb2.Summary.Value(tag=f"validation/{name}", simple_value=value)
        for name, value in record["metrics"].items()
    ]
    return summary_pb2.Summary(value=values)


def _end(record: Record, time_s: float) -> Any:
    """The end of a session, for which TensorBoard has a helper only beside an import of TensorFlow."""
    status = api_pb2.STATUS_SUCCESS if record["status"] == "completed" else api_pb2.STATUS_FAILURE
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time_s)
    value = summary_pb2.Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=info)),
        tensor=metadata.NULL_TENSOR,
    )
    return summary_pb2.Summary(value=[value])
