import itertools

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.evaluation import entities
from kft.text import tag_sequences

CLASSES = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def best_by_hand(logits):
    def is_fine(path):
        before = "O"
        for name in (CLASSES[i] for i in path):
            if name.startswith("I-") and before[2:] != name[2:]:
                return False
            before = name
        return True

    paths = [p for p in itertools.product(range(len(CLASSES)), repeat=len(logits)) if is_fine(p)]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return max(paths, key=lambda path: sum(log_probs[i, k] for i, k in enumerate(path)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_decoding_finds_the_best_allowed_sequence(seed, lengths):
    random = np.random.default_rng(seed)
    logits = random.normal(scale=3, size=(len(lengths), max(lengths), len(CLASSES))).astype(np.float32)
    found = tag_sequences._decoded(tf.constant(logits), tf.constant(lengths), CLASSES).numpy()
    for row, length in enumerate(lengths):
        assert tuple(found[row, :length]) == best_by_hand(logits[row, :length])
        assert not found[row, length:].any()


def test_bioes_tags_are_written_and_read():
    ids = tf.constant([[1, 2, 0, 3, 1, 0]])
    is_word = tf.sequence_mask([5], 6)
    written = [name.decode() for name in tag_sequences._written(ids, is_word, CLASSES, "bioes").numpy()[0][:5]]
    assert written == ["B-LOC", "E-LOC", "O", "S-PER", "S-LOC"]
    assert entities.entities(written) == [("LOC", 0, 1), ("PER", 3, 3), ("LOC", 4, 4)]
