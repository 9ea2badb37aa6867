"""Logits to answers a person can use, in TensorFlow graph code that predict and the export share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf


def classes(logits: tf.Tensor, labels: Sequence[str]) -> dict[str, tf.Tensor]:
    """The likeliest label, its probability, and all probabilities in the order of `labels`.

    Args:
        logits: `(batch, classes)` float.
        labels: The class names.

    Returns:
        `label` `(batch,)` string, `score` `(batch,)` float32, `scores` `(batch, classes)` float32 summing to 1.
    """
    scores = tf.nn.softmax(tf.cast(logits, tf.float32), axis=-1)
    best = tf.argmax(scores, axis=-1)
    return {
        "label": tf.gather(tf.constant(list(labels)), best),
        "score": tf.reduce_max(scores, axis=-1),
        "scores": scores,
    }


def ranks(logits: tf.Tensor, labels: Sequence[str]) -> dict[str, tf.Tensor]:
    """Ranks from the logits of "above this rank, given above the one before?" (Shi et al., 2021, eq. 4).

    Args:
        logits: `(batch, ranks - 1)` float.
        labels: The ranks as whole numbers, from low to high.

    Returns:
        `label`, `score` and `scores` as for `classes`, and `value` `(batch,)` float32, the mean rank.
    """
    above = tf.math.cumprod(tf.sigmoid(tf.cast(logits, tf.float32)), axis=-1)  # P(rank > k)
    ends = tf.zeros_like(above[:, :1])
    scores = tf.concat([ends + 1.0, above], axis=-1) - tf.concat([above, ends], axis=-1)
    best = tf.argmax(scores, axis=-1)
    return {
        "label": tf.gather(tf.constant(list(labels)), best),
        "score": tf.reduce_max(scores, axis=-1),
        "scores": scores,
        "value": tf.linalg.matvec(scores, tf.constant([float(label) for label in labels])),
    }


def label_sets(logits: tf.Tensor, labels: Sequence[str], thresholds: Sequence[float]) -> dict[str, tf.Tensor]:
    """The labels whose probability reaches their threshold, likeliest first.

    Args:
        logits: `(batch, labels)` float.
        labels: The names of the labels.
        thresholds: The least probability of each.

    Returns:
        `labels` `(batch, labels)` string, filled up with empty ones; `scores` `(batch, labels)` float32 in the order of
        `labels`, each between 0 and 1.
    """
    scores = tf.sigmoid(tf.cast(logits, tf.float32))
    is_answer = scores >= tf.constant(list(thresholds), tf.float32)
    order = tf.argsort(tf.where(is_answer, -scores, 1.0), axis=-1, stable=True)
    names = tf.where(tf.gather(is_answer, order, batch_dims=1), tf.gather(tf.constant(list(labels)), order), "")
    return {"labels": names, "scores": scores}


def values(outputs: tf.Tensor, mean: float, deviation: float) -> dict[str, tf.Tensor]:
    """The number in the unit of the training targets: `value` `(batch,)` float32 from `(batch, 1)` standard scores."""
    return {"value": tf.squeeze(tf.cast(outputs, tf.float32), axis=-1) * deviation + mean}


def vectors(outputs: Mapping[str, tf.Tensor], names: Sequence[str]) -> dict[str, tf.Tensor]:
    """The vectors of the texts of a row by name: `(batch, width)` float32 each."""
    return {name: tf.cast(outputs[name], tf.float32) for name in names}
