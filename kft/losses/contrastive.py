"""Losses that compare texts with each other: `(rows,)` float32 each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

SCALE = 20.0
MARGIN = 0.2
NEVER = -1e9


def _rows(batch: Any) -> Any:
    """`(rows, rows)` true where row and column are the same."""
    places = ops.arange(ops.shape(batch)[0])
    return ops.equal(places[:, None], places[None, :])


def _alike(first: Any, second: Any) -> Any:
    """`(rows, rows)` true where an id of the first equals one of the second, `(rows,)` each."""
    return ops.equal(first[:, None], second[None, :])


def ranking(vectors: Sequence[Any], ids: Any, is_real: Any, scale: float = SCALE) -> Any:
    """Cross-entropy of finding a text's own pair among those of the batch, by cosine, in both directions: `(rows,)`.

    Every other pair of the batch is a negative, unless it has the same text or pair. Where rows have a text of their
    own that does not belong, those of all rows are negatives besides.

    Args:
        vectors: `(rows, width)` of length 1 for text and pair, and, if there is one, the text that does not belong.
        ids: `(rows, len(vectors))` whole numbers, the same where texts are.
        is_real: `(rows,)` bool. The others fill the batch up and are not compared with.
        scale: What cosines are multiplied by.

    References:
        Henderson et al., 2017, sec. 4.4, https://arxiv.org/abs/1705.00652; both directions: Radford et al., 2021,
        fig. 3, https://arxiv.org/abs/2103.00020
    """
    vectors = [ops.cast(each, "float32") for each in vectors]
    text, pair = ids[:, 0], ids[:, 1]
    own = _rows(text)
    cosines = scale * ops.matmul(vectors[0], ops.transpose(vectors[1]))  # (texts, pairs)
    right = ops.sum(ops.where(own, cosines, 0.0), axis=-1)
    is_right = _alike(text, text) | _alike(pair, pair) | _alike(text, pair)
    is_apart = ~(is_real[:, None] & is_real[None, :])
    pairs = ops.where((is_right | is_apart) & ~own, NEVER, cosines)
    texts = ops.transpose(pairs)
    if len(vectors) > 2:
        negatives = scale * ops.matmul(vectors[0], ops.transpose(vectors[2]))
        is_right = _alike(text, ids[:, 2]) | _alike(pair, ids[:, 2])
        pairs = ops.concatenate([pairs, ops.where(is_right | is_apart, NEVER, negatives)], axis=-1)
    return (ops.logsumexp(pairs, axis=-1) + ops.logsumexp(texts, axis=-1)) / 2.0 - right


def triplet(vectors: Sequence[Any], margin: float = MARGIN) -> Any:
    """How much the pair fails to be nearer than the negative by a margin, in squared distance: `(rows,)`.

    Args:
        vectors: `(rows, width)` of length 1 for text, pair and negative.
        margin: Between the squared distances.

    Reference:
        Schroff et al., 2015, eq. 3, https://arxiv.org/abs/1503.03832
    """
    text, pair, negative = (ops.cast(each, "float32") for each in vectors)
    # |a - b|^2 = 2 - 2 ab between vectors of length 1.
    return ops.relu(2.0 * ops.sum(text * (negative - pair), axis=-1) + margin)


def cosine_error(vectors: Sequence[Any], numbers: Any, low: float = 0.0, high: float = 1.0) -> Any:
    """Squared difference between the cosine of two texts and their number: `(rows,)`.

    Args:
        vectors: `(rows, width)` of length 1 for text and pair.
        numbers: `(rows,)`.
        low: The number that stands for cosine 0.
        high: The number that stands for cosine 1.

    Reference:
        Reimers and Gurevych, 2019, sec. 3, https://arxiv.org/abs/1908.10084
    """
    text, pair = (ops.cast(each, "float32") for each in vectors)
    wanted = (ops.cast(numbers, "float32") - low) / (high - low)
    return ops.square(ops.sum(text * pair, axis=-1) - wanted)


def supervised_contrast(vectors: Any, labels: Any, is_real: Any, temperature: float = 0.1) -> Any:
    """Cross-entropy of finding the rows of one's own class among those of the batch, by cosine: `(rows,)`.

    A row that has no other of its class in the batch costs nothing.

    Args:
        vectors: `(rows, width)` of any length.
        labels: `(rows,)` class ids.
        is_real: `(rows,)` bool. The others fill the batch up and are not compared with.
        temperature: What cosines are divided by.

    Reference:
        Khosla et al., 2020, eq. 2, https://arxiv.org/abs/2004.11362
    """
    vectors = ops.normalize(ops.cast(vectors, "float32"), axis=-1)
    is_left_out = _rows(labels) | ~is_real[None, :]
    cosines = ops.where(is_left_out, NEVER, ops.matmul(vectors, ops.transpose(vectors)) / temperature)
    costs = ops.logsumexp(cosines, axis=-1, keepdims=True) - cosines  # (rows, rows)
    is_right = _alike(labels, labels) & ~is_left_out
    num_right = ops.sum(ops.cast(is_right, "float32"), axis=-1)
    return ops.sum(ops.where(is_right, costs, 0.0), axis=-1) / ops.maximum(num_right, 1.0)
