import os

import pytest

from kft import disk, writable
from kft.errors import DataError, RunError


def test_what_cannot_be_written_is_told_before_the_work(tmp_path):
    source, hard, link = tmp_path / "rows.csv", tmp_path / "hard", tmp_path / "link"
    source.write_text("text\nhello\n")
    os.link(source, hard)
    link.symlink_to(source)
    for path in (source, hard, link, tmp_path / "." / "rows.csv"):
        with pytest.raises(DataError, match="is the file that is read"):
            writable.require_writable(path, DataError, unlike=[source])
    for path, message in [
        (tmp_path, "is a folder"),
        (tmp_path / "missing" / "a", "there is no folder"),
        (source / "a", "there is no folder"),
        (tmp_path / ("a" * 300), "the name is too long"),
        (tmp_path / ("ä" * 200), "the name is too long"),
        (f"{tmp_path}/a\0b", "NUL"),
    ]:
        with pytest.raises(DataError, match=message) as refused:
            writable.require_writable(path, DataError)
        assert "\n" not in str(refused.value)
    writable.require_writable(tmp_path / ("a" * 255), DataError)
    writable.require_writable("/dev/stdout", DataError)
    disk.write_text(tmp_path / ("a" * 255), "a long name has room for the name beside it")
    with pytest.raises(RunError, match=r"MB of disk are free, and 1,099,511,627,776 MB are needed"):
        writable.require_space(tmp_path, 2**60)


def test_a_folder_that_may_not_be_written_to_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(RunError, match="may not be written to"):
        writable.require_writable(tmp_path / "a")
