"""A fit that was killed or stopped goes on as if nothing had happened, or says why it cannot."""

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import kft
from kft.errors import RunError

pytestmark = pytest.mark.slow

DEADLINE_S = 900
STEPS_PER_EPOCH = 6


@pytest.fixture(scope="module")
def train(message_rows, tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows") / "messages.csv", message_rows)


def write_rows(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture(scope="module")
def recipe(train, quick):
    knobs = {name: value for name, value in quick.items() if name != "quiet"}
    asked = {"text": "text", "label": "topic", "validation": 0.2, "epochs": 8, "checkpoint_every": 2}
    return {"train": train, **knobs, **asked, "schedule": "linear"}


def start(recipe, out):
    """`kft fit` in a process of its own."""
    path = out.with_suffix(".yaml")
    kft.Recipe.of(**recipe, out=str(out)).write(path)
    environment = {**os.environ, "PYTHONPATH": str(Path(kft.__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "kft.cli", "fit", str(path)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for_checkpoint(process, out, step):
    """Waits until a checkpoint of at least this step has its name, while the fit is at work."""
    deadline = time.monotonic() + DEADLINE_S
    while not any(int(path.name.removeprefix("step-")) >= step for path in out.glob("checkpoints/step-*")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
        assert process.returncode is None, process.stderr.read()
        assert time.monotonic() < deadline


@pytest.fixture(scope="module")
def interrupted(recipe, tmp_path_factory):
    """Two unfinished fits: `killed` by SIGKILL after its first checkpoint, `stopped` by SIGTERM in a later epoch."""
    folder = tmp_path_factory.mktemp("interrupted")
    killed, stopped = folder / "killed", folder / "stopped"
    with start(recipe, killed) as first, start(recipe, stopped) as second:
        wait_for_checkpoint(first, killed, 1)
        first.send_signal(signal.SIGKILL)
        wait_for_checkpoint(second, stopped, STEPS_PER_EPOCH + 1)
        with pytest.raises(RunError, match="another fit is at work here"):
            kft.resume(stopped, quiet=True)
        second.send_signal(signal.SIGTERM)
        message = second.communicate(timeout=DEADLINE_S)[1]
        assert first.wait() == -signal.SIGKILL
    return killed, stopped, second.returncode, message


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """The same fit without a break."""
    return kft.fit(**recipe, out=str(tmp_path_factory.mktemp("whole") / "run"), quiet=True)


def weights(run):
    found = {}
    with h5py.File(run.path / "preset" / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def assert_same_fit(run, other):
    """To the bit: the recorded history and every weight."""
    assert (run.path / "history.jsonl").read_text() == (other.path / "history.jsonl").read_text()
    found, expected = weights(run), weights(other)
    assert found.keys() == expected.keys() and len(found) > 30
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_killed_fit_ends_as_one_without_a_break(interrupted, whole):
    killed = interrupted[0]
    with pytest.raises(RunError, match="this fit has not finished. Go on with: kft fit --resume"):
        kft.load(killed)
    assert (killed / "checkpoints").is_dir()
    run = kft.resume(killed, quiet=True)
    assert_same_fit(run, whole)
    assert run.metrics["validation"] == whole.metrics["validation"]
    assert not (killed / "checkpoints").exists()


def test_sigterm_leaves_a_checkpoint_a_message_and_code_143(interrupted):
    _, stopped, code, message = interrupted
    assert code == 143
    last = message.strip().splitlines()[-1]
    newest = sorted(path.name for path in (stopped / "checkpoints").iterdir())[-1]
    assert last == f"error: stopped at step {int(newest.removeprefix('step-'))}; go on with --resume {stopped}"
    assert "Traceback" not in message


def test_a_damaged_checkpoint_is_named_and_the_older_one_used(interrupted, whole, tmp_path, capsys):
    run_dir = shutil.copytree(interrupted[1], tmp_path / "copy")
    older, newest = sorted((run_dir / "checkpoints").iterdir())[-2:]
    content = bytearray((newest / "state.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "state.safetensors").write_bytes(content)
    run = kft.resume(run_dir)
    told = capsys.readouterr().err
    assert f"{newest / 'state.safetensors'}: missing, or its sha256 differs" in told
    assert f"going on at step {int(older.name.removeprefix('step-'))}, from {older}" in told
    assert_same_fit(run, whole)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"batch_size": 4}, "batch_size was 8, now 4"),
        ({"learning_rate": 1e-3}, "learning_rate was 0.005, now 0.001"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"preset": "minilm"}, "preset was .*tiny.*, now .minilm."),
    ],
)
def test_another_knob_is_refused_by_name(interrupted, knobs, message):
    with pytest.raises(RunError, match=message):
        kft.resume(interrupted[1], quiet=True, **knobs)


def test_other_rows_and_labels_are_refused_by_name(interrupted, message_rows, tmp_path):
    changed = [{**row, "text": row["text"].replace("lamp", "chair")} for row in message_rows]
    with pytest.raises(RunError, match=r"data\.\w+ was"):
        kft.resume(interrupted[1], train=write_rows(tmp_path / "changed.csv", changed), quiet=True)
    renamed = [{**row, "topic": row["topic"].replace("billing", "money")} for row in message_rows]
    with pytest.raises(RunError, match="labels.labels was .*billing.*, now .*money"):
        kft.resume(interrupted[1], train=write_rows(tmp_path / "renamed.csv", renamed), quiet=True)


def test_a_finished_run_and_an_empty_folder_have_nothing_to_resume(whole, tmp_path):
    with pytest.raises(RunError, match="this fit has finished. Open it with kft.load"):
        kft.resume(whole.path)
    with pytest.raises(RunError, match="no run to resume is here"):
        kft.resume(tmp_path)


def test_a_second_fit_into_an_unfinished_run_is_refused(interrupted, recipe):
    stopped = interrupted[1]
    before = sorted(path.name for path in stopped.iterdir())
    with pytest.raises(RunError, match="already holds a run. Choose another --out, or go on with --resume"):
        kft.fit(**recipe, out=str(stopped), quiet=True)
    assert sorted(path.name for path in stopped.iterdir()) == before
