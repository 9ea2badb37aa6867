import errno
import json
import os
import stat

import pytest

from kft import disk
from kft.errors import DataError, RunError


def test_what_was_there_stays_until_all_of_the_new_content_is_on_the_disk(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("before")
    path.chmod(0o600)
    with pytest.raises(KeyboardInterrupt), disk.writing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert (path.read_text(), os.listdir(tmp_path)) == ("before", [path.name])
    disk.write_text(path, "after")
    assert (path.read_text(), os.listdir(tmp_path)) == ("after", [path.name])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_replaced_and_not_followed(tmp_path):
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "link"
    elsewhere.write_text("precious")
    path.symlink_to(elsewhere)
    disk.write_text(path, "mine")
    assert (elsewhere.read_text(), path.read_text(), path.is_symlink()) == ("precious", "mine", False)


def test_files_and_folders_are_flushed_before_they_have_their_names_and_their_folder_after(tmp_path, monkeypatch):
    done = []
    flush, replace, rename = os.fsync, os.replace, os.rename

    def spied_flush(descriptor):
        done.append(("flush", os.readlink(f"/proc/self/fd/{descriptor}")))
        flush(descriptor)

    def spied(function):
        return lambda source, target: (done.append(("rename", str(target))), function(source, target))[1]

    monkeypatch.setattr(os, "fsync", spied_flush)
    monkeypatch.setattr(os, "replace", spied(replace))
    monkeypatch.setattr(os, "rename", spied(rename))
    disk.write_text(tmp_path / "a", "x")
    partial = done[0][1]
    assert done == [("flush", partial), ("rename", str(tmp_path / "a")), ("flush", str(tmp_path))]
    done.clear()
    with disk.writing_folder(tmp_path / "b") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("x")
    inside = [f"{folder}/inner/file", f"{folder}/inner", str(folder)]
    assert done == [*[("flush", p) for p in inside], ("rename", str(tmp_path / "b")), ("flush", str(tmp_path))]


def test_a_folder_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "preset"
    for content in ("first", "second"):
        with disk.writing_folder(path) as folder:
            (folder / content).write_text(content)
    with pytest.raises(RunError, match="preset: No space left on device"), disk.writing_folder(path) as folder:
        (folder / "third").write_text("third")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.name for p in tmp_path.rglob("*")] == ["preset", "second"]


def test_what_killed_writes_left_is_removed_without_following_links(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("precious")
    folder = tmp_path / "run"
    (folder / ".partial-1").mkdir(parents=True)
    (folder / ".partial-2").symlink_to(elsewhere)
    disk.remove_partial(folder)
    assert (list(folder.iterdir()), (elsewhere / "file").read_text()) == ([], "precious")


def test_output_goes_through_links_and_into_what_is_no_file(tmp_path):
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(real)
    disk.write_output(link, '{"word": "\ud800"}\n')
    assert link.is_symlink() and json.loads(real.read_text()) == {"word": "\ud800"}
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    disk.write_output(pipe, "answer")
    assert (os.read(reader, 100), stat.S_ISFIFO(pipe.stat().st_mode)) == (b"answer", True)
    os.close(reader)
    with pytest.raises(RunError, match="/dev/full: No space left on device"):
        disk.write_output("/dev/full", "answer")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_with_a_number_that_json_does_not_have_is_refused_by_name(number, tmp_path):
    with pytest.raises(RunError, match=r"test\.per_class\.1\.f1 \((nan|inf)\) is not a finite number"):
        disk.write_json(tmp_path / "a.json", {"test": {"per_class": [{"f1": 1.0}, {"f1": number}]}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "Can't write data (file write failed: time = now, filename = 'x', file descriptor = 3)"),
        RuntimeError("Can't decrement id ref count (unable to close file, errno = 28, error message = 'No space')"),
        ValueError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_whichever_library_met_it(error, tmp_path):
    line = rf"^{tmp_path}: No space left on device\. Make room\.$"
    with pytest.raises(RunError, match=line), disk.refusals(tmp_path, "Make room."):
        raise error


def test_other_errors_pass(tmp_path):
    for error in (FileNotFoundError(errno.ENOENT, "No such file"), ValueError("errno = 2"), DataError("No space")):
        with pytest.raises(type(error)) as passed, disk.refusals(tmp_path):
            raise error
        assert passed.value is error
