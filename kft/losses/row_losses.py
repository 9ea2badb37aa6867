"""Losses of classes, label sets, ranks and numbers: each from outputs and targets to `(rows,)` float32."""

from __future__ import annotations

from typing import Any

from keras import ops

SMALLEST = 1e-7  # of what is raised to a power: about the step of float32 at 1


def crossentropy(logits: Any, labels: Any, label_smoothing: float = 0.0, focal_gamma: float = 0.0) -> Any:
    """Cross-entropy of logits against class ids: `(rows,)`, or of each token `(rows, tokens)`.

    Args:
        logits: `(rows, classes)`, or `(rows, tokens, classes)`.
        labels: Class ids, of the same shape without its last axis.
        label_smoothing: Share of each target that is spread evenly over all classes.
        focal_gamma: The part of each class is multiplied by (1 - its probability) to this power; 0 for none.

    References:
        Szegedy et al., 2016, sec. 7, https://arxiv.org/abs/1512.00567
        Lin et al., 2017 (focal loss), eq. 4, https://arxiv.org/abs/1708.02002
    """
    logits = ops.cast(logits, "float32")
    log_probs = ops.log_softmax(logits, axis=-1)
    targets = ops.one_hot(ops.cast(labels, "int32"), logits.shape[-1])
    targets = targets * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
    if focal_gamma:
        # The bound keeps the gradient finite where a probability is 1 and the power is below 1.
        targets = targets * ops.power(ops.maximum(-ops.expm1(log_probs), SMALLEST), focal_gamma)
    return -ops.sum(targets * log_probs, axis=-1)


def binary_crossentropy(logits: Any, labels: Any, focal_gamma: float = 0.0) -> Any:
    """Binary cross-entropy of the logit of each label, summed over the labels: `(rows,)`.

    Args:
        logits: `(rows, labels)`.
        labels: `(rows, labels)`, 1 for each label that a row has.
        focal_gamma: The loss of each label is multiplied by (1 - probability of the truth) to this power; 0 for none.

    Reference:
        Lin et al., 2017 (focal loss), eq. 4, https://arxiv.org/abs/1708.02002
    """
    logits, labels = ops.cast(logits, "float32"), ops.cast(labels, "float32")
    losses = ops.softplus(logits) - logits * labels
    if focal_gamma:
        # 1 - sigmoid(x) is exp(-softplus(x)), which is never rounded to 0 before it is raised to a power.
        losses = losses * ops.exp(-focal_gamma * ops.softplus(logits * (2.0 * labels - 1.0)))
    return ops.sum(losses, axis=-1)


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
