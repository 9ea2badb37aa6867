"""A text with each of its choices, in TensorFlow graph code that predict and the export share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kft.text import decode, tokens


def prefix(number: int) -> str:
    """What the names of the inputs for a choice begin with, counted from 1.

    >>> prefix(2)
    'choice2_'
    """
    return f"choice{number}_"


def encode(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """The token features of the text with each of its choices: `(batch,)` strings, the text first. Graph code."""
    text, *choices = texts
    found: dict[str, tf.Tensor] = {}
    for number, choice in enumerate(choices, 1):
        own = tokens.encode(preprocessor, [text, choice])
        found |= {prefix(number) + name: value for name, value in own.items()}
    return found


def answers(logits: tf.Tensor, labels: Sequence[str], choices: Sequence[Any]) -> dict[str, tf.Tensor]:
    """What `decode.classes` answers, and the likeliest `choice` `(batch,)` itself.

    Args:
        logits: `(batch, choices)` float.
        labels: The numbers of the choices.
        choices: `(batch,)` strings for each.
    """
    found = decode.classes(logits, labels)
    columns = tf.stack([tf.convert_to_tensor(column) for column in choices], axis=1)  # (batch, choices)
    return {"choice": tf.gather(columns, tf.argmax(found["scores"], axis=-1), batch_dims=1), **found}
