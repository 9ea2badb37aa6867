"""A disk that is full at any moment of a fit, an export, a prediction or a search is one line, and nothing is lost."""

import json
import shutil
import subprocess

import pytest
from click.testing import CliRunner

import kft
from kft.cli import main
from kft.errors import ExportError, KftError, RunError, ServeError, TrainingError
from kft.training import history

pytestmark = pytest.mark.slow


@pytest.fixture
def disk_with(tmp_path):
    """(Bytes) to a folder on a disk with so much room; asked again, with other room and what was there."""
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")

    def with_room(room):
        filler = path / "filler"
        filler.unlink(missing_ok=True)
        if room is not None:
            filler.write_bytes(bytes(shutil.disk_usage(path).free - room))
        return path

    yield with_room
    subprocess.run(["umount", "--lazy", path], check=True)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_one_line(error):
    assert "\n" not in str(error.value) and str(error.value)
    return error.value


def needed_by(folder):
    return sum(-(-path.stat().st_size // 4096) * 4096 + 4096 for path in folder.rglob("*"))


@pytest.fixture
def small_fit(message_rows, quick):
    return {"train": message_rows, "label": "topic", "validation": 0.2, "max_steps": 4, "checkpoint_every": 2, **quick}


def test_a_fit_goes_on_once_there_is_room(disk_with, small_fit, tmp_path):
    whole = kft.fit(out=str(tmp_path / "whole"), **small_fit)
    most, refused = 3 * needed_by(whole.path / "preset"), 0
    for room in range(0, most, most // 7):
        out = disk_with(room) / "run"
        try:
            done = kft.fit(out=str(out), **small_fit)
        except (RunError, TrainingError) as error:
            refused += 1
            assert "\n" not in str(error)
            assert "No space left on device" in str(error) or "MB of disk are free" in str(error)
            disk_with(None)
            if (out / "manifest.json").is_file():
                done = kft.resume(out, train=small_fit["train"], quiet=True)
            else:
                done = kft.fit(out=str(out), **small_fit)
        assert history.read(done.path) == history.read(whole.path)
        assert {name: done.metrics[name] for name in ("validation",)} == {"validation": whole.metrics["validation"]}
        assert [path.name for path in out.iterdir() if path.name.startswith(".partial")] == []
        disk_with(None)
        shutil.rmtree(out)
    assert refused >= 5


def test_an_export_leaves_the_older_version_alone(disk_with, topic_run):
    models = disk_with(None) / "saved_models" / "topics"
    first = topic_run.export(models)
    before, size = contents(models), needed_by(first)
    for room in (0, size // 4, size // 2, size * 9 // 10):
        disk_with(room)
        with pytest.raises((ExportError, RunError, ServeError)) as refused:
            topic_run.export(models)
        in_one_line(refused)
        assert contents(models) == before
    disk_with(None)
    assert topic_run.export(models).name == "2"


def test_answers_replace_older_ones_whole_or_not_at_all(disk_with, topic_run, message_rows):
    folder = disk_with(None)
    rows, answers = folder / "rows.jsonl", folder / "answers.jsonl"
    rows.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in message_rows * 20))
    answers.write_text("old")
    for room in (0, 4096, 40_960):
        disk_with(room)
        command = ["predict", str(topic_run.path), "--input", str(rows), "--output", str(answers)]
        told = CliRunner().invoke(main, command)
        assert told.exit_code == 5 and told.stderr.count("\n") == 1 and "No space left on device" in told.stderr
        assert answers.read_text() == "old"
        assert sorted(path.name for path in folder.iterdir()) == ["answers.jsonl", "filler", "rows.jsonl"]


def test_a_search_goes_on_once_there_is_room(disk_with, message_rows, tiny_preset, tmp_path):
    asked = {
        "space": {"learning_rate": [1e-3, 3e-3]},
        "search": "grid",
        "preset": tiny_preset,
        "label": "topic",
        "max_steps": 2,
        "validation": 0.2,
        "quiet": True,
    }
    whole = kft.tune(message_rows, out=tmp_path / "whole", **asked)
    most = 4 * needed_by(whole.best_run().path / "preset")
    for room in range(0, most, most // 4):
        out = disk_with(room) / "study"
        try:
            kft.tune(message_rows, out=out, **asked)
        except KftError as error:
            assert isinstance(error, RunError | TrainingError) and "\n" not in str(error)
        disk_with(None)
        study = kft.tune(message_rows, out=out, **asked)
        assert [record["knobs"] for record in study.trials] == [record["knobs"] for record in whole.trials]
        assert [record["status"] for record in study.trials] == ["completed", "completed"]
        assert study.best_value == whole.best_value
        shutil.rmtree(out)
