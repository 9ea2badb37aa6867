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
    if rules.split == "albert":
        ids, starts, ends = _commas_apart(tokenizer, plain, ids, starts, ends)
    rows = ragged.rows(ids)
    plain_begins, begins = (tf.gather(ragged.begins(tf.strings.length(strings)), rows) for strings in (plain, texts))
    limit = tf.maximum(tf.size(plain_starts) - 1, 0)
    first = tf.gather(plain_starts, tf.minimum(starts.flat_values + plain_begins, limit)) - begins
    last = tf.gather(plain_ends, tf.maximum(ends.flat_values + plain_begins - 1, 0)) - begins
    first = tf.minimum(first, tf.gather(tf.strings.length(texts), rows))
    last = tf.where(starts.flat_values < ends.flat_values, last, first)
    return ids, ids.with_flat_values(first), ids.with_flat_values(last)


def _commas_apart(
    tokenizer: Any, texts: tf.Tensor, ids: tf.RaggedTensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor
) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
    """`2010,` as two tokens, `2010` and the comma, in place of the one that the vocabulary has for both.

    ALBERT was pretrained so: it has never seen those pieces (`encode_pieces` in
    https://github.com/google-research/albert/blob/master/tokenization.py).
    """
    parts = _parts_with_comma(tokenizer)
    if not parts:
        return ids, starts, ends
    pieces, first = tf.constant(list(parts)), ids.flat_values
    place = tf.minimum(tf.searchsorted(pieces, first), len(parts) - 1)
    has_comma = tf.gather(pieces, place) == first
    # Which token each part is of, and its number there.
    part_counts = tf.constant([len(each) for each in parts.values()])
    counts = tf.where(has_comma, tf.gather(part_counts, place), 1)
    token = ragged.owners(counts)
    number = tf.range(tf.size(token)) - tf.gather(ragged.begins(counts), token)
    at = tf.gather(tf.gather(ragged.begins(part_counts), place), token) + number
    every = tf.constant([part for each in parts.values() for part in each])
    is_cut = tf.gather(has_comma, token)
    values = tf.where(is_cut, tf.gather(every, tf.where(is_cut, at, 0)), tf.gather(first, token))

    # The comma is the last character of the piece, of one byte or, before it is normalised, of more.
    begin, end = starts.flat_values, ends.flat_values
    cut_texts = tf.boolean_mask(tf.gather(texts, ragged.rows(ids)), has_comma)
    cut_texts = tf.strings.substr(cut_texts, *(tf.boolean_mask(each, has_comma) for each in (begin, end - begin)))
    commas = tf.strings.length(tf.strings.regex_replace(cut_texts, r"(?s)^.*(.)$", r"\1"))
    comma_begin = end - tf.scatter_nd(tf.where(has_comma), commas, tf.shape(end, tf.int64))
    is_comma = is_cut & (number == tf.gather(counts, token) - 1)
    begin = tf.gather(begin, token)
    begin = tf.where(is_comma, tf.gather(comma_begin, token), begin)
    end = tf.where(is_comma, tf.gather(end, token), tf.gather(comma_begin, token))
    splits = tf.gather(tf.concat([[0], tf.cumsum(counts)], axis=0), ids.row_splits)
    made = (tf.RaggedTensor.from_row_splits(each, splits, validate=False) for each in (values, begin, end))
    ids, starts, ends = made
    return ids, starts, ends


def _parts_with_comma(tokenizer: Any) -> dict[int, list[int]]:
    """The pieces that end in a digit and a comma, by id, ascending, and the ids that stand for each instead."""
    vocabulary = tokenizer.get_vocabulary()
    pieces = {number: piece for number, piece in enumerate(vocabulary) if piece[-1:] == "," and piece[-2:-1].isdigit()}
    if not pieces:
        return {}
    comma = tokenizer.token_to_id(",")
    with tf.init_scope():
        heads = tf.constant([piece[:-1].replace(_SPACE_PIECE, "") for piece in pieces.values()])
        found = tokenizer._sentence_piece.tokenize(heads).to_list()
    parts = {}
    for (number, piece), head in zip(pieces.items(), found, strict=True):
        first = vocabulary[head[0]]
        if piece[0] != _SPACE_PIECE and first[0] == _SPACE_PIECE:
            head = [*([] if first == _SPACE_PIECE else [tokenizer.token_to_id(first[1:])]), *head[1:]]
        parts[number] = [*head, comma]
    return parts
