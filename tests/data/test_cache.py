import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kft import disk
from kft.data import cache, store_files
from kft.text.encoded import Encoded

ENCODER = SimpleNamespace(
    pad_values={"token_ids": 9, "segment_ids": 0, "padding_mask": 0}, mask_names=["padding_mask"], num_tokens=10
)
ROWS = [[1, 2, 3], [4], [5, 6, 7, 8], [1, 1]]
FILES = ["token_ids.int32", "segment_ids.int32", "offsets.index", "texts.index"]


def slice_of(rows):
    """Features of these rows as an encoder gives them: padded, with their lengths."""
    lengths = np.array([len(row) for row in rows])
    ids = np.full((len(rows), lengths.max()), 9, np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return Encoded(
        {"token_ids": ids, "segment_ids": np.where(ids == 9, 0, ids + 1)}, {"": lengths}, np.arange(len(rows))
    )


def two_slices():
    return iter([slice_of(ROWS[:2]), slice_of(ROWS[2:])])


def never():
    raise AssertionError("the tokens are made again")


def ids_of(store):
    return store.batch(np.arange(len(store)), 4)["token_ids"].tolist()


EXPECTED = [[1, 2, 3, 9], [4, 9, 9, 9], [5, 6, 7, 8], [1, 1, 9, 9]]


def test_the_second_call_maps_what_the_first_wrote(tmp_path):
    first = cache.cached("key", two_slices, ENCODER, tmp_path)
    again = cache.cached("key", never, ENCODER, tmp_path, num_texts=4)
    for store in (first, again):
        assert ids_of(store) == EXPECTED
        assert store.batch(np.array([1]), 2)["segment_ids"].tolist() == [[5, 0]]
        assert all(isinstance(ids, np.memmap) for ids in store.features.values())
        assert {type(value) for value in store.pad_values.values()} == {int}
    assert os.listdir(tmp_path) == ["key"]
    with pytest.raises(AssertionError):
        cache.cached("other", never, ENCODER, tmp_path)


def test_windows_of_slices_stay_with_their_texts(tmp_path):
    windows = [slice_of(ROWS)._replace(texts=np.array([0, 0, 1, 2])), slice_of(ROWS[:1])]
    for slices in (lambda: iter(windows), never):
        assert cache.cached("key", slices, ENCODER, tmp_path, num_texts=4).texts.tolist() == [0, 0, 1, 2, 3]


def test_writing_that_was_cut_off_leaves_nothing(tmp_path):
    def cut_off():
        yield slice_of(ROWS[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.cached("key", cut_off, ENCODER, tmp_path)
    assert os.listdir(tmp_path) == []


# -- damage and forgery ------------------------------------------------------------------------------------------------


def rewritten(path, content):
    """A file with another content, and the sum of it in meta.json, as somebody would who means harm."""
    path.write_bytes(content)
    meta = json.loads((path.parent / "meta.json").read_text())
    meta["sums"][path.name] = [len(content), zlib.crc32(content)]
    (path.parent / "meta.json").write_text(json.dumps(meta))


def numbers(*values, dtype=np.int64):
    return np.array(values, dtype).tobytes()


def in_meta(**changed):
    def change(folder):
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps({**meta, **changed}))

    return change


def zeroed(name):
    return lambda folder: (folder / name).write_bytes(bytes((folder / name).stat().st_size))


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-4])


def linked(name):
    def change(folder):
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return change


DAMAGE = {
    **{f"zeroed {name}": zeroed(name) for name in FILES},
    **{f"cut {name}": cut(name) for name in FILES},
    **{f"linked {name}": linked(name) for name in ["token_ids.int32", "texts.index", "meta.json"]},
    "missing": lambda folder: (folder / "token_ids.int32").unlink(),
    "empty": lambda folder: (folder / "token_ids.int32").write_bytes(b""),
    "pipe": lambda folder: ((folder / "texts.index").unlink(), os.mkfifo(folder / "texts.index")),
    "no meta": lambda folder: (folder / "meta.json").unlink(),
    "half meta": lambda folder: (folder / "meta.json").write_text('{"features": ['),
    "other meta": lambda folder: (folder / "meta.json").write_text("[]"),
    "names elsewhere": in_meta(features={"../../etc/passwd": {"dtype": "int32", "shape": []}}),
    "no features": in_meta(features={}),
    "a dtype of objects": in_meta(features={"token_ids": {"dtype": "object", "shape": []}}),
    "a shape of nothing": in_meta(features={"token_ids": {"dtype": "int32", "shape": [0]}}),
    "wider values": in_meta(features={"token_ids": {"dtype": "int32", "shape": [2]}}),
    "another dtype": in_meta(features={"token_ids": {"dtype": "int8", "shape": []}}),
    "ids out of the vocabulary": lambda f: rewritten(f / "token_ids.int32", numbers(*range(1, 10), 99, dtype=np.int32)),
    "ids below 0": lambda f: rewritten(f / "token_ids.int32", numbers(*range(9), -1, dtype=np.int32)),
    "fewer ids": lambda f: rewritten(f / "token_ids.int32", numbers(1, 2, dtype=np.int32)),
    "offsets out of the ids": lambda f: rewritten(f / "offsets.index", numbers(0, 3, 4, 8, 1000)),
    "offsets that fall": lambda f: rewritten(f / "offsets.index", numbers(0, 9, 4, 8, 10)),
    "fewer offsets": lambda f: rewritten(f / "offsets.index", numbers(0, 3, 4, 10)),
    "texts there are not": lambda f: rewritten(f / "texts.index", numbers(0, 1, 2, 7)),
    "fewer texts": lambda f: rewritten(f / "texts.index", numbers(0, 1, 2, 2)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_store_that_is_not_as_it_was_written_is_made_again_with_a_note(damage, tmp_path):
    cache.cached("key", two_slices, ENCODER, tmp_path)
    damage(tmp_path / "key")
    notes = []
    found = cache.cached("key", two_slices, ENCODER, tmp_path, num_texts=4, note=notes.append)
    assert ids_of(found) == EXPECTED
    assert [note for note in notes if "The tokens are made again." not in note or "\n" in note] == []
    assert len(notes) == 1
    assert ids_of(cache.cached("key", never, ENCODER, tmp_path, num_texts=4)) == EXPECTED


def test_the_tokens_of_another_encoder_are_not_taken(tmp_path):
    cache.cached("key", two_slices, ENCODER, tmp_path)
    other = SimpleNamespace(**{**vars(ENCODER), "pad_values": {"token_ids": 8}})
    notes = []
    cache.cached("key", two_slices, other, tmp_path, note=notes.append)
    assert len(notes) == 1 and "another encoder" in notes[0]


# -- where nothing can be kept -----------------------------------------------------------------------------------------


def test_without_a_cache_nothing_is_left_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    assert ids_of(cache.cached("key", two_slices, ENCODER, None)) == EXPECTED
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("cause", ["a file in its place", "no right to write"])
def test_a_cache_that_cannot_be_written_is_a_note(cause, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    if cause == "a file in its place":
        folder.write_text("")
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    notes = []
    assert ids_of(cache.cached("key", two_slices, ENCODER, folder, note=notes.append)) == EXPECTED
    assert len(notes) == 1 and "tokens are not kept" in notes[0]


def test_a_warm_cache_on_a_read_only_disk_is_read_and_a_cold_one_is_a_note(tmp_path):
    cache.cached("key", two_slices, ENCODER, tmp_path)
    if subprocess.run(["mount", "--bind", "-o", "ro", tmp_path, tmp_path], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path], check=True)
        assert ids_of(cache.cached("key", never, ENCODER, tmp_path)) == EXPECTED
        notes = []
        assert ids_of(cache.cached("cold", two_slices, ENCODER, tmp_path, note=notes.append)) == EXPECTED
        assert len(notes) == 1
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_a_full_disk_is_an_error():
    with pytest.raises(OSError, match="No space left"):
        store_files.write(two_slices(), ENCODER, lambda name: open("/dev/full", "wb"), None)  # noqa: SIM115


# -- several processes -------------------------------------------------------------------------------------------------


FILL = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from kft.data import cache
from kft.text.encoded import Encoded

encoder = SimpleNamespace(pad_values={"token_ids": 9, "padding_mask": 0}, mask_names=["padding_mask"])
cache.CACHE_BYTES = 3_000  # so that stores are removed all the time
notes = []
for number in range(100):
    ids = np.full((3, 2), number % 7, np.int32)
    one = Encoded({"token_ids": ids}, {"": np.array([2, 2, 2])}, np.arange(3))
    found = cache.cached(f"key{number % 7}", lambda: iter([one]), encoder, Path(sys.argv[1]), note=notes.append)
    assert np.array_equal(found.batch(np.arange(3), 2)["token_ids"], ids), found.features
sys.exit("\\n".join(notes) or 0)
"""


def test_processes_that_fill_and_empty_one_cache_do_not_disturb_each_other(tmp_path):
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(cache.__file__).parents[2])}
    workers = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [worker.communicate()[1] for worker in workers] == ["", "", ""]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(disk.PARTIAL)]


def test_what_killed_processes_left_goes_and_what_others_write_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LEFT_AFTER_S", -1)
    left, at_work = tmp_path / ".partial-left", tmp_path / ".partial-at-work"
    for folder in (left, at_work):
        folder.mkdir()
        (folder / "token_ids.int32").write_bytes(b"....")
    with cache._locked(at_work):
        cache.cached("key", two_slices, ENCODER, tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".partial-at-work", "key"]


def test_a_cache_may_have_a_limit_of_its_own(tmp_path):
    for key in ("first", "second"):
        cache.cached(key, two_slices, ENCODER, tmp_path, limit_bytes=1)
    assert os.listdir(tmp_path) == ["second"]


def test_the_least_recently_used_store_leaves_once_the_cache_is_full(tmp_path, monkeypatch):
    for age, key in enumerate(["used", "unused"]):
        cache.cached(key, two_slices, ENCODER, tmp_path)
        os.utime(tmp_path / key, (age, age))
    one_store = sum(file.stat().st_size for file in (tmp_path / "used").iterdir())
    monkeypatch.setattr(cache, "CACHE_BYTES", 2 * one_store)
    cache.cached("used", never, ENCODER, tmp_path)
    cache.cached("new", two_slices, ENCODER, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["new", "used"]
    shutil.rmtree(tmp_path / "used")
