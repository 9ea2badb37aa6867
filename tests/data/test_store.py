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


def test_ragged_rows_come_back_padded_and_masked():
    rows = store.in_memory(slice_of(ROWS), ENCODER)
    assert len(rows) == 4
    assert rows.lengths.tolist() == [3, 1, 4, 2]
    batch = rows.batch(np.array([2, 1, 1]), 5)
    assert batch["token_ids"].tolist() == [[5, 6, 7, 8, 9], [4, 9, 9, 9, 9], [4, 9, 9, 9, 9]]
    assert batch["segment_ids"].tolist() == [[6, 7, 8, 9, 0], [5, 0, 0, 0, 0], [5, 0, 0, 0, 0]]
    assert batch["padding_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_values_of_any_shape_are_padded_and_sliced_as_ids_are():
    hidden = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    pooled = np.array([[1.5, 2], [3, 4]], np.float16)
    encoded = Encoded({"hidden": hidden}, {"": np.array([1, 3])}, np.arange(2), {"pooled": pooled})
    rows = store.in_memory(encoded, SimpleNamespace(pad_values={"hidden": -0.5}, mask_names=["padding_mask"]))
    assert rows.features["hidden"].shape == (4, 4) and rows.names == ["hidden", "pooled"]
    batch = rows.batch(np.array([1, 0]), 4)
    assert batch["hidden"].dtype == np.float32
    np.testing.assert_array_equal(batch["hidden"][0, :3], hidden[1])
    np.testing.assert_array_equal(batch["hidden"][1, :1], hidden[0, :1])
    assert (batch["hidden"][0, 3:] == -0.5).all() and (batch["hidden"][1, 1:] == -0.5).all()
    assert batch["padding_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(batch["pooled"], pooled[::-1])
    part = rows.part(1, 2)
    np.testing.assert_array_equal(part.batch(np.array([0]), 3)["hidden"], hidden[1:])
    assert part.batch(np.array([0]), 3, {"pooled"}).keys() == {"pooled"}
    np.testing.assert_array_equal(part.row_features["pooled"], pooled[1:])


def test_features_of_rows_have_one_value_each_and_names_of_their_own():
    encoded = slice_of(ROWS)._replace(row_features={"pooled": np.ones((3, 2))})
    with pytest.raises(ValueError, match="pooled: found values of 3 rows, expected 4"):
        store.in_memory(encoded, ENCODER)
    with pytest.raises(ValueError, match="token_ids: found a feature of rows and one of tokens"):
        store.in_memory(encoded._replace(row_features={"token_ids": np.ones(4)}), ENCODER)


def test_slices_cover_all_rows_in_order():
    assert list(store.sliced([["a", "b", "c"], ["x", "y", "z"]], 3, size=2)) == [
        [["a", "b"], ["x", "y"]],
        [["c"], ["z"]],
    ]


def test_windows_stay_with_their_texts():
    windows = store.in_memory(slice_of(ROWS)._replace(texts=np.array([0, 1, 1, 2])), ENCODER)
    part = windows.part(1, 3)
    assert part.texts.tolist() == [0, 0, 1]
    assert part.lengths.tolist() == [1, 4, 2]
    assert part.batch(np.array([2, 0]), 3, {"token_ids"})["token_ids"].tolist() == [[1, 1, 9], [4, 9, 9]]


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
