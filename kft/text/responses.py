"""What a model answers to texts where its outputs are too many to hold: string in, answer out, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def outputs(model: Any, features: dict[str, tf.Tensor]) -> tf.Tensor:
    """A model's outputs as a tensor of TensorFlow, whatever backend computes them; in a graph on TensorFlow alone."""
    if keras.config.backend() == "tensorflow":
        return model(features, training=False)
    found = model({name: np.asarray(value) for name, value in features.items()}, training=False)
    return tf.constant(keras.ops.convert_to_numpy(keras.ops.cast(found, "float32")))


def ask(respond: Callable[..., Any], model: Any, num_texts: int) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """A function of (model, text tensors) for this model as one of the columns' strings, lists or tensors.

    On TensorFlow it is traced once, and can be part of another graph.
    """

    def answer(*texts: tf.Tensor) -> Any:
        return respond(model, texts)

    if keras.config.backend() == "tensorflow":
        answer = tf.function(answer, input_signature=[tf.TensorSpec((None,), tf.string)] * num_texts)
    return lambda texts: answer(*[tf.convert_to_tensor(column, tf.string) for column in texts])


def token_texts(tokenizer: Any) -> list[str]:
    """Each token of a vocabulary as a reader wants it: without the sign of a space, but never empty."""
    names = [str(tokenizer.id_to_token(number)) for number in range(tokenizer.vocabulary_size())]
    return [name.replace("▁", " ").replace("Ġ", " ").strip() or name for name in names]
