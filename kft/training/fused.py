"""TensorFlow's fused Adam kernel: one op and one pass over memory for each variable, on CPUs and GPUs.

Keras writes the same update as some twenty small ops a variable, which take seconds to trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def summed(gradients: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
    """Gradients of variables as dense tensors, summed over the replicas. Graph code.

    Clipping needs both: rows of an embedding table that occur twice add up, and so do the replicas' shares.
    """
    dense = [
        tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
        if isinstance(gradient, tf.IndexedSlices)
        else gradient
        for gradient, variable in zip(gradients, variables, strict=True)
    ]
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return dense
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, dense)


def global_norm(gradients: Sequence[Any]) -> Any:
    """The root of the sum of all squares: one op and one pass for each gradient. Graph code."""
    return tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(tf.cast(gradient, tf.float32)) for gradient in gradients]))


def adam_step(
    variable: Any,
    momentum: Any,
    velocity: Any,
    gradient: Any,
    *,
    step: Any,
    learning_rate: Any,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Updates a variable and its two moments in place, as `keras.optimizers.Adam` would. Graph code.

    Args:
        variable: The `tf.Variable` to train.
        momentum: Its first moment, a `tf.Variable`.
        velocity: Its second moment, a `tf.Variable`.
        gradient: A tensor of the variable's shape.
        step: The number of this update, from 1.
        learning_rate: A scalar.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
    """
    step = tf.cast(step, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.handle,
        v=velocity.handle,
        beta1_power=tf.pow(tf.cast(beta_1, variable.dtype), step),
        beta2_power=tf.pow(tf.cast(beta_2, variable.dtype), step),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=beta_1,
        beta2=beta_2,
        epsilon=epsilon,
        grad=tf.cast(gradient, variable.dtype),
    )
