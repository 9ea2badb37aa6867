"""Losses that compare the texts of a batch with each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

SCALE = 20.0
MARGIN = 0.2
NEVER = -1e9


def _rows(batch: Any) -> Any:
    """`(batch, batch)` true where row and column are the same."""
    places = ops.arange(ops.shape(batch)[0])
    return ops.equal(places[:, None], places[None, :])


def _alike(first: Any, second: Any) -> Any:
    """`(batch, batch)` true where an id of the first equals one of the second, `(batch,)` each."""
    return ops.equal(first[:, None], second[None, :])


class InBatchLoss(keras.losses.Loss):
    """A loss that compares the rows of a batch with each other, those that have no weight left out.

    Rows without weight fill batches up. Without that they would be compared with, as copies of a row that is there.

    Args:
        name: Of the loss.
        compared: (targets, outputs, `(batch,)` whether each row is there) to the loss of each row, compared with those
            that are there: `(batch,)`.

    Call arguments:
        y_true: As `compared` takes it, with a leading axis of rows.
        y_pred: Likewise.
        sample_weight: `(batch,)`, or None where all rows are there.
    """

    def __init__(self, name: str, compared: Callable[[Any, Any, Any], Any]):
        super().__init__(name=name, reduction="sum")
        self.compared = compared

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        weights = ops.ones_like(y_pred[:, 0]) if sample_weight is None else sample_weight
        return super().__call__((y_true, ops.cast(weights, "float32") > 0), y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        targets, is_there = y_true
        return self.compared(targets, y_pred, ops.cast(is_there, "bool"))


def compares_rows(loss: Any) -> bool:
    """Whether what a row costs depends on the rows beside it."""
    return isinstance(loss, InBatchLoss)


def ranking_loss(num_texts: int, scale: float = SCALE) -> InBatchLoss:
    """Cross-entropy of finding a text's own pair among those of the batch, by cosine, in both directions.

    Every other pair of the batch is a negative, unless it has the same text or pair. Where rows have a text of their
    own that does not belong, those of all rows are negatives besides.

    Args:
        num_texts: 2 for text and pair; 3 where the third is one that does not belong.
        scale: What cosines are multiplied by.

    Call arguments:
        y_true: `(batch, num_texts)` whole numbers, the same where texts are.
        y_pred: `(batch, num_texts * width)`, vectors of length 1, those of a row one after the other.

    References:
        Henderson et al., 2017, sec. 4.4, https://arxiv.org/abs/1705.00652; both directions: Radford et al., 2021,
        fig. 3, https://arxiv.org/abs/2103.00020
    """

    def compared(y_true: Any, y_pred: Any, is_there: Any) -> Any:
        vectors = ops.split(ops.cast(y_pred, "float32"), num_texts, axis=-1)  # (batch, width) each
        text, pair = y_true[:, 0], y_true[:, 1]
        own = _rows(text)
        cosines = scale * ops.matmul(vectors[0], ops.transpose(vectors[1]))  # (texts, pairs)
        right = ops.sum(ops.where(own, cosines, 0.0), axis=-1)
        is_right = _alike(text, text) | _alike(pair, pair) | _alike(text, pair)
        is_apart = ~(is_there[:, None] & is_there[None, :])
        pairs = ops.where((is_right | is_apart) & ~own, NEVER, cosines)
        texts = ops.transpose(pairs)
        if num_texts > 2:
            negatives = scale * ops.matmul(vectors[0], ops.transpose(vectors[2]))
            is_right = _alike(text, y_true[:, 2]) | _alike(pair, y_true[:, 2])
            pairs = ops.concatenate([pairs, ops.where(is_right | is_apart, NEVER, negatives)], axis=-1)
        return (ops.logsumexp(pairs, axis=-1) + ops.logsumexp(texts, axis=-1)) / 2.0 - right

    return InBatchLoss("ranking", compared)


class TripletLoss(keras.losses.Loss):
    """How much the pair fails to be nearer than the negative by a margin, in squared distance between unit vectors.

    Call arguments as for `ranking_loss` with three texts.

    Reference:
        Schroff et al., 2015, eq. 3, https://arxiv.org/abs/1503.03832
    """

    def __init__(self, margin: float = MARGIN):
        super().__init__(name="triplet", reduction="sum")
        self.margin = margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        text, pair, negative = ops.split(ops.cast(y_pred, "float32"), 3, axis=-1)
        # |a - b|^2 = 2 - 2 ab between vectors of length 1.
        return ops.relu(2.0 * ops.sum(text * (negative - pair), axis=-1) + self.margin)


class CosineLoss(keras.losses.Loss):
    """Squared difference between the cosine of two texts and their number.

    Args:
        low: The number that stands for cosine 0.
        high: The number that stands for cosine 1.

    Call arguments:
        y_true: `(batch,)` numbers.
        y_pred: `(batch, 2 * width)`, vectors of length 1.

    Reference:
        Reimers and Gurevych, 2019, sec. 3, https://arxiv.org/abs/1908.10084
    """

    def __init__(self, low: float = 0.0, high: float = 1.0):
        super().__init__(name="cosine", reduction="sum")
        self.low, self.high = low, high

    def call(self, y_true: Any, y_pred: Any) -> Any:
        text, pair = ops.split(ops.cast(y_pred, "float32"), 2, axis=-1)
        wanted = (ops.cast(y_true, "float32") - self.low) / (self.high - self.low)
        return ops.square(ops.sum(text * pair, axis=-1) - wanted)


def class_loss(num_classes: int, temperature: float = 0.1) -> InBatchLoss:
    """Supervised contrast: cross-entropy of finding the rows of one's own class among those of the batch, by cosine.

    A row that has no other of its class in the batch costs nothing.

    Args:
        num_classes: How many logits follow the vector of a row.
        temperature: What cosines are divided by.

    Call arguments:
        y_true: `(batch,)` class ids.
        y_pred: `(batch, width + num_classes)`: vectors of any length, then logits, which are not looked at.

    Reference:
        Khosla et al., 2020, eq. 2, https://arxiv.org/abs/2004.11362
    """

    def compared(y_true: Any, y_pred: Any, is_there: Any) -> Any:
        vectors = ops.normalize(ops.cast(y_pred, "float32")[:, :-num_classes], axis=-1)
        is_left_out = _rows(y_true) | ~is_there[None, :]
        cosines = ops.where(is_left_out, NEVER, ops.matmul(vectors, ops.transpose(vectors)) / temperature)
        costs = ops.logsumexp(cosines, axis=-1, keepdims=True) - cosines  # (batch, batch)
        is_right = _alike(y_true, y_true) & ~is_left_out
        num_right = ops.sum(ops.cast(is_right, "float32"), axis=-1)
        return ops.sum(ops.where(is_right, costs, 0.0), axis=-1) / ops.maximum(num_right, 1.0)

    return InBatchLoss("classes", compared)
