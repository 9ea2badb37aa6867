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


def assign(variable: Any, value: Any) -> None:
    """Sets a replica's own copy of a `tf.Variable`, in a branch too, where Keras's way does not pass. Graph code."""
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tf.cast(value, variable.dtype))


def added(variable: Any, value: Any) -> Any:
    """Adds to it likewise, and gives the sum."""
    tf.raw_ops.AssignAddVariableOp(resource=variable.handle, value=tf.cast(value, variable.dtype))
    return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)


def global_norm(gradients: Sequence[Any]) -> Any:
    """The root of the sum of all squares: one op and one pass for each gradient. Graph code."""
    return tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(tf.cast(gradient, tf.float32)) for gradient in gradients]))


def adamw_step(
    variables: Sequence[Any],
    momentums: Sequence[Any],
    velocities: Sequence[Any],
    gradients: Sequence[Any],
    *,
    step: Any,
    rates: Sequence[Any],
    shrinkages: Sequence[Any],
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Updates float32 variables and their moments in place, as `keras.optimizers.AdamW` would. Graph code.

    In a replica it updates that replica's copies: all get the same sums of gradients, so they stay the same.

    Args:
        variables: The `tf.Variable`s to train.
        momentums: Their first moments.
        velocities: Their second moments.
        gradients: A tensor of the variable's shape for each.
        step: The number of this update, from 1.
        rates: The learning rate of each variable, a scalar.
        shrinkages: The share that each loses by weight decay before its update, a scalar; None for none.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
    """
    step = tf.cast(step, tf.float32)
    powers = {"beta1_power": tf.pow(beta_1, step), "beta2_power": tf.pow(beta_2, step)}
    constants = {"beta1": tf.constant(beta_1), "beta2": tf.constant(beta_2), "epsilon": tf.constant(epsilon)}
    for variable, momentum, velocity, gradient, rate, shrinkage in zip(
        variables, momentums, velocities, gradients, rates, shrinkages, strict=True
    ):
        if shrinkage is not None:
            shrunk = variable.read_value() * shrinkage
            tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=shrunk)
        handles = {"var": variable.handle, "m": momentum.handle, "v": velocity.handle}
        tf.raw_ops.ResourceApplyAdam(**handles, **powers, **constants, lr=rate, grad=gradient)
