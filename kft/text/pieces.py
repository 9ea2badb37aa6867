"""Which pieces of a vocabulary texts are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from kft.text import characters


def used(tokenizer: Any, slices: Iterable[Sequence[str]]) -> set[int]:
    """The ids of the tokens of some texts, as a fit tokenises them: in graph code.

    Args:
        tokenizer: A KerasHub tokenizer.
        slices: Lists of texts.
    """

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def ids(texts: tf.Tensor) -> tf.Tensor:
        return tf.unique(tokenizer.tokenize(characters.without_nul(characters.valid(texts))).flat_values).y

    return {int(number) for texts in slices for number in ids(tf.constant(list(texts), tf.string)).numpy()}
