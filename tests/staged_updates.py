"""A variable that trains from a later step on, beside one that trains from the first, on any backend.

Run as a program, it prints their values, the moments of the later one and the counts of updates after each call:

    KERAS_BACKEND=jax python tests/staged_updates.py ACCUMULATED PIECES
"""

import json
import sys

import keras
import numpy as np
from keras import ops

from kft.training import optimizer_state, optimizers, schedules
from kft.training.accumulation import Windows
from kft.transfer.rules import Rule

RATE, CLIP, DECAY = 0.05, 1.0, 0.2
EPOCH, TOTAL, FROM_STEP = 3, 5, 1


def gradients(pieces):
    """`(calls, variables, numbers)` float32: those of the later variable are the larger."""
    return np.random.default_rng(0).normal(size=(TOTAL * pieces, 2, 3), scale=[[[1.0], [10.0]]]).astype(np.float32)


def trained(accumulated, pieces):
    """What a fit of five batches does, call by call."""
    early, late = (keras.Variable(np.ones(3, np.float32), name=name) for name in ("early", "late"))
    windows = Windows(EPOCH, TOTAL, accumulated, pieces)
    rate = schedules.WarmupDecay(RATE, 0, windows.num_updates, "linear", windows)
    adam = optimizers.FusedAdamW(rate, windows=windows, weight_decay=DECAY, global_clipnorm=CLIP)
    adam.rules = [Rule(), Rule(rate=2.0, from_step=FROM_STEP)]
    adam.build([early, late])
    step, told = _step(adam, [early, late]), []
    for gradient in gradients(pieces):
        step(gradient)
        values = {"early": early, "late": late, "m": adam._momentums[1], "v": adam._velocities[1]}
        told.append({name: ops.convert_to_numpy(value).tolist() for name, value in values.items()})
        told[-1]["idle"] = optimizer_state.without_gradient(adam)
    return told


def _step(adam, variables):
    """One call, compiled as a fit compiles it."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        graph = tf.function(lambda gradient: adam.apply(tf.unstack(gradient), variables))
        return lambda gradient: graph(tf.constant(gradient))
    if keras.config.backend() != "jax":
        return lambda gradient: adam.apply([ops.convert_to_tensor(part) for part in gradient], variables)
    import jax

    pure = jax.jit(lambda state, gradient, values: adam.stateless_apply(state, list(gradient), values))

    def step(gradient):
        values, state = pure([v.value for v in adam.variables], gradient, [v.value for v in variables])
        for variable, value in zip([*variables, *adam.variables], [*values, *state], strict=True):
            variable.assign(value)

    return step


if __name__ == "__main__":
    print(json.dumps(trained(*map(int, sys.argv[1:]))))
