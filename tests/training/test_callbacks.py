import json
import os
import signal

import keras
import numpy as np
import pytest
from keras import ops
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kft.data.batches import Batch
from kft.training import callbacks
from kft.training.callbacks import BatchLoss, History, Signals, Watch

RECORDS = [
    {"kind": "step", "step": 1, "epoch": 0, "loss": 0.5, "learning_rate": 0.1},
    {"kind": "step", "step": 2, "epoch": 0, "loss": 0.25, "learning_rate": 0.2},
    {"kind": "epoch", "step": 2, "epoch": 0, "loss": 0.375, "val_accuracy": 0.75},
    {"kind": "step", "step": 3, "epoch": 1, "loss": 0.125, "learning_rate": 0.1},
    {"kind": "epoch", "step": 3, "epoch": 1, "loss": 0.125, "val_accuracy": 1.0},
]


@pytest.fixture
def history(tmp_path):
    made = History(tmp_path)
    for record in RECORDS:
        made.add(record)
    made.close()
    return made


def test_history_is_a_line_for_each_record_and_scalars_for_tensorboard(history, tmp_path):
    assert callbacks.read_history(history.path) == RECORDS
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in board.Scalars("step/loss")] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert [(e.step, e.value) for e in board.Scalars("epoch/val_accuracy")] == [(2, 0.75), (3, 1.0)]


@pytest.mark.parametrize(("step", "epoch", "kept"), [(0, 0, 0), (1, 0, 1), (2, 0, 2), (2, 1, 3), (3, 1, 4), (3, 2, 5)])
def test_history_rewinds_to_a_checkpoint(history, step, epoch, kept):
    assert callbacks.rewind_history(history.path, step, epoch) == RECORDS[:kept]
    assert callbacks.read_history(history.path) == RECORDS[:kept]


def test_line_cut_off_in_writing_is_left_out(history):
    with history.path.open("a") as file:
        file.write(json.dumps(RECORDS[0])[:20])
    assert callbacks.read_history(history.path) == RECORDS
    assert callbacks.rewind_history(history.path, 9, 9) == RECORDS


def test_segments_end_where_checkpoints_are_due():
    assert list(callbacks.segments(0, 9, 4)) == [(0, 4), (4, 8), (8, 9)]
    assert list(callbacks.segments(5, 9, 4)) == [(5, 8), (8, 9)]
    assert list(callbacks.segments(4, 4, 4)) == []


class Broken(keras.losses.Loss):
    """A mean that is no number for the batch whose target is 7."""

    def call(self, y_true, y_pred):
        return ops.where(y_true[:, 0] == 7, np.nan, y_true[:, 0] + 0 * y_pred[:, 0])


def watched(tmp_path, stop_after=None, loss=None):
    """A model trained on nine batches of one row with targets 1 to 9, the batches' rows being 11 to 19."""
    targets = np.arange(1, 10, dtype=np.float32)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    loss = loss or Broken()
    model.compile("sgd", loss, weighted_metrics=[BatchLoss(loss)])
    history, seen = History(tmp_path), []
    watch = Watch(
        step=0,
        epoch=0,
        history=history,
        rate=lambda step: 0.5,
        part=[Batch(np.array([row]), 1) for row in range(11, 20)],
        progress=lambda step, loss: seen.append((step, loss)),
        interrupted=lambda: len(seen) == stop_after,
    )
    model.fit(np.zeros((9, 1)), targets, batch_size=1, shuffle=False, verbose=0, callbacks=[watch])
    history.close()
    return watch, seen


def test_loss_that_is_no_number_stops_training_with_step_and_rows(tmp_path):
    watch, seen = watched(tmp_path)
    message = str(watch.failure)
    for part in ["step 7: the loss is nan", "learning rate 0.5", "rows 17", "lower learning_rate"]:
        assert part in message
    assert watch.failure.exit_code == 6
    assert seen == [(step, float(step)) for step in range(1, 7)]
    assert [record["step"] for record in callbacks.read_history(watch.history.path)] == list(range(1, 7))


def test_each_batch_has_its_own_loss_and_a_signal_stops_after_it(tmp_path):
    watch, seen = watched(tmp_path, stop_after=3)
    assert watch.failure is None
    assert watch.losses == [1.0, 2.0, 3.0]
    assert (watch.step, len(seen)) == (3, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_noted_and_the_second_ends(number, capsys):
    before = signal.getsignal(number)
    with Signals() as signals:
        assert not signals.came()
        os.kill(os.getpid(), number)
        assert signals.came()
        assert signals.number == number
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before
    assert "finishing this batch" in capsys.readouterr().err
