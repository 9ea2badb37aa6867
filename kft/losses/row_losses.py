"""Losses of classes, label sets, ranks and numbers: each from outputs and targets to `(rows,)` float32."""

from __future__ import annotations

from typing import Any

from keras import ops


def crossentropy(logits: Any, labels: Any, label_smoothing: float = 0.0) -> Any:
    """Cross-entropy of logits against class ids: `(rows,)`.

    Args:
        logits: `(rows, classes)`.
        labels: `(rows,)` class ids.
        label_smoothing: Share of each target that is spread evenly over all classes.

    Reference:
        Szegedy et al., 2016, sec. 7, https://arxiv.org/abs/1512.00567
    """
    logits = ops.cast(logits, "float32")
    log_probs = ops.log_softmax(logits, axis=-1)
    targets = ops.one_hot(ops.cast(labels, "int32"), logits.shape[-1])
    targets = targets * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
    return -ops.sum(targets * log_probs, axis=-1)


def binary_crossentropy(logits: Any, labels: Any) -> Any:
    """Binary cross-entropy of the logit of each label, summed over the labels: `(rows,)`.

    Args:
        logits: `(rows, labels)`.
        labels: `(rows, labels)`, 1 for each label that a row has.
    """
    logits = ops.cast(logits, "float32")
    return ops.sum(ops.softplus(logits) - logits * ops.cast(labels, "float32"), axis=-1)


def conditional_crossentropy(logits: Any, ranks: Any) -> Any:
    """Binary cross-entropy, at each rank that a row has reached, of whether it is above: their sum, `(rows,)`.

    Args:
        logits: `(rows, ranks - 1)`.
        ranks: `(rows,)` ids of ranks.

    Reference:
        Shi, Cao and Raschka, 2021 (CORN), https://arxiv.org/abs/2111.08851
    """
    logits = ops.cast(logits, "float32")
    places = ops.arange(logits.shape[-1], dtype="int32")
    reached = ops.cast(ranks, "int32")[:, None]
    is_above = ops.cast(reached > places, "float32")
    # log(1 + exp(x)) - x * target, for the ranks that the row came to.
    losses = ops.softplus(logits) - logits * is_above
    return ops.sum(losses * ops.cast(reached >= places, "float32"), axis=-1)


def squared_error(values: Any, numbers: Any, mean: float, deviation: float) -> Any:
    """Squared error in standard deviations of the training targets, `(rows,)`: 1 is what predicting the mean costs.

    Args:
        values: `(rows, 1)` standard scores.
        numbers: `(rows,)` in the unit of the training targets.
        mean: Of the training targets.
        deviation: Their standard deviation.
    """
    standard = (ops.cast(numbers, "float32") - mean) / deviation
    return ops.square(ops.cast(values, "float32")[:, 0] - standard)
