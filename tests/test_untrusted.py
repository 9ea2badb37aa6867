"""What others wrote is data: no link is followed, no pipe waited for, nothing read without limits."""

import os
import socket
import sys
import threading
from typing import Annotated

import pydantic
import pytest
from typing_extensions import TypedDict

from kft import lock, untrusted
from kft.errors import KftError, RunError, quoted

ONE_LINE_MAX = 2000


class Point(TypedDict):
    x: Annotated[int, pydantic.Field(ge=0)]
    y: float


def refusal(call, *arguments, **settings):
    with pytest.raises(RunError) as caught:
        call(*arguments, RunError, **settings)
    message = str(caught.value)
    assert message.isprintable() and len(message) <= ONE_LINE_MAX
    return message


def link(path):
    path.symlink_to("/etc/hostname")


def folder_link(path):
    path.symlink_to("/etc", target_is_directory=True)


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (link, "a symbolic link"),
        (folder_link, "a symbolic link"),
        (os.mkfifo, "a named pipe"),
        (unix_socket, "a socket"),
    ],
)
def test_only_regular_files_and_folders_pass(tmp_path, make, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "file").write_text("x")
    untrusted.check_folder(tmp_path, RunError)
    untrusted.check_folder(tmp_path / "nowhere", RunError)
    make(tmp_path.relative_to(tmp_path) / "folder" / "deep" / "odd")
    message = refusal(untrusted.check_folder, tmp_path)
    assert f"{tmp_path}/folder/deep/odd: found {kind}, expected regular files and folders only" in message


def test_a_folder_that_the_user_names_may_be_a_link_and_hard_links_are_files(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "file").write_text("x")
    os.link(tmp_path / "file", tmp_path / "run" / "file")
    (tmp_path / "latest").symlink_to(tmp_path / "run")
    untrusted.check_folder(tmp_path / "latest", RunError)


def test_links_pass_only_to_files_in_the_folder_that_they_may_lead_to(tmp_path):
    blobs, snapshot = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "1").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/1")
    untrusted.check_folder(snapshot, RunError, links_within=tmp_path / "cache")
    assert "config.json: found a symbolic link" in refusal(untrusted.check_folder, snapshot)
    (snapshot / "vocab.txt").symlink_to("/etc/hostname")
    assert "vocab.txt" in refusal(untrusted.check_folder, snapshot, links_within=tmp_path / "cache")


def test_a_folder_has_limits(tmp_path):
    for number in range(4):
        (tmp_path / str(number)).write_text("123")
    assert "more than 3 files" in refusal(untrusted.check_folder, tmp_path, max_files=3)
    assert "more than 11 bytes" in refusal(untrusted.check_folder, tmp_path, max_bytes=11)
    untrusted.check_folder(tmp_path, RunError, max_files=4, max_bytes=12)
    (tmp_path / "/".join("d" * 20)).mkdir(parents=True)
    assert "16 folders deep" in refusal(untrusted.check_folder, tmp_path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "found a named pipe, expected a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a symbolic link"),
        (os.mkdir, "found a folder, expected a regular file"),
        (lambda path: path.write_bytes(b" " * 2000), "found 2,000 bytes, expected 1,000 at most"),
        (lambda path: None, "No such file"),
    ],
)
def test_a_file_is_regular_and_small(tmp_path, make, reason):
    path = tmp_path / "manifest.json"
    make(path)
    assert reason in refusal(untrusted.read_json, path, Point, max_bytes=1000)


def test_a_file_that_the_user_names_may_be_a_link_but_no_device(tmp_path):
    (tmp_path / "there").write_text("text")
    (tmp_path / "here").symlink_to("there")
    assert untrusted.read_text(tmp_path / "here", RunError, max_bytes=10, is_given=True) == "text"
    (tmp_path / "zeros").symlink_to("/dev/zero")
    assert "found a device" in refusal(untrusted.read_text, tmp_path / "zeros", max_bytes=10, is_given=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"x": 1, "y": NaN}', "not valid JSON"),
        (b'{"x": 1, "y": 1e999}', "found inf, expected finite numbers"),
        (b'{"x": 1, "y": "2"}', "'y': found '2'"),
        (b'{"x": -1, "y": 2}', "'x': found -1"),
        (b'{"x": true, "y": 2}', "'x': found True"),
        (b'{"x": 1}', "'y'"),
        (b"[" * 100_000, "not valid JSON (recursion limit exceeded"),
        (b'{"x": ' + b"1" * 5000 + b', "y": 0}', "not valid JSON (number out of range"),
        (b'{"x": ' + b"1" * 4000 + b', "y": ' + b"1" * 4000 + b"}", "'y'"),
        (b"\xff\xfe", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[]", "found []"),
        (b'{"x": "\\u001b[31m' + b"a" * 5000 + b'", "y": 2}', "'x'"),
    ],
)
def test_json_that_does_not_fit_is_one_line(content, reason):
    assert reason in refusal(untrusted.parse_json, content, Point, "here")


def test_json_that_fits_comes_back():
    assert untrusted.parse_json(b'{"x": 1, "y": 2}', Point, "here", RunError) == {"x": 1, "y": 2}
    assert untrusted.parse_json("[NaN, 1.5]", list[float | None], "here", RunError, is_nan_null=True) == [None, 1.5]


def test_json_lines_leave_out_a_last_one_that_was_cut_off(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"x": 1, "y": 2}\n\n{"x": 2, "y": 3}\n{"x": 3, "y')
    assert [point["x"] for point in untrusted.read_json_lines(path, Point, RunError)] == [1, 2]
    path.write_text('{"x": 1, "y": 2}\n{"x": 2}\n')
    assert "lines.jsonl, line 2: 'y'" in refusal(untrusted.read_json_lines, path, Point)


def test_what_a_message_quotes_is_short_and_cannot_speak_to_a_terminal():
    assert quoted("\x1b[31m\u202e\n") == r"'\x1b[31m\u202e\n'"
    assert len(quoted([["x" * 10**6] * 10**4] * 10**3)) <= 200
    assert quoted(10 ** (sys.get_int_max_str_digits() + 1)) == "<int>"
    message = str(KftError("a\nb\x1b[31m\udcff" + "x" * 10**6))
    assert message.startswith(r"a\nb\x1b[31m\udcffx") and len(message) <= ONE_LINE_MAX


def test_a_lock_lets_one_in_and_its_file_stays(tmp_path):
    with lock.held(tmp_path):
        (tmp_path / "result").write_text("x")
        with pytest.raises(lock.Taken), lock.held(tmp_path):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [lock.NAME, "result"]
    with lock.held(tmp_path):
        pass


def test_a_new_directory_that_stays_empty_is_removed(tmp_path):
    with lock.held(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with lock.held(tmp_path / "old"):
        pass
    assert (tmp_path / "old").is_dir()


def test_a_lock_is_not_taken_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("text")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / lock.NAME).symlink_to(tmp_path / "mine")
    with pytest.raises(OSError), lock.held(tmp_path / "run"):
        pass
    assert (tmp_path / "mine").read_text() == "text"
    for name in ("mine", "nowhere"):
        (tmp_path / f"to-{name}").symlink_to(tmp_path / name)
        with pytest.raises(OSError), lock.held(tmp_path / f"to-{name}"):
            pass


def test_two_are_never_in_one_directory_though_it_comes_and_goes(tmp_path):
    inside, most, taken = [], [], []

    def come_and_go():
        for _ in range(200):
            try:
                with lock.held(tmp_path / "run"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except lock.Taken:
                taken.append(1)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1} and len(most) + len(taken) == 800
