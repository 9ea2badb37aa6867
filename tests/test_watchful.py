"""A fit that goes wrong says so, stops in time, and loses nothing."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import kft
from kft import disk, tasks
from kft.errors import Interrupted, RunError, TrainingError
from kft.losses.objective import Objective, Term
from kft.losses.row_losses import crossentropy
from kft.tasks.classify import CLASSIFY
from kft.training import checkpoints
from kft.training.history import History


def history(path):
    return [json.loads(line) for line in (path / "history.jsonl").read_text(encoding="utf-8").splitlines()]


def notes(run):
    """Those on training: not on the task, nor on columns that are not used and tokens that are not known."""
    on_rows = ("task: ", "columns that are not used", "unknown to")
    return [note for note in run.manifest["notes"] if not any(part in note for part in on_rows)]


# -- numbers that are not finite -----------------------------------------------------------------------------------

BROKEN = """
import dataclasses, sys, numpy as np, keras
from keras import ops
from kft import cli
from kft.losses.row_losses import crossentropy
from kft.losses.objective import Objective, Term
from kft.tasks.classify import CLASSIFY

calls = keras.Variable(0, dtype="int32", trainable=False)
restore = CLASSIFY.restore

def broken(outputs, targets):
    calls.assign_add(1)  # once a step; from the seventh on the loss is no number
    return crossentropy(outputs["logits"], targets["label"]) * ops.where(calls > 6, np.nan, 1.0)

def with_broken_loss(labels, recipe):
    return dataclasses.replace(restore(labels, recipe), objective=Objective((Term("label", broken),)))

object.__setattr__(CLASSIFY, "restore", with_broken_loss)
cli.main(sys.argv[1:])
"""


def test_a_loss_that_is_no_number_stops_the_fit_and_keeps_the_checkpoint(message_rows, quick, tmp_path):
    train, recipe, out = tmp_path / "rows.jsonl", tmp_path / "recipe.yaml", tmp_path / "run"
    train.write_text("".join(json.dumps(row) + "\n" for row in message_rows), encoding="utf-8")
    knobs = {name: value for name, value in quick.items() if name != "quiet"}
    kft.Recipe.of(train=str(train), label="topic", validation=0, checkpoint_every=3, out=str(out), **knobs).write(
        recipe
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(kft.__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", BROKEN, "fit", str(recipe)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    last = done.stderr.strip().splitlines()[-1]
    for part in ["error: step 7: the loss is nan and the gradient norm nan", "learning rate 0.005", "; rows "]:
        assert part in last
    assert [record["step"] for record in history(out)] == list(range(1, 7))
    newest = sorted((out / "checkpoints").iterdir())[-1]
    assert newest.name == "step-00000006"
    assert not (out / "preset").exists()
    with pytest.raises(RunError, match="this fit has not finished"):
        kft.load(out)


# -- memory --------------------------------------------------------------------------------------------------------


def hungry(limit):
    """A loss that asks for 16 TB once it sees more than a few rows."""

    def loss(outputs, targets):
        count = tf.where(tf.shape(outputs["logits"])[0] > limit, tf.constant(2**42, tf.int64), 1)
        return crossentropy(outputs["logits"], targets["label"]) + 0 * ops.sum(tf.random.uniform([count])[:1])

    return loss


def train_with(patch, loss):
    """Lets classify train with another loss."""

    def restore(labels, recipe):
        return dataclasses.replace(CLASSIFY.restore(labels, recipe), objective=Objective((Term("label", loss),)))

    patch.setitem(tasks.TASKS, "classify", dataclasses.replace(CLASSIFY, restore=restore))


@pytest.mark.slow
def test_out_of_memory_goes_on_with_micro_batches_and_the_same_effective_batch(
    message_rows, quick, tmp_path, monkeypatch
):
    asked = {**quick, "task": "classify", "label": "topic", "validation": 0, "max_steps": 6, "batch_size": 4}
    whole = kft.fit(message_rows, out=str(tmp_path / "whole"), **asked)
    train_with(monkeypatch, hungry(limit=2))
    halved = kft.fit(message_rows, out=str(tmp_path / "halved"), **asked)
    (said,) = notes(halved)
    assert said.endswith("out of memory; each batch of 4 is now computed in 2 micro-batches")
    steps, halved_steps = history(whole.path), history(halved.path)
    assert [r["step"] for r in steps] == [r["step"] for r in halved_steps]
    # Dropout differs; the first step's rate and, nearly, its loss do not.
    assert halved_steps[0]["learning_rate"] == steps[0]["learning_rate"]
    assert halved_steps[0]["loss"] == pytest.approx(steps[0]["loss"], rel=0.3)
    assert all(record["loss"] < 10 for record in halved_steps)


@pytest.mark.slow
def test_a_row_that_does_not_fit_alone_ends_the_fit(message_rows, quick, tmp_path, monkeypatch):
    train_with(monkeypatch, hungry(limit=0))
    with pytest.raises(TrainingError, match="even with 1 of the 2 rows of a batch at a time, the longest"):
        knobs = {**quick, "batch_size": 2, "validation": 0}
        kft.fit(message_rows, task="classify", label="topic", out=str(tmp_path / "run"), **knobs)


# -- signals -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_signal_in_the_last_step_leaves_the_end_of_the_epoch_to_the_resumed_fit(
    message_rows, quick, tmp_path, monkeypatch
):
    asked = {**quick, "label": "topic", "validation": 0.2, "max_steps": 4, "save_total_limit": 1}
    whole = kft.fit(message_rows, out=str(tmp_path / "whole"), **asked)
    add = History.add

    def interrupting(self, record):
        add(self, record)
        if (record["kind"], record["step"]) == ("step", 4):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(History, "add", interrupting)
        with pytest.raises(Interrupted, match="stopped at step 4"):
            kft.fit(message_rows, out=str(tmp_path / "stopped"), **asked)
    resumed = kft.resume(tmp_path / "stopped", train=message_rows, quiet=True)
    assert history(resumed.path) == history(whole.path)
    assert history(whole.path)[-1]["kind"] == "epoch"
    assert resumed.metrics["validation"] == whole.metrics["validation"]


# -- learning ------------------------------------------------------------------------------------------------------


def flat(outputs, targets):
    """The same whatever the model says."""
    return ops.ones_like(outputs["logits"][:, 0]) + 0 * ops.sum(outputs["logits"], axis=1)


def test_a_loss_that_never_falls_and_weights_without_gradients_are_said(message_rows, quick, tmp_path, monkeypatch):
    train_with(monkeypatch, flat)
    knobs = {**quick, "batch_size": 2}
    run = kft.fit(
        message_rows, task="classify", label="topic", validation=0, epochs=1, out=str(tmp_path / "r"), **knobs
    )
    idle, no_fall = notes(run)
    assert "trainable variables had no gradient in the first update: " in idle
    assert "the loss did not fall in the first epoch (1.0000 in its first quarter, 1.0000 in its last)" in no_fall


def test_a_fit_that_learns_says_nothing_of_the_kind(topic_run):
    assert not [note for note in notes(topic_run) if "gradient" in note or "did not fall" in note]


@pytest.mark.slow
def test_two_deterministic_fits_of_one_seed_are_identical(message_rows, quick, tmp_path):
    command = (
        "import sys, json, kft; kft.fit(json.load(open(sys.argv[1])), out=sys.argv[2], label='topic', epochs=2, "
        "deterministic=True, **json.loads(sys.argv[3]))"
    )
    (tmp_path / "rows.json").write_text(json.dumps(message_rows))
    runs = [tmp_path / name for name in "ab"]
    for path in runs:
        arguments = [str(tmp_path / "rows.json"), str(path), json.dumps(quick)]
        subprocess.run([sys.executable, "-c", command, *arguments], check=True, capture_output=True)
    first, second = (kft.load(path) for path in runs)
    assert history(runs[0]) == history(runs[1])
    for one, other in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# -- the disk ------------------------------------------------------------------------------------------------------


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [flip, lambda content: content[:-3], None], ids=["flipped", "truncated", "missing"])
def test_every_damaged_file_of_a_finished_run_is_told_by_name(topic_run, damage, tmp_path):
    files = [p for p in topic_run.path.rglob("*") if p.is_file() and not {"tensorboard", ".lock"} & {*p.parts}]
    assert len(files) > 10
    copy = tmp_path / "copy"
    for file in files:
        name = file.relative_to(topic_run.path)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(topic_run.path, copy)
        if damage is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(damage((copy / name).read_bytes()))
        with pytest.raises(RunError) as refused:
            kft.load(copy)
        assert str(name) in str(refused.value)


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "small"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_during_a_checkpoint_loses_nothing(small_disk, message_rows, quick, tmp_path, monkeypatch):
    asked = {**quick, "label": "topic", "validation": 0, "max_steps": 8, "checkpoint_every": 2}
    whole = kft.fit(message_rows, out=str(tmp_path / "whole"), **asked)
    add, filler, out = History.add, small_disk / "filler", small_disk / "run"

    def filling(self, record):
        add(self, record)
        if record["step"] == 5:
            with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass

    with monkeypatch.context() as patch:
        patch.setattr(History, "add", filling)
        with pytest.raises((RunError, TrainingError), match="intact: make room, then") as refused:
            kft.fit(message_rows, out=str(out), **asked)
    assert f"--resume {out}" in str(refused.value)
    filler.unlink()
    newest, problems = checkpoints.newest_intact(out / "checkpoints")
    assert (newest.name, problems) == ("step-00000004", [])
    assert history(kft.resume(out, train=message_rows, quiet=True).path) == history(whole.path)


def test_a_full_disk_is_one_clear_error(tmp_path):
    message = r"No space left on device\. What was written before is intact: make room"
    with pytest.raises(RunError, match=message), disk.refusals(tmp_path), open("/dev/full", "w") as full:
        full.write("x" * 100_000)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    disk.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        disk.write_json(path, {"a": keras.Variable(0)})
    assert json.loads(path.read_text()) == {"a": 1}
