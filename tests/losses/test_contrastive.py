import numpy as np
import pytest
import tensorflow as tf

from kft.losses import contrastive


def unit(random, *shape):
    vectors = random.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def log_softmax(row):
    return row - np.log(np.exp(row).sum())


@pytest.mark.parametrize("num_texts", [2, 3])
@pytest.mark.parametrize("is_graph", [False, True])
def test_ranking_loss_by_hand(num_texts, is_graph):
    random = np.random.default_rng(0)
    vectors = unit(random, 4, num_texts, 6)
    ids = np.arange(4 * num_texts).reshape(4, num_texts)
    cosines = 20 * vectors[:, 0] @ vectors[:, 1].T
    candidates = np.hstack([cosines, 20 * vectors[:, 0] @ vectors[:, 2].T]) if num_texts == 3 else cosines
    forward = [log_softmax(candidates[i])[i] for i in range(4)]
    backward = [log_softmax(cosines[:, i])[i] for i in range(4)]
    function = lambda y, *x: contrastive.ranking(x, y, tf.ones(4, tf.bool))  # noqa: E731
    columns = [tf.constant(vectors[:, number]) for number in range(num_texts)]
    found = (tf.function(function) if is_graph else function)(tf.constant(ids), *columns)
    assert float(tf.reduce_sum(found)) == pytest.approx(-(sum(forward) + sum(backward)) / 2, rel=1e-5)


def ranked(vectors, ids, **settings):
    """The loss of each row, `(rows,)`, from vectors `(rows, texts, width)`."""
    columns = [vectors[:, number].astype(np.float32) for number in range(vectors.shape[1])]
    return np.asarray(contrastive.ranking(columns, np.array(ids), np.ones(len(ids), bool), **settings))


def test_equal_texts_are_no_negatives_of_each_other():
    random = np.random.default_rng(1)
    pair = unit(random, 2, 2, 6)
    # Rows with one pair, with one text, or whose text is the other's pair have nothing left to be told from.
    for ids in ([[0, 1], [2, 1]], [[0, 1], [0, 2]]):
        np.testing.assert_allclose(ranked(pair, ids), 0, atol=1e-5)
    vectors = unit(random, 2, 2, 6)
    twice = np.concatenate([vectors, vectors[1:]])
    alone = ranked(vectors, [[0, 1], [2, 3]])
    repeated = ranked(twice, [[0, 1], [2, 3], [2, 3]])
    np.testing.assert_allclose(repeated[1:], [alone[1], alone[1]], rtol=1e-5)
    different = ranked(twice, [[0, 1], [2, 3], [4, 5]])
    assert different[1] > alone[1] + 0.1


def test_a_negative_that_is_right_for_another_row_is_left_out():
    random = np.random.default_rng(2)
    vectors = unit(random, 2, 3, 6)
    found = ranked(vectors, [[0, 1, 2], [3, 4, 1]], scale=1.0)
    every = ranked(vectors, [[0, 1, 2], [3, 4, 5]], scale=1.0)
    assert found[0] < every[0] and found[1] == pytest.approx(every[1])


def test_triplet_and_cosine_loss_by_hand():
    random = np.random.default_rng(3)
    a, p, n = unit(random, 5, 6), unit(random, 5, 6), unit(random, 5, 6)
    expected = np.maximum(0, ((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + 0.2)
    np.testing.assert_allclose(contrastive.triplet([a, p, n]), expected, atol=1e-5)
    numbers = np.array([1, 2, 3, 4, 5], np.float32)
    expected = ((a * p).sum(1) - (numbers - 1) / 4) ** 2
    np.testing.assert_allclose(contrastive.cosine_error([a, p], numbers, 1.0, 5.0), expected, atol=1e-5)
