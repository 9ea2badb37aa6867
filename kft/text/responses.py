"""What a model answers to texts where its outputs are too many to hold: string in, answer out, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def outputs(model: Any, features: dict[str, tf.Tensor]) -> tf.Tensor:
    """A model's outputs as a tensor of TensorFlow, whatever backend computes them; in a graph on TensorFlow alone.

    Of a model with several outputs those for tokens, which are named `tokens`.
    """
    is_tensorflow = keras.config.backend() == "tensorflow"
    inputs = features if is_tensorflow else {name: np.asarray(value) for name, value in features.items()}
    made = model(inputs, training=False)
    made = made["tokens"] if isinstance(made, dict) else made
    return made if is_tensorflow else tf.constant(keras.ops.convert_to_numpy(keras.ops.cast(made, "float32")))


def responder(
    answer: Callable[[Any, Sequence[tf.Tensor]], dict[str, tf.Tensor]], model: Any
) -> Callable[[Sequence[Any]], dict[str, tf.Tensor]]:
    """A function from one column of strings to answers: traced on TensorFlow, elsewhere as it is.

    Args:
        answer: (model, text tensors) to named answers, in TF graph code.
        model: A task model with its preprocessor.
    """

    def of_tensor(strings: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(model, [strings])

    if keras.config.backend() == "tensorflow":
        of_tensor = tf.function(of_tensor, input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    return lambda texts: of_tensor(tf.convert_to_tensor(texts[0], tf.string))


def token_texts(tokenizer: Any) -> list[str]:
    """Each token of a vocabulary as a reader wants it: without the sign of a space, but never empty."""
    names = [str(tokenizer.id_to_token(number)) for number in range(tokenizer.vocabulary_size())]
    return [name.replace("▁", " ").replace("Ġ", " ").strip() or name for name in names]
