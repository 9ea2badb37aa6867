from types import SimpleNamespace

import keras
import ml_dtypes
import numpy as np
import pytest

from kft.data import feed as feeds
from kft.data import store
from kft.data.batches import Batch
from kft.data.streams import Stream, totals_of
from kft.text.encoded import Encoded

INPUTS = ["token_ids", "padding_mask"]
ENCODER = SimpleNamespace(pad_values={"token_ids": 0, "segment_ids": 0, "padding_mask": 0}, mask_names=["padding_mask"])
PLAN = [Batch(np.array([1, 2]), 2), Batch(np.array([0, 0]), 4, num_padding=1)]
TARGETS = np.array([10.0, 11.0, 12.0], np.float32)


def encoded(features, lengths):
    return Encoded(features, {"": np.array(lengths)}, np.arange(len(lengths)))


@pytest.fixture
def rows():
    ids = np.array([[1, 2, 3], [4, 0, 0], [5, 6, 0]])
    return store.in_memory(encoded({"token_ids": ids, "segment_ids": ids}, [3, 1, 2]), ENCODER)


def fed(rows, plan=PLAN, targets=TARGETS, weights=None, totals=None, counts=None, **settings):
    """A feed of one stream and one term, and its targets and weights."""
    weights = np.ones(len(rows), np.float32) if weights is None else weights
    counts = np.ones(len(rows), np.float32) if counts is None else counts
    stream = Stream(rows, {"number": targets}, {"error": weights}, {"error": counts})
    totals = totals_of(plan, stream.term_weights("error")) if totals is None else totals
    steps = [{"train": batch} for batch in plan]
    terms = {"error": "train"}
    feed = feeds.to_train({"train": stream}, steps, INPUTS, {"error": totals}, terms, epoch=0, **settings)
    return feed, [
        (truth["train"]["number"], shares["error"]) for _, truth, shares in (feed[i] for i in range(len(feed)))
    ]


def test_batches_hold_what_the_plan_says(rows):
    feed, made = fed(rows)
    assert len(feed) == 2
    assert {name: values.tolist() for name, values in feed[0][0]["train"].items()} == {
        "token_ids": [[4, 0], [5, 6]],
        "padding_mask": [[1, 0], [1, 1]],
    }
    targets, weights = made[0]
    assert targets.tolist() == [11, 12]
    assert weights.tolist() == [0.5, 0.5]


def test_rows_that_fill_a_batch_weigh_nothing(rows):
    targets, weights = fed(rows)[1][1]
    assert targets.tolist() == [10, 10]
    assert weights.tolist() == [1, 0]


@pytest.mark.parametrize(("pieces", "multiple_of"), [(1, 1), (2, 1), (4, 1), (2, 2), (3, 2)])
def test_the_sum_over_the_pieces_is_the_mean_of_the_batch(pieces, multiple_of):
    rows = store.in_memory(encoded({"token_ids": np.ones((5, 1), int)}, [1] * 5), ENCODER)
    losses, weights = np.array([1.0, 2, 4, 8, 16]), np.array([1, 3, 1, 2, 5], np.float32)
    feed, made = fed(rows, [Batch(np.arange(5), 1)], losses, weights, pieces=pieces, multiple_of=multiple_of)
    assert len(feed) == pieces
    assert sum((targets * shares).sum() for targets, shares in made) == pytest.approx(
        np.average(losses, weights=weights)
    )
    assert {len(targets) % multiple_of for targets, _ in made} == {0}


def test_row_weights_are_kept_and_not_written_over(rows):
    weights = np.array([2, 3, 4], np.float32)
    made = fed(rows, weights=weights)[1]
    assert made[0][1].tolist() == pytest.approx([3 / 7, 4 / 7])
    assert made[1][1].tolist() == [1, 0]
    assert weights.tolist() == [2, 3, 4]


def test_rows_weigh_what_they_are_the_mean_of(rows):
    made = fed(rows, weights=np.array([1, 1, 2], np.float32), counts=np.array([5, 3, 1], np.float32))[1]
    assert made[0][1].tolist() == pytest.approx([3 / 5, 2 / 5])


def test_weights_are_divided_by_what_all_batches_of_an_update_count(rows):
    made = fed(rows, weights=np.array([2, 3, 4], np.float32), totals=np.array([10.0, 20.0]))[1]
    assert made[0][1].tolist() == pytest.approx([0.3, 0.4])
    assert made[1][1].tolist() == pytest.approx([0.1, 0])


def test_to_predict_there_are_only_features(rows):
    (features,) = feeds.to_predict(rows, PLAN, INPUTS)[0]
    assert set(features) == set(INPUTS)


def test_to_evaluate_rows_that_fill_a_batch_are_told(rows):
    stream = Stream(rows, {"number": TARGETS}, {}, {})
    (given,) = feeds.to_evaluate(stream, PLAN, INPUTS)[1]
    assert given["is_real"].tolist() == [True, False] and given["targets"]["number"].tolist() == [10, 10]


def test_keras_trains_on_hidden_states_and_pooled_ones_in_bfloat16():
    hidden, pooled = np.ones((3, 2, 4), ml_dtypes.bfloat16), np.ones((3, 4), ml_dtypes.bfloat16)
    encoded_rows = encoded({"hidden": hidden}, [2, 1, 2])._replace(row_features={"pooled": pooled})
    rows = store.in_memory(encoded_rows, SimpleNamespace(pad_values={}, mask_names=()))
    inputs = {
        "hidden": keras.Input((None, 4), dtype="bfloat16", name="hidden"),
        "pooled": keras.Input((4,), dtype="bfloat16", name="pooled"),
    }
    summed = keras.layers.Add()([keras.ops.sum(inputs["hidden"], axis=1), inputs["pooled"]])
    network = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones", dtype="float32")(summed))
    planned = [Batch(np.array([1, 0]), 3), Batch(np.array([2]), 2)]
    feed = feeds.for_keras(feeds.to_predict(rows, planned, list(inputs)))
    assert network.predict(feed, verbose=0).tolist() == [[8], [12], [12]]


def test_keras_gets_the_same_batches_in_open_shapes(rows):
    feed, _ = fed(rows)
    ds = feeds.for_keras(feed)
    assert len(ds) == 2
    for given, expected in zip(ds, (feed[i] for i in range(2)), strict=True):
        for one, other in zip(given, expected, strict=True):
            keras.tree.map_structure(np.testing.assert_array_equal, keras.tree.map_structure(np.asarray, one), other)
