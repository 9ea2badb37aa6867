"""Nothing that a fit has written is lost: what is flushed when, and what a full disk or a wrong path leaves behind."""

import json
import os
import shutil
from pathlib import Path

from click.testing import CliRunner

import kft
from kft.cli import main


def test_all_that_the_manifest_names_is_flushed_before_it_is_and_the_manifest_before_checkpoints_go(
    message_rows, quick, tmp_path, monkeypatch
):
    done, out = [], tmp_path / "run"
    fsync, replace, rename, rmtree = os.fsync, os.replace, os.rename, shutil.rmtree

    def spied_fsync(descriptor):
        about = os.fstat(descriptor)
        done.append(("flush", (about.st_dev, about.st_ino)))
        fsync(descriptor)

    def spied_move(move):
        def spied(source, target):
            move(source, target)
            done.append(("named", Path(target)))

        return spied

    def spied_rmtree(path, *arguments, **options):
        done.append(("removed", Path(path)))
        rmtree(path, *arguments, **options)

    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(os, "replace", spied_move(replace))
    monkeypatch.setattr(os, "rename", spied_move(rename))
    monkeypatch.setattr(shutil, "rmtree", spied_rmtree)
    asked = {"label": "topic", "validation": 0.2, "max_steps": 2, "report_examples": False}
    run = kft.fit(message_rows, out=str(out), **asked, **quick)
    monkeypatch.undo()

    last = max(i for i, step in enumerate(done) if step == ("named", out / "manifest.json"))
    gone = done.index(("removed", out / "checkpoints"))
    flushed_before = {inode for what, inode in done[:last] if what == "flush"}
    flushed_between = {inode for what, inode in done[last:gone] if what == "flush"}

    def inode(path):
        return (path.stat().st_dev, path.stat().st_ino)

    named = [out / name for name in run.manifest["sha256"]]
    folders = {folder for path in named for folder in path.parents if folder == out or out in folder.parents}
    assert out / "preset" in folders and (out / "preset" / "model.weights.h5") in named
    assert all(inode(path) in flushed_before for path in [*named, *folders])
    assert inode(out / "manifest.json") in flushed_before
    assert last < gone and inode(out) in flushed_between

    contents = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert not any(row["text"].encode() in content for row in message_rows for content in contents)


def test_answers_never_replace_the_rows_and_a_wrong_path_is_told_before_the_model_is_loaded(
    topic_run, message_rows, tmp_path, monkeypatch
):
    rows, link = tmp_path / "rows.jsonl", tmp_path / "link"
    rows.write_text("".join(json.dumps(row) + "\n" for row in message_rows[:3]))
    link.symlink_to(rows)
    before = rows.read_bytes()

    def told(output):
        return CliRunner().invoke(main, ["predict", str(topic_run.path), "--input", str(rows), "--output", str(output)])

    with monkeypatch.context() as patch:
        patch.setattr(kft, "load", None)
        for output in (rows, link, tmp_path / "missing" / "answers", tmp_path, tmp_path / ("a" * 300)):
            found = told(output)
            assert (found.exit_code, found.stderr.count("\n"), found.stdout) == (2, 1, "")
            assert rows.read_bytes() == before
    answers = tmp_path / "answers.jsonl"
    answers.write_text("old")
    found = told("/dev/full")
    assert (found.exit_code, found.stderr) == (5, "error: /dev/full: No space left on device.\n")
    found = told(answers)
    assert (found.exit_code, found.stdout, os.listdir(tmp_path).count("answers.jsonl")) == (0, "", 1)
    assert [json.loads(line)["label"] for line in answers.read_text().splitlines()] == [
        answer["label"] for answer in topic_run.predict(rows)
    ]
