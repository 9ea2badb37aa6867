import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data import packing
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
        targets = packed.targets_of(Aligned(packed.ids["target_ids"], pad=0), Batch(np.array([line]), room))
        np.testing.assert_array_equal(targets, -batch["token_ids"])
        np.testing.assert_array_equal(batch["padding_mask"], batch["row_ids"] > 0)
        for number, text in enumerate(packed.sources(np.array([line])).tolist(), 1):
            (places,) = np.nonzero(batch["row_ids"][0] == number)
            assert np.all(np.diff(places) == 1)
            found[text] = batch["token_ids"][0, places].tolist()
        assert batch["row_ids"].max() == number
    for row, text in enumerate(store.texts.tolist()):
        begin, end = store.offsets[""][row : row + 2]
        assert found[text] == store.ids["token_ids"][begin:end].tolist()


def test_few_places_stay_empty():
    lengths = np.random.default_rng(0).integers(5, 60, 3000)
    lines = packing.best_fit(lengths, 128)
    assert lengths.sum() / (len(lines) * 128) > 0.99
    assert all(lengths[line].sum() <= 128 for line in lines)


def test_more_rows_than_a_slice_are_all_there():
    lengths = np.random.default_rng(1).integers(1, 9, 3000)
    store = store_of(lengths)
    packed = packing.pack(store, 16)
    assert sorted(packed.ids["token_ids"].tolist()) == store.ids["token_ids"].tolist()
    np.testing.assert_array_equal(packed.ids["target_ids"], -packed.ids["token_ids"])
