"""Texts read by rules of the original tokenizer: ids, and the bytes that each token stands for. Graph code."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_text
from keras_hub.tokenizers import BytePairTokenizer, SentencePieceTokenizer, WordPieceTokenizer

from kft.errors import PresetError
from kft.text import bytepair, characters, ragged, rules, sentencepiece, wordpiece
from kft.text.normalizers import SPACES
from kft.text.rules import Added


class Spans(NamedTuple):
    """Tokens of `(batch,)` strings, all ragged `(batch, tokens)` int32; offsets count bytes."""

    ids: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


def tokenize(tokenizer: Any, texts: tf.Tensor) -> Spans:
    """The tokens of `(batch,)` texts by the rules that are attached to the tokenizer.

    Args:
        tokenizer: A KerasHub tokenizer with `kft.text.rules`.
        texts: `(batch,)` strings. NUL characters are left out of them.
    """
    found = rules.of(tokenizer)
    assert found is not None, "rules are attached"
    texts = characters.without_nul(characters.valid(texts))
    read = READERS[kind(tokenizer)]
    if not found.added:
        return Spans(*read(tokenizer, found, texts))
    parts, begins, which = _parts(texts, found.added)
    is_added = which >= 0
    plain = Spans(*read(tokenizer, found, tf.where(is_added, "", parts.flat_values)))
    numbers = tf.gather(tf.constant([added.id for added in found.added], tf.int32), tf.maximum(which, 0))
    whole = (numbers, tf.zeros_like(numbers), tf.strings.length(parts.flat_values))
    each = Spans(*ragged.with_single(plain, is_added, whole))
    splits = tf.gather(each.ids.row_splits, parts.row_splits)
    shift = tf.gather(begins, ragged.rows(each.ids))
    values = (each.ids.flat_values, each.starts.flat_values + shift, each.ends.flat_values + shift)
    return Spans(*(tf.RaggedTensor.from_row_splits(value, splits, validate=False) for value in values))


READERS = {
    WordPieceTokenizer: wordpiece.by_rules,
    BytePairTokenizer: bytepair.by_rules,
    SentencePieceTokenizer: sentencepiece.by_rules,
}
SPLITS = {
    WordPieceTokenizer: ("bert",),
    BytePairTokenizer: tuple(bytepair.WORDS),
    SentencePieceTokenizer: ("sentencepiece", "albert"),
}


def kind(tokenizer: Any) -> type:
    """Which of KerasHub's three tokenizers this is.

    Raises:
        PresetError: None of them.
    """
    found = next((each for each in READERS if isinstance(tokenizer, each)), None)
    if found is None:
        raise PresetError(f"{type(tokenizer).__name__}: no rules are known for it.")
    return found


def _parts(texts: tf.Tensor, added: tuple[Added, ...]) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
    """The texts cut at added tokens.

    Returns:
        Parts, ragged `(batch, parts)`; the byte of its text at which each begins, `(parts,)` int32; and which of the
        added tokens each is, `(parts,)` int32, -1 for what lies between them.
    """
    # The longest first: RE2 takes the first alternative that fits.
    patterns = [
        (rf"[{SPACES}]*" if token.takes_left else "")
        + re.escape(token.text)
        + (rf"[{SPACES}]*" if token.takes_right else "")
        for token in sorted(added, key=lambda token: -len(token.text))
    ]
    pattern = "|".join(patterns)
    parts, begins, _ = tensorflow_text.regex_split_with_offsets(texts, pattern, pattern)
    strings = parts.flat_values
    if any(token.takes_left or token.takes_right for token in added):
        is_match = tf.strings.regex_full_match(strings, pattern)
        strings = tf.where(is_match, tf.strings.regex_replace(strings, rf"^[{SPACES}]+|[{SPACES}]+$", ""), strings)
    same = strings[:, tf.newaxis] == tf.constant([token.text for token in added])[tf.newaxis, :]
    which = tf.where(tf.reduce_any(same, axis=1), tf.argmax(same, axis=1, output_type=tf.int32), -1)
    return parts, tf.cast(begins.flat_values, tf.int32), which
