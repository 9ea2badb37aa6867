"""Texts to words with character offsets, in TensorFlow graph code.

A word is a span of the text, never a changed copy of it: Python's `text[start:end]` is the word exactly. What the words
of a language without spaces are (Thai, Khmer, Lao) takes a dictionary, so a run of their letters is one word here.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
import tensorflow_text

from kft.text import characters, flat

# Scripts written without spaces, of which one character is about one word; the rest of the class are the length and
# voice marks of kana, which Unicode counts to no script.
_IDEOGRAPHS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\x{30FC}\x{FF70}\x{FF9E}\x{FF9F}"
_FLAG = r"[\x{1F1E6}-\x{1F1FF}]"
# What belongs to the character before it: marks, variation selectors, joiners, direction marks, tags, halfwidth voice
# marks; not the two format characters that separate.
_ATTACHED = r"(?:\p{M}|[^\P{Cf}\x{200B}\x{FEFF}]|[\x{FF9E}\x{FF9F}])"
_ATTACHED_TO_SYMBOL = rf"(?:{_ATTACHED}|[\x{{1F3FB}}-\x{{1F3FF}}])"  # and skin tones
# RE2 has no class subtraction: `[^\P{L}…]` are the letters that are not in the rest of the class.
_LETTER = rf"(?:[^\P{{L}}{_IDEOGRAPHS}]|[^\P{{N}}{_IDEOGRAPHS}])"
# No control characters: a NUL, which needs care below, is always the first character of a word.
_SYMBOL = rf"[^\p{{L}}\p{{N}}\p{{P}}\p{{Cc}}{characters.SPACES}]"
_WORD = "|".join(
    [
        rf"{_LETTER}(?:{_LETTER}|{_ATTACHED})*",
        rf"{_FLAG}{_FLAG}{_ATTACHED}*",
        # Emoji joined by U+200D are one picture.
        rf"{_SYMBOL}(?:{_ATTACHED_TO_SYMBOL}*\x{{200D}}{_SYMBOL})*{_ATTACHED_TO_SYMBOL}*",
        rf"[^{characters.SPACES}]{_ATTACHED_TO_SYMBOL}*",
    ]
)


class Words(NamedTuple):
    """The words of a batch of texts, all ragged `(batch, words)`.

    Attributes:
        texts: The words themselves, strings.
        starts: Their first characters in the text, int32: Unicode code points, as Python counts them.
        ends: One past their last characters, int32.
    """

    texts: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


def find(texts: tf.Tensor) -> Words:
    """The words of each text. Graph code.

    Words never overlap and cover every character that is no space: runs of letters, digits and their marks; each
    ideograph and kana; each punctuation character, symbol, control character and whole emoji. Spaces are what
    `str.isspace` says, and U+200B and U+FEFF, which cannot be seen.

    Args:
        texts: `(batch,)` strings. Bytes that are no UTF-8 count as Python's `bytes.decode(errors="replace")` has them.
    """
    texts = characters.valid(texts)
    # To the op a NUL ends the text; another control character is as long and splits the same.
    readable = tf.strings.regex_replace(texts, "\\x00", "\x01")
    pattern = rf"(?:{_WORD})"
    words, starts, ends = tensorflow_text.regex_split_with_offsets(
        readable, rf"[{characters.SPACES}]+|{pattern}", pattern
    )
    first_bytes = tf.gather(characters.flat_bytes(texts), characters.flat_offsets(texts, starts))
    with_nul = tf.strings.join(["\0", tf.strings.substr(words.flat_values, 1, -1)])
    words = words.with_flat_values(tf.where(first_bytes == 0, with_nul, words.flat_values))
    return Words(words, *characters.from_bytes(texts, starts, ends))


def marked(texts: tf.Tensor, marks: tf.Tensor) -> Words:
    """The words that are marked in each text. Graph code.

    Args:
        texts: `(batch,)` strings of valid UTF-8.
        marks: For each as many ASCII characters as it has: `B` where a word begins, `I` where it goes on.
    """
    _, starts, ends = tensorflow_text.regex_split_with_offsets(marks, "BI*|[^B]", "BI*")
    starts, ends = (tf.cast(places, tf.int32) for places in (starts, ends))
    first, last = starts.flat_values, ends.flat_values
    each = tf.strings.substr(tf.gather(texts, flat.rows(starts)), first, last - first, unit="UTF8_CHAR")
    return Words(starts.with_flat_values(each), starts, ends)


@tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
def find_in_strings(texts: tf.Tensor) -> Words:
    """`find` for calls outside a graph."""
    return find(texts)
