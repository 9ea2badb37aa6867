"""WordPiece tokens with byte offsets, in TensorFlow graph code.

WordPiece reads a changed text: without accents, in lower case, in another normal form, with other lengths. The way back
is kept piece by piece, from the bytes of the changed text to those of the original.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_text
from keras_hub.src.tokenizers.word_piece_tokenizer import (
    CJK_REGEX,
    PUNCTUATION_AND_CJK_REGEX,
    PUNCTUATION_REGEX,
    WHITESPACE_AND_PUNCTUATION_REGEX,
    WHITESPACE_PUNCTUATION_AND_CJK_REGEX,
    get_special_tokens_pattern,
    pretokenize,
)

from kft.text import characters, normalizers, ragged
from kft.text.changes import changed
from kft.text.rules import Rules

MAX_WORD_CHARACTERS = 100  # a longer word is unknown, as in BERT's own tokenizer


def spans(tokenizer: Any, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
    """Token ids as KerasHub's tokenizer gives them, and the bytes of the text that each stands for. Graph code.

    Args:
        tokenizer: A KerasHub `WordPieceTokenizer` that splits its text.
        texts: `(batch,)` strings of valid UTF-8 without NUL.

    Returns:
        Ids, starts and ends, ragged `(batch, tokens)` int32. The unknown token spans its whole word.
    """
    special = get_special_tokens_pattern(tokenizer._special_tokens_for_splitting())
    return _read(
        texts,
        lambda strings: _without_accents(tokenizer, strings),
        _split_patterns(tokenizer, special),
        lambda strings: pretokenize(strings, tokenizer.lowercase, False, False, False, special),
        tokenizer._fast_word_piece.tokenize_with_offsets,
    )


def by_rules(
    tokenizer: Any, rules: Rules, texts: tf.Tensor
) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
    """Likewise, as BERT's own tokenizer gives them by these rules."""
    return _read(
        texts,
        lambda strings: normalizers.normalized(strings, rules.normalizers),
        (rf"[{normalizers.SPACES}]|{PUNCTUATION_REGEX}", PUNCTUATION_REGEX),
        None,
        lambda words: _pieces(tokenizer, words),
    )


def _pieces(tokenizer: Any, words: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
    """The pieces of `(n,)` words. KerasHub's own limit is 100 bytes a word, BERT's is 100 characters."""
    if not hasattr(tokenizer, "kft_word_piece"):
        with tf.init_scope():
            tokenizer.kft_word_piece = tensorflow_text.FastWordpieceTokenizer(
                vocab=tokenizer.vocabulary,
                token_out_type=tf.int32,
                suffix_indicator=tokenizer.suffix_indicator,
                unknown_token=tokenizer.oov_token,
                no_pretokenization=True,
                max_bytes_per_word=4 * MAX_WORD_CHARACTERS,
            )
    is_long = tf.strings.length(words, unit="UTF8_CHAR") > MAX_WORD_CHARACTERS
    ids, starts, ends = tokenizer.kft_word_piece.tokenize_with_offsets(tf.where(is_long, "", words))
    starts, ends = (offsets.with_flat_values(tf.cast(offsets.flat_values, tf.int32)) for offsets in (starts, ends))
    unknown = tf.fill(tf.shape(words), tf.constant(tokenizer.token_to_id(tokenizer.oov_token), tf.int32))
    return ragged.with_single((ids, starts, ends), is_long, (unknown, tf.zeros_like(unknown), tf.strings.length(words)))


def _read(
    texts: tf.Tensor,
    before: Callable[[tf.Tensor], tf.Tensor],
    patterns: tuple[str, str],
    after: Callable[[tf.Tensor], tf.Tensor] | None,
    pieces: Callable[[tf.Tensor], tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]],
) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
    """Texts changed, cut into words, these changed again and cut into pieces; with the bytes that each stands for.

    Args:
        texts: `(batch,)` strings of valid UTF-8 without NUL.
        before: What is done to the texts.
        patterns: What separates words, and what of that is kept as a word.
        after: What is done to the words.
        pieces: From `(words,)` to the ids of their pieces, first bytes and ends, ragged `(words, pieces)`.
    """
    plain, plain_starts, plain_ends = changed(texts, before)
    words, word_starts, word_ends = tensorflow_text.regex_split_with_offsets(plain, *patterns)
    # Both tables below go from a byte of all words to a byte of all plain texts.
    word_starts = characters.flat_offsets(plain, word_starts)
    word_lengths = tf.strings.length(words.flat_values)
    of_word_byte = ragged.repeat(word_starts - ragged.begins(word_lengths), word_lengths)
    of_word_byte += tf.range(tf.size(of_word_byte))
    folded, folded_starts, folded_ends = words.flat_values, None, None
    if after is not None:
        folded, folded_starts, folded_ends = changed(words.flat_values, after)
    ids, starts, ends = pieces(folded)
    first, last = characters.flat_offsets(folded, starts), characters.flat_offsets(folded, ends) - 1
    if after is not None:
        first, last = tf.gather(folded_starts, first), tf.gather(folded_ends, last) - 1
    first = tf.gather(plain_starts, tf.gather(of_word_byte, first))
    last = tf.gather(plain_ends, tf.gather(of_word_byte, last))
    splits = tf.gather(ids.row_splits, words.row_splits)
    ids = tf.RaggedTensor.from_row_splits(tf.cast(ids.flat_values, tf.int32), splits, validate=False)
    text_begins = tf.gather(ragged.begins(tf.strings.length(texts)), ragged.rows(ids))
    return ids, ids.with_flat_values(first - text_begins), ids.with_flat_values(last - text_begins)


def _without_accents(tokenizer: Any, strings: tf.Tensor) -> tf.Tensor:
    """What KerasHub's `pretokenize` does to a text before it splits it."""
    if tokenizer.split_on_cjk:
        strings = tf.strings.regex_replace(strings, CJK_REGEX, r" \0 ")
    if tokenizer.strip_accents:
        strings = tensorflow_text.normalize_utf8(strings, "NFD")
        strings = tf.strings.regex_replace(strings, r"\p{Mn}", "")
    return strings


def _split_patterns(tokenizer: Any, special: str | None) -> tuple[str, str]:
    """What separates words, and what of that is kept as a word, as KerasHub's `pretokenize` has it."""
    patterns = (
        (WHITESPACE_PUNCTUATION_AND_CJK_REGEX, PUNCTUATION_AND_CJK_REGEX)
        if tokenizer.split_on_cjk
        else (WHITESPACE_AND_PUNCTUATION_REGEX, PUNCTUATION_REGEX)
    )
    return patterns if special is None else (f"{special}|{patterns[0]}", f"{special}|{patterns[1]}")
