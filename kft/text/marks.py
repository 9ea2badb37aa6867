"""Two marked parts of a text as signs that every tokenizer knows, in TensorFlow graph code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kft.text import tokens

SIGNS = {"e1": "@", "e2": "#"}


def encode(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Token features of `(batch,)` texts in which `<e1>…</e1>` is read as `@ … @` and `<e2>…</e2>` as `# … #`."""
    (text,) = texts
    for mark, sign in SIGNS.items():
        text = tf.strings.regex_replace(text, f"</?{mark}>", f" {sign} ")
    return tokens.encode(preprocessor, [text])
