"""Layers of transformers for TensorFlow on CPUs, with the numbers of Keras's and fewer operations.

Keras writes layer norm, gelu, dropout and attention as chains of small operations. TensorFlow runs each as a pass over
memory, traces each, and differentiates each by several more. Here each is a few passes with its gradient written out,
or one that XLA compiles. What is left is traced once for all layers of an encoder, not once for each.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_hub
import tensorflow as tf
from keras import ops

from kft.accelerate.internals import gelu_approximate, layers_of, sublayers_of
from kft.accelerate.overrides import has_own_call, replace_call

LEVELS = 256
HIDDEN = -3e4  # added to a score, leaves nothing of its share at any precision


def kernels_for(network: keras.Model) -> tuple[list[tuple[Any, Callable[..., Any]]], list[Any]]:
    """The layers of a network that have kernels here, with them, and those of the same kinds that stay with Keras.

    Those are layers whose settings are out of the ordinary, of derived classes, or with a `call` of their own.
    """
    given, left = [], []
    for layer in layers_of(network):
        fits, kernel = KERNELS.get(type(layer), (None, None))
        if fits is not None and kernel is not None and _is_known(layer) and fits(layer):
            given.append((layer, kernel))
        elif isinstance(layer, tuple(KERNELS)) and getattr(layer, "rate", 1) > 0:  # a dropout of 0 does nothing
            left.append(layer)
    return given, left


def use(network: keras.Model) -> list[Any]:
    """Gives the layers of a network these kernels, in this process; what is saved of it stays as it is.

    Returns:
        The layers of the same kinds that stay with Keras.
    """
    given, left = kernels_for(network)
    alike = [] if tf.distribute.has_strategy() else _encoder_layers(network)  # a replica has variables of its own
    for layer, kernel in given:
        replace_call(layer, kernel)
    for layers in alike:
        _share_graph(layers)
    return left


def _added_to(layer: Any) -> Any:
    """The adapter of a linear layer that adds to its product and changes nothing else; None where there is none."""
    return next((part for part in sublayers_of(layer) if getattr(part, "is_added", False)), None)


def _is_known(layer: Any) -> bool:
    """Whether a layer computes as its class does, or with such an adapter besides."""
    return has_own_call(layer) or _added_to(layer) is not None


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
    scale = tf.constant(LEVELS / (LEVELS - threshold), inputs.dtype)

    def kept(values: Any) -> Any:
        return values * scale * tf.cast(is_kept, values.dtype)  # of 16 bits a product is twice as fast as `where`

    return tf.custom_gradient(lambda values: (kept(values), kept))(inputs)


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


def rounded(count: Any) -> Any:
    """The next number that is 4 to 8 times a power of 2 (any number up to 8): at most a quarter more. Graph code."""
    power = tf.cast(tf.math.ceil(tf.math.log(tf.cast(count, tf.float32)) / math.log(2) - 1e-4), tf.int32)
    step = tf.bitwise.left_shift(1, tf.maximum(power - 3, 0))
    return (count + step - 1) // step * step


def fused(formula: Callable[..., Any]) -> Callable[..., Any]:
    """A formula of rows, and of what all share, that XLA compiles to one pass over memory, and its gradient to another.

    The gradient computes the formula anew, so that nothing but the inputs is kept for it. XLA compiles a program for
    each number of rows, so rows of zeros are added to make those numbers few.
    """
    compiled = functools.partial(tf.function, jit_compile=True, autograph=False, reduce_retracing=True)
    forward = compiled(formula)

    @compiled
    def backward(given: Any, *inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = formula(*inputs)
        return tape.gradient(outputs, inputs, output_gradients=given)

    @tf.custom_gradient
    def computed(rows: Any, *others: Any) -> Any:
        count = tf.shape(rows)[0]
        missing = [[0, rounded(count) - count], [0, 0]]
        padded = tf.pad(rows, missing)

        def gradient(given: Any) -> Any:
            of_rows, *of_others = backward(tf.pad(given, missing), padded, *others)
            return of_rows[:count], *of_others

        return forward(padded, *others)[:count], gradient

    return computed


@functools.cache
def gelu(*, approximate: bool) -> Callable[..., Any]:
    """The Gaussian error linear unit of inputs and bias, in float32: by the error function, or as BERT by tanh.

    Reference:
        Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415
    """

    @fused
    def activated(inputs: Any, bias: Any) -> Any:
        rows = tf.cast(inputs, tf.float32) + tf.cast(bias, tf.float32)
        return tf.cast(tf.nn.gelu(rows, approximate), inputs.dtype)

    return activated


GELUS = {gelu_approximate: gelu(approximate=True), keras.activations.gelu: gelu(approximate=False)}


def _is_plain(layer: Any) -> bool:
    return layer.quantization_mode is None and layer.bias is not None


def _dense(layer: Any, inputs: Any, training: bool | None = None) -> Any:
    flat = tf.reshape(inputs, [-1, inputs.shape[-1]])
    rows = ops.matmul(flat, layer.kernel)
    if (adapter := _added_to(layer)) is not None:
        rows += adapter.of_rows(flat, training)
    bias = tf.convert_to_tensor(layer.bias)
    if layer.activation in GELUS:
        rows = GELUS[layer.activation](rows, bias)
    else:
        rows = layer.activation(tf.nn.bias_add(rows, bias))
    return tf.reshape(rows, tf.concat([tf.shape(inputs)[:-1], [layer.units]], axis=0))


# -- attention ------------------------------------------------------------------------------------------------------


def _can_attend(layer: Any) -> bool:
    projections = [layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense]
    if not all(type(dense) is keras.layers.EinsumDense and _is_known(dense) for dense in projections):
        return False
    width, *of_heads = layer.query_dense.kernel.shape
    shapes = [list(projection.kernel.shape) for projection in projections]
    is_regular = shapes == [[width, *of_heads]] * 3 + [[*of_heads, width]]
    return is_regular and all(map(_is_plain, projections)) and layer.attention_axes == (1,)


def _attend(layer: Any, query: Any, value: Any, *, attention_mask: Any = None, training: Any = None, **how: Any) -> Any:
    """Self-attention with one product for queries, keys and values; any other stays with Keras.

    Tokens that may attend to nothing attend to all, where Keras gives them zeros: nobody reads them.
    """
    is_asked_more = any(setting is not None and setting is not False for setting in how.values())
    if value is not query or is_asked_more or (attention_mask is not None and len(attention_mask.shape) != 3):
        return type(layer).call(layer, query, value, attention_mask=attention_mask, training=training, **how)
    projections, width = (layer.query_dense, layer.key_dense, layer.value_dense), query.shape[-1]
    kernel = tf.concat([tf.reshape(dense.kernel, [width, -1]) for dense in projections], axis=1)
    bias = tf.concat([tf.reshape(dense.bias, [-1]) for dense in projections], axis=0)
    flat = tf.reshape(query, [-1, width])
    rows = tf.nn.bias_add(flat @ kernel, bias)
    if any(map(_added_to, projections)):
        rows += tf.concat([_addition(dense, flat, training) for dense in projections], axis=1)
    batch, length, heads = tf.shape(query)[0], tf.shape(query)[1], layer.num_heads
    split = tf.reshape(rows, [batch, length, len(projections), heads, -1])
    queries, keys, values = tf.unstack(tf.transpose(split, [2, 0, 3, 1, 4]))  # (batch, heads, tokens, width of a head)
    scores = tf.matmul(queries * tf.cast(layer.key_dim**-0.5, queries.dtype), keys, transpose_b=True)
    if attention_mask is not None:  # (batch, 1 or tokens, tokens)
        is_hidden = tf.cast(tf.logical_not(tf.cast(attention_mask, tf.bool)), scores.dtype)
        scores += (HIDDEN * is_hidden)[:, None]
    shares = layer._dropout_layer(tf.nn.softmax(scores), training=training)
    attended = tf.reshape(tf.transpose(shares @ values, [0, 2, 1, 3]), [-1, kernel.shape[1] // len(projections)])
    dense = layer.output_dense
    rows = tf.nn.bias_add(attended @ tf.reshape(dense.kernel, [-1, width]), tf.convert_to_tensor(dense.bias))
    if _added_to(dense) is not None:
        rows += _addition(dense, attended, training)
    return tf.reshape(rows, tf.shape(query))


def _addition(layer: Any, rows: Any, training: Any) -> Any:
    """What the adapter of a projection adds to its product, zeros where it has none: `(rows, outputs)`."""
    adapter = _added_to(layer)
    if adapter is not None:
        return adapter.of_rows(rows, training)
    return tf.zeros([tf.shape(rows)[0], math.prod(layer.kernel.shape[1:])], rows.dtype)


KERNELS: dict[type, tuple[Callable[[Any], bool], Callable[..., Any]]] = {
    keras.layers.MultiHeadAttention: (_can_attend, _attend),
    keras_hub.layers.CachedMultiHeadAttention: (_can_attend, _attend),
    keras.layers.Dropout: (_can_drop, _dropout),
    keras.layers.LayerNormalization: (_can_norm, _layer_norm),
    keras.layers.Dense: (_is_plain, _dense),
}


# -- layers of an encoder ------------------------------------------------------------------------------------------


def _encoder_layers(network: keras.Model) -> list[list[Any]]:
    """The layers of encoders, those together that are alike but for their weights, before any has kernels."""
    alike = defaultdict(list)
    for layer in layers_of(network):
        parts = layers_of(layer) if type(layer) is keras_hub.layers.TransformerEncoder else []
        if parts and all(map(_is_known, parts)):
            shapes = [(variable.shape, variable.dtype) for variable in layer.variables]
            settings = {**layer.get_config(), "name": None}
            alike[repr((settings, [type(part) for part in parts], shapes))].append(layer)
    return list(alike.values())


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
        replace_call(layer, call)
