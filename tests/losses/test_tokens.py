import numpy as np
import pytest

from kft.data.store import Aligned
from kft.losses.tokens import num_tokens, tag_crossentropy, token_crossentropy


def test_loss_is_the_mean_over_words_whatever_the_batch():
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 3, 4)).astype(np.float32)
    targets = np.array([[1, -1, 3], [-1, 0, -1]])
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    each = [-log_probs[0, 0, 1], -log_probs[0, 2, 3], -log_probs[1, 1, 0]]
    weights = np.array([2, 1], np.float32)
    found = np.sum(np.asarray(tag_crossentropy(logits, targets)) * weights / weights.sum())
    assert float(found) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_row_weighs_as_much_as_it_has_words():
    class Tokens:
        offsets = {"": np.array([0, 2, 5, 6])}

    aligned = Aligned(np.array([0, -1, 2, 2, 1, -1]))
    assert num_tokens("tags")({"tags": aligned}, Tokens()).tolist() == [1, 3, 0]


def test_loss_counts_the_response_only():
    logits = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    targets = np.array([[-1, 3, 1, -1], [-1, -1, 0, 4]], np.int32)
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    by_row = [-(log_probs[0, 1, 3] + log_probs[0, 2, 1]) / 2, -(log_probs[1, 2, 0] + log_probs[1, 3, 4]) / 2]
    weights = np.array([2.0, 1.0], np.float32)
    found = np.sum(np.asarray(token_crossentropy(logits, targets)) * weights)
    assert float(found) == pytest.approx(2 * by_row[0] + by_row[1], rel=1e-5)
