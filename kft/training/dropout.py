"""Dropout for TensorFlow on CPUs from 8 random bits a number, where Keras draws 32 and makes a float of them.

Random numbers are a tenth of a training step of a small BERT; this halves them.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf

LEVELS = 256


def make_cheap(network: keras.Model) -> None:
    """Gives every dropout layer of a network the cheap draw, in this process; its saved config stays as it is.

    The rate is rounded to 256ths (0.1 to 0.1016) and what is kept is scaled by just that share, so that the mean is
    kept. Rates that would round to nothing stay with Keras. Random states are those of the layers, as before.
    """
    for layer in network._flatten_layers():
        if type(layer) is keras.layers.Dropout and round(layer.rate * LEVELS) > 0 and layer.noise_shape is None:
            layer.call = functools.partial(_call, layer)


def _call(layer: keras.layers.Dropout, inputs: Any, training: bool = False) -> Any:
    if not training or layer.rate == 0:
        return inputs
    return dropped(inputs, layer.rate, layer.seed_generator.next())


def dropped(inputs: Any, rate: float, seed: Any) -> Any:
    """The inputs with a share of about `rate` set to zero and the rest scaled up. Graph code.

    Args:
        inputs: A float tensor of any shape.
        rate: The share to drop, above 0 and below 1.
        seed: `(2,)` integers.
    """
    threshold = min(LEVELS - 1, round(rate * LEVELS))
    count = tf.size(inputs)
    words = tf.random.stateless_uniform(
        [(count + 3) // 4], tf.cast(seed, tf.int32), minval=None, maxval=None, dtype=tf.uint32
    )
    draws = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count], tf.shape(inputs))
    scale = tf.cast(LEVELS / (LEVELS - threshold), inputs.dtype)
    return tf.where(draws >= threshold, inputs * scale, tf.zeros([], inputs.dtype))
