"""Losses of tokens: each from outputs and targets to the mean over the tokens of each row, `(rows,)` float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from kft.losses import row_losses

IGNORED = -1
"""The target of tokens that do not count."""
IMPOSSIBLE = -1e9


def tag_crossentropy(logits: Any, tags: Any, focal_gamma: float = 0.0) -> Any:
    """Mean cross-entropy of a row's tokens that have a class: `(rows,)`.

    Args:
        logits: `(rows, tokens, classes)`.
        tags: `(rows, tokens)` class ids; -1 for tokens that do not count.
        focal_gamma: As of `row_losses.crossentropy`.
    """
    targets = ops.cast(tags, "int32")
    is_read = ops.cast(targets >= 0, "float32")
    losses = row_losses.crossentropy(logits, ops.maximum(targets, 0), focal_gamma=focal_gamma)
    return ops.sum(losses * is_read, axis=-1) / ops.maximum(ops.sum(is_read, axis=-1), 1.0)


def token_crossentropy(logits: Any, tokens: Any) -> Any:
    """Mean cross-entropy of a row's tokens, for vocabularies too large for one-hot targets: `(rows,)`.

    Args:
        logits: `(rows, tokens, vocabulary)`.
        tokens: `(rows, tokens)` ids; -1 for those that do not count.
    """
    targets = ops.cast(tokens, "int32")
    counts = ops.cast(targets >= 0, "float32")
    losses = ops.sparse_categorical_crossentropy(ops.maximum(targets, 0), ops.cast(logits, "float32"), from_logits=True)
    return ops.sum(losses * counts, axis=-1) / ops.maximum(ops.sum(counts, axis=-1), 1.0)


def span_crossentropy(logits: Any, places: Any) -> Any:
    """Mean of the cross-entropies over the tokens of where a span begins and where it ends: `(rows,)`.

    Padding is none of the tokens, so that a row costs the same however far its batch is padded.

    Args:
        logits: `(rows, tokens, 2)`.
        places: `(rows, 3)`: the first token, the last one, and how many tokens the row has.
    """
    places = ops.cast(places, "int32")
    is_token = ops.arange(ops.shape(logits)[1], dtype="int32")[None, :] < places[:, 2:]  # (rows, tokens)
    logits = ops.where(is_token[:, :, None], ops.cast(logits, "float32"), IMPOSSIBLE)
    log_probs = ops.log_softmax(logits, axis=1)  # (rows, tokens, 2)
    one_hot = ops.one_hot(places[:, :2], ops.shape(logits)[1])  # (rows, 2, tokens)
    return -ops.sum(one_hot * ops.transpose(log_probs, (0, 2, 1)), axis=(1, 2)) / 2.0


def num_tokens(name: str) -> Any:
    """A term's `count`: the tokens of each row that have a target of this name, which is aligned with the tokens."""

    def count(targets: Any, store: Any) -> np.ndarray:
        aligned = targets[name]
        return np.add.reduceat(np.append(aligned.values >= 0, 0), store.offsets[aligned.group][:-1])

    return count
