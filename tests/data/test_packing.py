from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data import blocks, packing
from kft.data.batches import Batch
from kft.data.store import Aligned, Store


def store_of(lengths):
    """Rows whose tokens are numbered through, with targets beside them."""
    total = int(np.sum(lengths))
    ids = {"token_ids": np.arange(1, total + 1, dtype=np.int32), "target_ids": -np.arange(1, total + 1, dtype=np.int32)}
    offsets = {"": np.append(0, np.cumsum(lengths)).astype(np.int64)}
    texts = np.arange(len(lengths), dtype=np.int64) * 2
    return Store(ids, offsets, texts, {"token_ids": 0, "padding_mask": 0}, ("padding_mask",))


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(9, 20))
def test_each_row_lies_whole_on_one_line_beside_its_targets(lengths, room):
    store = store_of(lengths)
    packed = packing.pack(store, room)
    assert packed.lengths.max() <= room
    assert sorted(packed.sources(np.arange(len(packed))).tolist()) == store.texts.tolist()
    found = {}
    for line in range(len(packed)):
        batch = packed.batch(np.array([line]), room)
        targets = packed.targets_of(Aligned(packed.features["target_ids"], pad=0), Batch(np.array([line]), room))
        np.testing.assert_array_equal(targets, -batch["token_ids"])
        np.testing.assert_array_equal(batch["padding_mask"], batch["row_ids"] > 0)
        for number, text in enumerate(packed.sources(np.array([line])).tolist(), 1):
            (places,) = np.nonzero(batch["row_ids"][0] == number)
            assert np.all(np.diff(places) == 1)
            found[text] = batch["token_ids"][0, places].tolist()
        assert batch["row_ids"].max() == number
    for row, text in enumerate(store.texts.tolist()):
        begin, end = store.offsets[""][row : row + 2]
        assert found[text] == store.features["token_ids"][begin:end].tolist()


def test_values_of_any_dtype_and_shape_move_with_their_tokens():
    rows = store_of([2, 3, 1])
    hidden = rows.features["token_ids"][:, None] * np.array([1, 0.5], np.float16)
    packed = packing.pack(replace(rows, features={**rows.features, "hidden": hidden.astype(np.float16)}), 4)
    assert packed.features["hidden"].dtype == np.float16
    np.testing.assert_array_equal(packed.features["hidden"][:, 0], packed.features["token_ids"])


def test_lines_of_several_rows_have_no_features_of_rows():
    rows = replace(store_of([2, 3]), row_features={"pooled": np.ones((2, 4))})
    with pytest.raises(ValueError, match="pooled"):
        packing.pack(rows, 8)
    with pytest.raises(ValueError, match="pooled"):
        blocks.cut(rows, 2, "train")


def test_few_places_stay_empty():
    lengths = np.random.default_rng(0).integers(5, 60, 3000)
    lines = packing.best_fit(lengths, 128)
    assert lengths.sum() / (len(lines) * 128) > 0.99
    assert all(lengths[line].sum() <= 128 for line in lines)


def test_more_rows_than_a_slice_are_all_there():
    lengths = np.random.default_rng(1).integers(1, 9, 3000)
    store = store_of(lengths)
    packed = packing.pack(store, 16)
    assert sorted(packed.features["token_ids"].tolist()) == store.features["token_ids"].tolist()
    np.testing.assert_array_equal(packed.features["target_ids"], -packed.features["token_ids"])
