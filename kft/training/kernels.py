"""Layers of transformers for TensorFlow on CPUs, with the numbers of Keras's and fewer operations.

Keras writes layer norm, gelu and dropout as chains of small operations. TensorFlow runs each as a pass over memory,
traces each, and differentiates each by several more. Here each is a few passes with its gradient written out. What
is left is traced once for all layers of an encoder, not once for each.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import keras
import keras_hub
import tensorflow as tf
from keras import ops
from keras_hub.src.utils.keras_utils import gelu_approximate

LEVELS = 256


def use(network: keras.Model) -> None:
    """Gives the layers of a network these kernels, in this process; what is saved of it stays as it is.

    Layers whose settings are out of the ordinary stay with Keras.
    """
    for layer in network._flatten_layers():
        kernel = KERNELS.get(type(layer))
        if kernel is not None and kernel[0](layer):
            layer.call = functools.partial(kernel[1], layer)
    if not tf.distribute.has_strategy():  # whose variables are several, one for each replica
        for alike in _encoder_layers(network):
            _share_graph(alike)


# -- dropout -------------------------------------------------------------------------------------------------------


def dropped(inputs: Any, rate: float, seed: Any) -> Any:
    """The inputs with a share of them set to zero and the rest scaled up. Graph code.

    A number costs 8 random bits, where Keras draws 32 and makes a float of them. The rate is rounded to 256ths (0.1 to
    0.1016) and what is kept is scaled by just that share, so that the mean is kept.

    Args:
        inputs: A float tensor of any shape.
        rate: About the share to drop, above 0 and below 1.
        seed: `(2,)` integers.
    """
    threshold = min(LEVELS - 1, round(rate * LEVELS))
    shape, count = tf.shape(inputs), tf.size(inputs)
    words = tf.random.stateless_uniform(
        [(count + 3) // 4], tf.cast(seed, tf.int32), minval=None, maxval=None, dtype=tf.uint32
    )
    draws = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count], shape)
    is_kept = draws >= tf.constant(threshold, tf.uint8)
    scale, nothing = tf.constant(LEVELS / (LEVELS - threshold), inputs.dtype), tf.constant(0, inputs.dtype)

    @tf.custom_gradient
    def kept(values: Any) -> Any:
        return tf.where(is_kept, values * scale, nothing), lambda given: tf.where(is_kept, given * scale, nothing)

    return kept(inputs)


def _can_drop(layer: Any) -> bool:
    return round(layer.rate * LEVELS) > 0 and layer.rate < 1 and layer.noise_shape is None


def _dropout(layer: Any, inputs: Any, training: bool = False) -> Any:
    return dropped(inputs, layer.rate, layer.seed_generator.next()) if training else inputs


# -- layer norm ----------------------------------------------------------------------------------------------------


def layer_norm(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """Each row of the last axis with mean 0 and variance 1, times `gamma` plus `beta`, in float32. Graph code.

    Reference:
        Ba, Kiros and Hinton, 2016, https://arxiv.org/abs/1607.06450
    """

    @tf.custom_gradient
    def normalised(rows: Any, gamma: Any, beta: Any) -> Any:
        centred = rows - tf.reduce_mean(rows, -1, keepdims=True)
        scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)
        normal = centred * scale  # (rows, width)

        def gradient(given: Any) -> Any:
            of_normal = given * gamma
            shared = tf.reduce_mean(of_normal * normal, -1, keepdims=True)
            of_rows = scale * (of_normal - tf.reduce_mean(of_normal, -1, keepdims=True) - normal * shared)
            return of_rows, tf.reduce_sum(given * normal, 0), tf.reduce_sum(given, 0)

        return normal * gamma + beta, gradient

    rows = tf.reshape(tf.cast(inputs, tf.float32), [-1, inputs.shape[-1]])
    return tf.reshape(normalised(rows, tf.cast(gamma, tf.float32), tf.cast(beta, tf.float32)), tf.shape(inputs))


def _can_norm(layer: Any) -> bool:
    is_last = list(layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]) == [-1]
    return is_last and layer.scale and layer.center and not layer.rms_scaling and len(layer.gamma.shape) == 1


def _layer_norm(layer: Any, inputs: Any) -> Any:
    gamma, beta = ops.convert_to_tensor(layer.gamma), ops.convert_to_tensor(layer.beta)
    return tf.cast(layer_norm(inputs, gamma, beta, layer.epsilon), layer.compute_dtype)


# -- dense ---------------------------------------------------------------------------------------------------------


@tf.custom_gradient
def gelu(inputs: Any) -> Any:
    """The Gaussian error linear unit by the error function.

    Reference:
        Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415
    """
    below = 0.5 + 0.5 * tf.math.erf(inputs * math.sqrt(0.5))  # the normal distribution function

    def gradient(given: Any) -> Any:
        return given * (below + inputs * tf.exp(-0.5 * tf.square(inputs)) * (1 / math.sqrt(2 * math.pi)))

    return inputs * below, gradient


@tf.custom_gradient
def gelu_by_tanh(inputs: Any) -> Any:
    """Its approximation by the hyperbolic tangent, as in BERT."""
    slope, bend = math.sqrt(2 / math.pi), 0.044715
    square = tf.square(inputs)
    below = 0.5 + 0.5 * tf.tanh(inputs * (slope + slope * bend * square))

    def gradient(given: Any) -> Any:
        # The slope of tanh(u) / 2 is 2 below (1 - below), that of u is slope (1 + 3 bend x^2).
        return given * (below + inputs * (below - tf.square(below)) * (2 * slope + 6 * slope * bend * square))

    return inputs * below, gradient


def in_float32(function: Any) -> Any:
    """An activation computed in float32, which CPUs do faster than 16 bits and more exactly."""

    def computed(inputs: Any) -> Any:
        return tf.cast(function(tf.cast(inputs, tf.float32)), inputs.dtype)

    return computed


ACTIVATIONS = {gelu_approximate: in_float32(gelu_by_tanh), keras.activations.gelu: in_float32(gelu)}


def _is_plain(layer: Any) -> bool:
    return layer.quantization_mode is None and layer.bias is not None


def _dense(layer: Any, inputs: Any, training: bool | None = None) -> Any:
    rows = tf.reshape(inputs, [-1, inputs.shape[-1]])
    rows = tf.nn.bias_add(ops.matmul(rows, layer.kernel), ops.convert_to_tensor(layer.bias))
    rows = ACTIVATIONS.get(layer.activation, layer.activation)(rows)
    return tf.reshape(rows, tf.concat([tf.shape(inputs)[:-1], [layer.units]], axis=0))


KERNELS = {
    keras.layers.Dropout: (_can_drop, _dropout),
    keras.layers.LayerNormalization: (_can_norm, _layer_norm),
    keras.layers.Dense: (_is_plain, _dense),
}


# -- layers of an encoder ------------------------------------------------------------------------------------------


def _encoder_layers(network: keras.Model) -> list[list[Any]]:
    """The layers of encoders, those together that are alike but for their weights."""
    found = defaultdict(list)
    for layer in network._flatten_layers():
        if type(layer) is keras_hub.layers.TransformerEncoder:
            shapes = [(variable.shape, variable.dtype) for variable in layer.variables]
            found[repr(({**layer.get_config(), "name": None}, shapes))].append(layer)
    return list(found.values())


def _share_graph(layers: Sequence[Any]) -> None:
    """Lets layers that are alike compute by one graph, to which each gives its own variables."""
    whole, slots = layers[0].call, list(layers[0].variables)
    weights = {id(weight) for weight in layers[0].weights}
    states = [number for number, slot in enumerate(slots) if id(slot) not in weights]  # those of dropout

    @tf.function(autograph=False, reduce_retracing=True)
    def computed(values: list[Any], inputs: Any, settings: dict[str, Any]) -> tuple[Any, list[Any]]:
        with keras.StatelessScope(state_mapping=list(zip(slots, values, strict=True))) as scope:
            outputs = whole(inputs, **settings)
        return outputs, [scope.get_current_value(slots[number]) for number in states]

    def call(layer: Any, inputs: Any, **settings: Any) -> Any:
        variables = layer.variables
        outputs, after = computed([variable.value for variable in variables], inputs, settings)
        for number, value in zip(states, after, strict=True):
            variables[number].assign(value)
        return outputs

    for layer in layers:
        layer.call = functools.partial(call, layer)
