"""Features of any dtype and shape on disk."""

import os
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from kft.data import cache
from kft.text.encoded import Encoded


def never():
    raise AssertionError("the tokens are made again")


def zeroed(name):
    return lambda folder: (folder / name).write_bytes(bytes((folder / name).stat().st_size))


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-4])


WIDE = SimpleNamespace(pad_values={"hidden": 0.5, "mask": 0}, mask_names=["mask"])


def wide_slices(dtype, of_rows=True):
    """Five texts in two slices: values of three numbers for each token, and pairs of numbers for each row."""
    random = np.random.default_rng(0)
    for lengths in ([3, 1], [2, 2, 4]):
        count = len(lengths)
        hidden = random.normal(size=(count, max(lengths), 3)).astype(dtype)
        row_features = {"pooled": random.normal(size=(count, 2, 2)).astype(dtype)} if of_rows else {}
        yield Encoded({"hidden": hidden}, {"": np.array(lengths)}, np.arange(count), row_features)


def bfloat16_slices():
    return wide_slices(ml_dtypes.bfloat16)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.int8, np.bool_])
def test_features_of_any_dtype_and_shape_come_back_as_they_were_written(dtype, tmp_path):
    made = list(wide_slices(dtype))
    for slices in (lambda: iter(made), never):
        found = cache.cached("key", slices, WIDE, tmp_path, num_texts=5)
        assert all(isinstance(each, np.memmap) for each in (found.features["hidden"], found.row_features["pooled"]))
        batch = found.batch(np.array([4, 0]), 5)
        assert {name: (each.dtype, each.shape) for name, each in batch.items()} == {
            "hidden": (dtype, (2, 5, 3)),
            "pooled": (dtype, (2, 2, 2)),
            "mask": (np.int32, (2, 5)),
        }
        np.testing.assert_array_equal(batch["hidden"][0, :4], made[1].features["hidden"][2])
        np.testing.assert_array_equal(batch["hidden"][1, :3], made[0].features["hidden"][0])
        assert (batch["hidden"][1, 3:] == np.array(0.5, dtype)).all()
        np.testing.assert_array_equal(batch["pooled"][0], made[1].row_features["pooled"][2])


@pytest.mark.parametrize("damage", [zeroed, cut], ids=["zeroed", "cut"])
@pytest.mark.parametrize("name", ["hidden.bfloat16", "pooled.bfloat16"])
def test_damaged_features_are_made_again(damage, name, tmp_path):
    cache.cached("key", bfloat16_slices, WIDE, tmp_path)
    expected = cache.cached("key", bfloat16_slices, WIDE, None)
    damage(name)(tmp_path / "key")
    notes = []
    again = cache.cached(
        "key", bfloat16_slices, WIDE, tmp_path, note=notes.append, content="features of the frozen layers"
    )
    assert len(notes) == 1 and notes[0].endswith("The features of the frozen layers are made again.")
    np.testing.assert_array_equal(again.features["hidden"], expected.features["hidden"])
    np.testing.assert_array_equal(again.row_features["pooled"], expected.row_features["pooled"])


@pytest.mark.parametrize("changed", [{"dtype": np.float32}, {"of_rows": False}], ids=["dtype", "names"])
def test_slices_whose_features_differ_are_refused_and_leave_nothing(changed, tmp_path):
    other = wide_slices(**{"dtype": np.float16, **changed})
    with pytest.raises(ValueError, match="expected .* as in the first"):
        cache.cached("key", lambda: iter([*wide_slices(np.float16), *other]), WIDE, tmp_path)
    assert os.listdir(tmp_path) == []


def test_values_that_are_no_numbers_are_refused(tmp_path):
    strings = Encoded({"hidden": np.array([["a"]])}, {"": np.array([1])}, np.arange(1))
    with pytest.raises(ValueError, match="found values of <U1, expected numbers"):
        cache.cached("key", lambda: iter([strings]), WIDE, tmp_path)


def test_features_of_rows_alone_need_no_tokens(tmp_path):
    pooled = np.arange(6, dtype=np.float32).reshape(3, 2)
    alone = Encoded({}, {}, np.arange(3), {"pooled": pooled})
    for slices in (lambda: iter([alone]), never):
        found = cache.cached("key", slices, SimpleNamespace(pad_values={}, mask_names=()), tmp_path, num_texts=3)
        assert found.lengths.tolist() == [1, 1, 1]
        np.testing.assert_array_equal(found.batch(np.array([2, 0]), 1)["pooled"], pooled[[2, 0]])
