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

from kft.text import characters, flat

# What can merge with the character before it in a composed normal form: marks, Hangul letters, halfwidth voice marks.
_MAY_COMPOSE = (
    r"\p{M}|[\x{1100}-\x{11FF}\x{A960}-\x{A97F}\x{D7B0}-\x{D7FF}\x{3131}-\x{318E}\x{FFA0}-\x{FFDC}\x{FF9E}\x{FF9F}]"
)


def spans(tokenizer: Any, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
    """Token ids as the tokenizer gives them, and the bytes of the text that each stands for. Graph code.

    Args:
        tokenizer: A KerasHub `WordPieceTokenizer` that splits its text.
        texts: `(batch,)` strings of valid UTF-8 without NUL.

    Returns:
        Ids, starts and ends, ragged `(batch, tokens)` int32. The unknown token spans its whole word.
    """
    special = get_special_tokens_pattern(tokenizer._special_tokens_for_splitting())
    plain, plain_starts, plain_ends = changed(texts, lambda strings: _without_accents(tokenizer, strings))
    words, word_starts, word_ends = tensorflow_text.regex_split_with_offsets(
        plain, *_split_patterns(tokenizer, special)
    )
    # Both tables below go from a byte of all words to a byte of all plain texts.
    word_starts = characters.flat_offsets(plain, word_starts)
    word_lengths = tf.strings.length(words.flat_values)
    of_word_byte = flat.repeat(word_starts - flat.begins(word_lengths), word_lengths)
    of_word_byte += tf.range(tf.size(of_word_byte))
    folded, folded_starts, folded_ends = changed(
        words.flat_values, lambda strings: pretokenize(strings, tokenizer.lowercase, False, False, False, special)
    )
    ids, starts, ends = tokenizer._fast_word_piece.tokenize_with_offsets(folded)  # ragged (words, tokens of a word)
    first, last = characters.flat_offsets(folded, starts), characters.flat_offsets(folded, ends) - 1
    first = tf.gather(plain_starts, tf.gather(of_word_byte, tf.gather(folded_starts, first)))
    last = tf.gather(plain_ends, tf.gather(of_word_byte, tf.gather(folded_ends, last) - 1))
    splits = tf.gather(ids.row_splits, words.row_splits)
    ids = tf.RaggedTensor.from_row_splits(tf.cast(ids.flat_values, tf.int32), splits, validate=False)
    text_begins = tf.gather(flat.begins(tf.strings.length(texts)), flat.rows(ids))
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


def changed(strings: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Changed strings, and for each of their bytes which bytes of the original it comes from.

    Works for any change: a character by itself where the change of the whole is the changes of its characters put
    together; else a character with its marks; else the whole string.

    Args:
        strings: `(n,)` strings of valid UTF-8.
        change: From strings to as many strings.

    Returns:
        The `(n,)` changed strings, and starts and ends: for each byte of the changed strings, one string after the
        other, `(bytes,)` int32 positions in the bytes of the originals, one after the other too.
    """
    split = tf.strings.unicode_split(strings, "UTF-8")  # ragged (n, characters)
    each, string_of = split.flat_values, flat.rows(split)
    is_first = tf.concat([[True], string_of[1:] != string_of[:-1]], axis=0)[: tf.size(each)]
    begins_cluster = is_first | ~tf.strings.regex_full_match(each, _MAY_COMPOSE)
    clusters = _joined(each, begins_cluster)
    cluster_of = tf.cumsum(tf.cast(begins_cluster, tf.int32)) - 1

    whole, whole_cluster, whole_character = change(strings), change(clusters), change(each)
    cluster_is_sum = _joined(whole_character, begins_cluster) == whole_cluster
    begins_string = tf.boolean_mask(is_first, begins_cluster)
    string_is_sum = _joined(whole_cluster, begins_string) == tf.boolean_mask(whole, flat.lengths(split) > 0)

    # The units: each begins at a character and ends where the next begins.
    string_is_sum = tf.gather(string_is_sum, tf.cumsum(tf.cast(is_first, tf.int32)) - 1)
    cluster_is_sum = tf.gather(cluster_is_sum, cluster_of)
    character_length = tf.strings.length(whole_character)
    # A mark that leaves nothing behind stays with its letter.
    begins = is_first | (string_is_sum & (begins_cluster | (cluster_is_sum & (character_length > 0))))
    cluster_length = tf.gather(tf.strings.length(whole_cluster), cluster_of)
    length_after = tf.where(
        string_is_sum,
        tf.where(cluster_is_sum, character_length, cluster_length),
        tf.gather(tf.strings.length(whole), string_of),
    )
    unit_starts = tf.boolean_mask(flat.begins(tf.strings.length(each)), begins)
    unit_ends = tf.concat([unit_starts, [tf.reduce_sum(tf.strings.length(each))]], axis=0)[1:]
    lengths = tf.boolean_mask(length_after, begins)
    unit = flat.owners(lengths)
    return whole, tf.gather(unit_starts, unit), tf.gather(unit_ends, unit)


def _joined(pieces: tf.Tensor, begins: tf.Tensor) -> tf.Tensor:
    """Neighbouring pieces put together, a new string at each piece that begins one."""
    starts = tf.where(begins)[:, 0]
    return tf.strings.reduce_join(tf.RaggedTensor.from_row_starts(pieces, starts, validate=False), axis=-1)
