"""SentencePiece tokens with byte offsets, in TensorFlow graph code."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from kft.text import ragged
from kft.text.changes import normalized
from kft.text.rules import Rules

# The piece that stands for a space, or for the one that SentencePiece puts before a text.
_SPACE_PIECE = "\u2581"


def spans(tokenizer: Any, ids: tf.RaggedTensor, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """The bytes of the text that each token stands for. Graph code.

    Args:
        tokenizer: A KerasHub `SentencePieceTokenizer`.
        ids: What it gives for the texts, ragged `(batch, tokens)`.
        texts: `(batch,)` strings of valid UTF-8 without NUL.

    Returns:
        Starts and ends, ragged `(batch, tokens)` int32. A space that the text does not have spans nothing.
    """
    _, starts, ends = tokenizer._sentence_piece.tokenize_with_offsets(texts)
    first, last = tf.cast(starts.flat_values, tf.int32), tf.cast(ends.flat_values, tf.int32)
    # Of the tokens of one character (the three of a half) SentencePiece gives the character to the last alone.
    vocabulary = tokenizer.get_vocabulary()
    space_id = vocabulary.index(_SPACE_PIECE) if _SPACE_PIECE in vocabulary else -1
    is_part = (first == last) & (ids.flat_values != space_id)
    limit = tf.gather(tf.strings.length(texts), ragged.rows(ids))
    last = tf.where(is_part, tf.minimum(first + 1, limit), last)
    return ids.with_flat_values(first), ids.with_flat_values(last)


def by_rules(
    tokenizer: Any, rules: Rules, texts: tf.Tensor
) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
    """Token ids by these rules, and the bytes of the text that each stands for, as `spans`."""
    plain, plain_starts, plain_ends = normalized(texts, rules.normalizers)
    ids = type(tokenizer)._tokenize_tf(tokenizer, plain)
    starts, ends = spans(tokenizer, ids, plain)
    rows = ragged.rows(ids)
    plain_begins, begins = (tf.gather(ragged.begins(tf.strings.length(strings)), rows) for strings in (plain, texts))
    limit = tf.maximum(tf.size(plain_starts) - 1, 0)
    first = tf.gather(plain_starts, tf.minimum(starts.flat_values + plain_begins, limit)) - begins
    last = tf.gather(plain_ends, tf.maximum(ends.flat_values + plain_begins - 1, 0)) - begins
    first = tf.minimum(first, tf.gather(tf.strings.length(texts), rows))
    last = tf.where(starts.flat_values < ends.flat_values, last, first)
    return ids, ids.with_flat_values(first), ids.with_flat_values(last)
