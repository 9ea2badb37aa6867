"""Trials for TensorBoard's HParams page: the knobs of each, its metrics and how it ended."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tuning.ledger import Record


def write(board: Path, record: Record) -> None:
    """Writes a trial into a folder of its own under `board`, in place of one that was there.

    TensorBoard reads the list of knobs and metrics off the trials, so there is no file for the whole study.
    """
    folder = board / f"{record['trial']:03d}"
    shutil.rmtree(folder, ignore_errors=True)
    ended = time.time()
    writer = EventFileWriter(str(folder))
    for summary in (_start(record, ended - record["seconds"]), _metrics(record), _end(record, ended)):
        writer.add_event(event_pb2.Event(wall_time=ended, step=0, summary=summary))
    writer.close()


def _start(record: Record, time_s: float) -> Any:
    knobs = {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in record["knobs"].items()
    }
    return summary_v2.hparams_pb(knobs, trial_id=str(record["trial"]), start_time_secs=time_s)


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
