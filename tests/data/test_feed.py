from types import SimpleNamespace

import numpy as np
import pytest

from kft.data import store
from kft.data.batches import Batch
from kft.data.feed import Feed, for_keras
from kft.text.encoded import Encoded

INPUTS = ["token_ids", "padding_mask"]


def encoded(features, lengths):
    return Encoded(features, {"": np.array(lengths)}, np.arange(len(lengths)))


@pytest.fixture
def rows():
    encoder = SimpleNamespace(
        pad_values={"token_ids": 0, "segment_ids": 0, "padding_mask": 0}, mask_names=["padding_mask"]
    )
    ids = np.array([[1, 2, 3], [4, 0, 0], [5, 6, 0]])
    return store.in_memory(encoded({"token_ids": ids, "segment_ids": ids}, [3, 1, 2]), encoder)


PLAN = [Batch(np.array([1, 2]), 2), Batch(np.array([0, 0]), 4, num_padding=1)]
TARGETS = np.array([10.0, 11.0, 12.0], np.float32)


def test_batches_hold_what_the_plan_says(rows):
    feed = Feed(rows, PLAN, INPUTS, TARGETS)
    assert len(feed) == 2
    features, targets, weights = feed[0]
    assert {name: values.tolist() for name, values in features.items()} == {
        "token_ids": [[4, 0], [5, 6]],
        "padding_mask": [[1, 0], [1, 1]],
    }
    assert targets.tolist() == [11, 12]
    assert weights.tolist() == [0.5, 0.5]


def test_rows_that_fill_a_batch_weigh_nothing(rows):
    _, targets, weights = Feed(rows, PLAN, INPUTS, TARGETS)[1]
    assert targets.tolist() == [10, 10]
    assert weights.tolist() == [1, 0]


@pytest.mark.parametrize(("pieces", "multiple_of"), [(1, 1), (2, 1), (4, 1), (2, 2), (3, 2)])
def test_the_sum_over_the_pieces_is_the_mean_of_the_batch(pieces, multiple_of):
    encoder = SimpleNamespace(pad_values={"token_ids": 0, "padding_mask": 0}, mask_names=["padding_mask"])
    rows = store.in_memory(encoded({"token_ids": np.ones((5, 1), int)}, [1] * 5), encoder)
    losses, row_weights = np.array([1.0, 2, 4, 8, 16]), np.array([1, 3, 1, 2, 5], np.float32)
    feed = Feed(rows, [Batch(np.arange(5), 1)], INPUTS, losses, row_weights, pieces=pieces, multiple_of=multiple_of)
    assert len(feed) == pieces
    found = [(targets * weights).sum() for _, targets, weights in (feed[i] for i in range(pieces))]
    assert np.sum(found) == pytest.approx(np.average(losses, weights=row_weights))
    assert {len(targets) % multiple_of for _, targets, _ in (feed[i] for i in range(pieces))} == {0}


def test_row_weights_are_kept_and_not_written_over(rows):
    row_weights = np.array([2, 3, 4], np.float32)
    feed = Feed(rows, PLAN, INPUTS, TARGETS, row_weights)
    assert feed[0][2].tolist() == pytest.approx([3 / 7, 4 / 7])
    assert feed[1][2].tolist() == [1, 0]
    assert row_weights.tolist() == [2, 3, 4]


def test_weights_are_divided_by_what_all_batches_of_an_update_count(rows):
    row_weights = np.array([2, 3, 4], np.float32)
    feed = Feed(rows, PLAN, INPUTS, TARGETS, row_weights, totals=np.array([10.0, 20.0]))
    assert feed[0][2].tolist() == pytest.approx([0.3, 0.4])
    assert feed[1][2].tolist() == pytest.approx([0.1, 0])


def test_without_targets_there_are_only_features(rows):
    (features,) = Feed(rows, PLAN, INPUTS)[0]
    assert set(features) == set(INPUTS)


@pytest.mark.parametrize("targets", [TARGETS, None])
def test_keras_gets_the_same_batches_in_open_shapes(rows, targets):
    feed = Feed(rows, PLAN, INPUTS, targets)
    ds = for_keras(feed)
    assert len(ds) == 2
    for given, expected in zip(ds, feed, strict=False):
        for name, values in expected[0].items():
            np.testing.assert_array_equal(given[0][name], values)
        for given_part, expected_part in zip(given[1:], expected[1:], strict=True):
            np.testing.assert_array_equal(given_part, expected_part)
