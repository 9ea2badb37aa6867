import os
from types import SimpleNamespace

import numpy as np
import pytest

from kft.data import store
from kft.data.store import Aligned
from kft.text.encoded import Encoded

ENCODER = SimpleNamespace(pad_values={"token_ids": 9, "segment_ids": 0, "padding_mask": 0}, mask_names=["padding_mask"])
ROWS = [[1, 2, 3], [4], [5, 6, 7, 8], [1, 1]]


def slice_of(rows):
    """Features of these rows as an encoder gives them: padded, with their lengths."""
    lengths = np.array([len(row) for row in rows])
    ids = np.full((len(rows), lengths.max()), 9, np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    features = {"token_ids": ids, "segment_ids": np.where(ids == 9, 0, ids + 1)}
    return Encoded(features, {"": lengths}, np.arange(len(rows)))


def two_slices():
    return iter([slice_of(ROWS[:2]), slice_of(ROWS[2:])])


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_ragged_rows_come_back_padded_and_masked(place, tmp_path):
    written = (
        store.cached("key", two_slices, ENCODER, tmp_path)
        if place == "disk"
        else store.in_memory(slice_of(ROWS), ENCODER)
    )
    assert len(written) == 4
    assert written.lengths.tolist() == [3, 1, 4, 2]
    batch = written.batch(np.array([2, 1, 1]), 5)
    assert batch["token_ids"].tolist() == [[5, 6, 7, 8, 9], [4, 9, 9, 9, 9], [4, 9, 9, 9, 9]]
    assert batch["segment_ids"].tolist() == [[6, 7, 8, 9, 0], [5, 0, 0, 0, 0], [5, 0, 0, 0, 0]]
    assert batch["padding_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_ids_on_disk_are_mapped_not_read(tmp_path):
    written = store.cached("key", two_slices, ENCODER, tmp_path)
    assert all(isinstance(ids, np.memmap) for ids in written.ids.values())


def test_second_call_reads_what_the_first_wrote(tmp_path):
    calls = []

    def counted():
        calls.append(1)
        return two_slices()

    first = store.cached("key", counted, ENCODER, tmp_path)
    second = store.cached("key", counted, ENCODER, tmp_path)
    other = store.cached("other", counted, ENCODER, tmp_path)
    assert len(calls) == 2
    assert second.ids["token_ids"].tolist() == first.ids["token_ids"].tolist() == other.ids["token_ids"].tolist()


def test_writing_that_was_cut_off_is_never_used(tmp_path):
    def cut_off():
        yield slice_of(ROWS[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.cached("key", cut_off, ENCODER, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(store.cached("key", two_slices, ENCODER, tmp_path)) == 4


def test_folder_without_its_last_file_is_written_anew(tmp_path):
    store.cached("key", two_slices, ENCODER, tmp_path)
    (tmp_path / "key" / "meta.json").unlink()
    (tmp_path / "key" / "token_ids.int32").write_bytes(b"")
    assert store.cached("key", two_slices, ENCODER, tmp_path).lengths.tolist() == [3, 1, 4, 2]


def test_least_recently_used_store_leaves_once_the_cache_is_full(tmp_path, monkeypatch):
    for age, key in enumerate(["used", "unused"]):
        store.cached(key, two_slices, ENCODER, tmp_path)
        os.utime(tmp_path / key, (age, age))
    one_store = sum(file.stat().st_size for file in (tmp_path / "used").iterdir())
    monkeypatch.setattr(store, "CACHE_BYTES", 2 * one_store)
    store.cached("used", two_slices, ENCODER, tmp_path)
    store.cached("new", two_slices, ENCODER, tmp_path)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["new", "used"]


def test_slices_cover_all_rows_in_order():
    assert list(store.sliced([["a", "b", "c"], ["x", "y", "z"]], 3, size=2)) == [
        [["a", "b"], ["x", "y"]],
        [["c"], ["z"]],
    ]


def test_windows_stay_with_their_texts(tmp_path):
    whole = slice_of(ROWS)
    windows = [whole._replace(texts=np.array([0, 0, 1, 2])), slice_of(ROWS[:1])]
    written = store.cached("key", lambda: iter(windows), ENCODER, tmp_path)
    assert written.texts.tolist() == [0, 0, 1, 2, 3]
    part = written.part(1, 4)
    assert part.texts.tolist() == [0, 1, 2]
    assert part.lengths.tolist() == [4, 2, 3]
    assert part.batch(np.array([2, 1]), 3, {"token_ids"})["token_ids"].tolist() == [[1, 2, 3], [1, 1, 9]]


def test_groups_have_lengths_of_their_own():
    features = {"encoder_ids": np.array([[1, 2, 3], [4, 0, 0]]), "decoder_ids": np.array([[5], [6]])}
    encoded = Encoded(features, {"encoder_": np.array([3, 1]), "decoder_": np.array([1, 1])}, np.arange(2))
    masks = SimpleNamespace(pad_values={}, mask_names=["encoder_mask", "decoder_mask"])
    rows = store.in_memory(encoded, masks)
    assert rows.lengths.tolist() == [3, 1]
    batch = rows.batch(np.array([1, 0]), 40)
    assert batch["encoder_ids"].shape == batch["decoder_mask"].shape == (2, 32)
    assert batch["decoder_mask"].sum(axis=1).tolist() == [1, 1]
    assert batch["encoder_mask"].sum(axis=1).tolist() == [1, 3]
    aligned = rows.padded(Aligned(np.array([7, 8]), "decoder_"), np.array([1, 0]), 3)
    assert aligned.tolist() == [[8, -1, -1], [7, -1, -1]]
