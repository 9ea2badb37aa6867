"""Texts to words with character offsets, in TensorFlow graph code.

A word is a span of the text, never a changed copy of it: Python's `text[start:end]` is the word exactly. Where words
end is told by one of `RULES`. A run keeps the rule that it was trained with, so what a name means never changes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_text

from kft.errors import RunError, did_you_mean
from kft.text import characters, ragged

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
# Whatever begins no run of letters or digits.
_CHARACTERS = (
    rf"{_FLAG}{_FLAG}{_ATTACHED}*",
    # Emoji joined by U+200D are one picture.
    rf"{_SYMBOL}(?:{_ATTACHED_TO_SYMBOL}*\x{{200D}}{_SYMBOL})*{_ATTACHED_TO_SYMBOL}*",
    rf"[^{characters.SPACES}]{_ATTACHED_TO_SYMBOL}*",
)

# Letters of which a dictionary alone tells where words end: those of Unicode's line breaking class SA.
_UNSPACED = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}\p{Ahom}"
# One with its marks, and where a virama says so the letter below it.
_UNSPACED_CHARACTER = rf"[{_UNSPACED}](?:{_ATTACHED}*[\x{{1039}}\x{{17D2}}][{_UNSPACED}]|{_ATTACHED})*"
_NUMBER = rf"[^\P{{N}}{_IDEOGRAPHS}]"
_NUMBERS = rf"{_NUMBER}(?:{_NUMBER}|{_ATTACHED})*"
# Scripts that meet others within what is written as one word, as in `K팝` or `VIPам`.
_SCRIPTS = ("Latin", "Greek", "Cyrillic", "Arabic", "Hebrew", "Hangul")
_OTHERS = "".join(rf"\p{{{script}}}" for script in _SCRIPTS)
_ANY_SCRIPT = rf"[^\P{{L}}\P{{Common}}{_IDEOGRAPHS}]"  # letters of no script, as the apostrophe that is a letter
_OTHER_LETTER = rf"[^\P{{L}}{_IDEOGRAPHS}{_UNSPACED}{_OTHERS}]"


def _letters_of(script: str) -> str:
    letter = rf"[^\P{{L}}\P{{{script}}}]"
    return rf"{_ANY_SCRIPT}*{letter}(?:{letter}|{_ANY_SCRIPT}|{_ATTACHED})*"


# The parts of a syllable of Hangul where they are characters of their own.
_JAMO = r"[\x{1100}-\x{115F}]+[\x{1160}-\x{11A7}]*[\x{11A8}-\x{11FF}]*"

FIRST, WORDS, CHARACTERS = "words/1", "words/2", "characters/1"
RULES = {
    # Runs of letters and digits of any script, but each ideograph and kana by itself; all else by the character.
    FIRST: "|".join([rf"{_LETTER}(?:{_LETTER}|{_ATTACHED})*", *_CHARACTERS]),
    # Letters and digits apart, scripts apart, and scripts without spaces by the character.
    WORDS: "|".join(
        [
            _NUMBERS,
            _UNSPACED_CHARACTER,
            *map(_letters_of, _SCRIPTS),
            rf"{_OTHER_LETTER}(?:{_OTHER_LETTER}|{_ATTACHED})*",
            *_CHARACTERS,
        ]
    ),
    # Every character, as a reader sees it.
    CHARACTERS: "|".join([_UNSPACED_CHARACTER, rf"{_JAMO}{_ATTACHED}*", *_CHARACTERS]),
}
"""What a word is, by the name that runs store: alternatives of RE2, the first that fits."""


def check(rule: str) -> None:
    """Refuses a rule that this version does not know.

    Raises:
        RunError: Names it.
    """
    if rule not in RULES:
        raise RunError(
            f"labels.json: found words by the rule {rule!r}.{did_you_mean(str(rule), RULES)} Expected one of: "
            f"{', '.join(RULES)}. A run of a later version needs that version of kft."
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


def find(texts: tf.Tensor, rule: str = WORDS) -> Words:
    """The words of each text. Graph code.

    Words never overlap and cover every character that is no space: runs of letters or digits with their marks; each
    ideograph, kana and character of a script without spaces; each punctuation character, symbol, control character and
    whole emoji. Spaces are what `str.isspace` says, and U+200B and U+FEFF, which cannot be seen.

    Args:
        texts: `(batch,)` strings. Bytes that are no UTF-8 count as Python's `bytes.decode(errors="replace")` has them.
        rule: One of `RULES`.
    """
    texts = characters.valid(texts)
    # To the op a NUL ends the text; another control character is as long and splits the same.
    readable = tf.strings.regex_replace(texts, "\\x00", "\x01")
    pattern = rf"(?:{RULES[rule]})"
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
    each = tf.strings.substr(tf.gather(texts, ragged.rows(starts)), first, last - first, unit="UTF8_CHAR")
    return Words(starts.with_flat_values(each), starts, ends)


@functools.cache
def finder(rule: str) -> Callable[..., Words]:
    """`find` by a rule, for calls outside a graph."""
    signature = [tf.TensorSpec((None,), tf.string)]
    return tf.function(lambda texts: find(texts, rule), input_signature=signature, autograph=False)
