"""Logits to answers a person can use, in TensorFlow graph code that predict and the export share."""

from __future__ import annotations

from collections.abc import Sequence

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


def values(outputs: tf.Tensor, mean: float, deviation: float) -> dict[str, tf.Tensor]:
    """The number in the unit of the training targets: `value` `(batch,)` float32 from `(batch, 1)` standard scores."""
    return {"value": tf.squeeze(tf.cast(outputs, tf.float32), axis=-1) * deviation + mean}
