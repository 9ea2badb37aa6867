import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kft.data.batches import Batch
from kft.losses.objective import Objective, Term
from kft.training import callbacks, history, optimizers
from kft.training.callbacks import Progress, Signals, Watch
from kft.training.learner import Learner


def test_segments_end_where_checkpoints_are_due():
    assert list(callbacks.segments(0, 9, 4)) == [(0, 4), (4, 8), (8, 9)]
    assert list(callbacks.segments(5, 9, 4)) == [(5, 8), (8, 9)]
    assert list(callbacks.segments(4, 4, 4)) == []


def broken(breaks):
    """A loss that is the target; for 7, no number: the loss itself, or only its gradient."""

    def loss(outputs, targets):
        truth, answer = targets["number"][:, 0], outputs["number"][:, 0]
        is_bad = truth == 7
        if breaks == "gradient":
            return truth + (answer - ops.stop_gradient(answer)) * ops.where(is_bad, 3e38, 0.0)
        return truth + answer * ops.where(is_bad, np.nan, 0.0)

    return loss


def watched(tmp_path, stop_after=None, breaks="loss", micro_batches=1):
    """A model trained on nine batches of one row with targets 1 to 9, the batches' rows being 11 to 19."""
    targets = np.arange(1, 10, dtype=np.float32)[:, None]
    number = keras.Input((1,), name="number")
    network = keras.Model({"number": number}, {"number": keras.layers.Dense(1)(number)})
    model = Learner(network, Objective((Term("number", broken(breaks)),)))
    model.compile(optimizers.FusedAdamW(0.5))
    written, progress = history.History(tmp_path), Progress(9, 1, quiet=True)
    watch = Watch(
        step=0,
        epoch=0,
        history=written,
        rate=lambda step: 0.5,
        part=[Batch(np.array([row]), 1) for row in range(11, 20)],
        sources=lambda rows: rows + 100,
        micro_batches=micro_batches,
        scales={"number": np.full(9, 1.0 / micro_batches)},
        first_update=1,
        progress=progress,
        interrupted=lambda: watch.step == stop_after,
    )
    inputs, weights = {"train": {"number": np.zeros((9, 1), np.float32)}}, {"number": np.ones(9, np.float32)}
    truth = {"train": {"number": targets}}
    ds = tf.data.Dataset.from_tensor_slices((inputs, truth, weights)).batch(1)
    model.fit(ds, shuffle=False, verbose=0, callbacks=[watch])
    written.close()
    return watch


@pytest.mark.parametrize("breaks", ["loss", "gradient"])
def test_numbers_that_are_not_finite_stop_training_with_step_rows_rate_and_norm(breaks, tmp_path):
    watch = watched(tmp_path, breaks=breaks)
    message = str(watch.failure)
    found = (
        "the loss is nan and the gradient norm nan" if breaks == "loss" else "the loss is 7 and the gradient norm inf"
    )
    for part in [f"step 7: {found}", "learning rate 0.5", "rows 117 ", "lower"]:
        assert part in message
    assert watch.failure.exit_code == 6
    assert watch.losses == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert [record["step"] for record in history.read(tmp_path)] == list(range(1, 7))


def test_each_step_has_its_own_loss_and_a_signal_stops_after_it(tmp_path):
    watch = watched(tmp_path, stop_after=3)
    assert watch.failure is None
    assert watch.losses == [1.0, 2.0, 3.0]
    assert watch.step == 3


def test_a_step_of_micro_batches_has_their_mean_loss(tmp_path):
    watch = watched(tmp_path, stop_after=2, micro_batches=3)
    assert watch.losses == [2.0, 5.0]


def test_variables_without_a_gradient_are_named(tmp_path):
    watch = watched(tmp_path, stop_after=1)
    (note,) = watch.progress.notes
    assert "trainable variables had no gradient in the first update" in note
    assert "kernel" in note


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


def test_what_is_said_is_neither_markup_nor_control_characters(capsys):
    Progress(9, 1).note("label '[red]a[/red]' :smile: \x1b[31m of a\nfile")
    assert " ".join(capsys.readouterr().err.split()) == r"note: label '[red]a[/red]' :smile: \x1b[31m of a\nfile"
