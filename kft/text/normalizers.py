"""Changes that tokenizers make to a text before they cut it into words, in TensorFlow graph code.

Each is the one of that name in the `tokenizers` library, or a part of it; `spaces` and `combining` are steps of the
code of ALBERT's authors. They differ in characters that came to Unicode after the version that a library knows.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_text
from tokenizers import normalizers

_WIDE_SPACES = r"\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
ROW_SPACES = r"\t\x{0B}\x{0C} \x{85}" + _WIDE_SPACES  # all but line ends
SPACES = r"\r\n" + ROW_SPACES
"""Unicode's White_Space, for use inside a character class of RE2, whose `\\s` knows the spaces of ASCII only."""

QUOTES = "``|''"
_CJK = (
    r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B81F}\x{2B920}-\x{2CEAF}"
    r"\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]"
)
_UNSEEN = r"[\x{00}\x{FFFD}\p{Cc}\p{Cf}\p{Co}]"


def normalized(strings: tf.Tensor, names: Sequence[str]) -> tf.Tensor:
    """The `(n,)` strings after the named changes, one after another."""
    for name in names:
        strings = CHANGES[name](strings)
    return strings


def _clean(strings: tf.Tensor) -> tf.Tensor:
    """Without control and format characters, and with a plain space for any other (BERT's `clean_text`)."""
    # Tab and line ends are control characters too.
    strings = tf.strings.regex_replace(strings, rf"[\t\n\r{_WIDE_SPACES}]", " ")
    return tf.strings.regex_replace(strings, _UNSEEN, "")


def _lower(strings: tf.Tensor) -> tf.Tensor:
    """Lower case, character by character: TensorFlow's own depends on the language of the machine."""
    strings = tf.strings.regex_replace(strings, "\u0130", "i\u0307")  # the one that becomes two
    upper, lower = _cases()
    codes = tf.strings.unicode_decode(strings, "UTF-8", errors="ignore")
    place = tf.minimum(tf.searchsorted(upper, codes.flat_values), len(upper) - 1)
    is_upper = tf.gather(upper, place) == codes.flat_values
    codes = codes.with_flat_values(tf.where(is_upper, tf.gather(lower, place), codes.flat_values))
    return tf.strings.unicode_encode(codes, "UTF-8")


@functools.cache
def _cases() -> tuple[np.ndarray, np.ndarray]:
    """The code points that have a lower case of one character, ascending, and that."""
    every = np.delete(np.arange(0x110000, dtype="<u4"), np.r_[0x130, 0xD800:0xE000])
    found = normalizers.Lowercase().normalize_str(every.tobytes().decode("utf-32-le"))
    lowered = np.frombuffer(found.encode("utf-32-le"), "<u4")
    upper, lower = (codes[every != lowered].astype(np.int32) for codes in (every, lowered))
    return upper, lower


def _without_combining(strings: tf.Tensor) -> tf.Tensor:
    """Without the characters of a combining class: accents, but not the vowels of Indic and Thai, nor U+FE0F."""
    return tf.strings.regex_replace(strings, _combining(), "")


@functools.cache
def _combining() -> str:
    """The pattern of one such character."""
    codes = [code for code in range(0x110000) if unicodedata.combining(chr(code))]
    return "[" + "".join(rf"\x{{{code:X}}}" for code in codes) + "]"


def _form(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda strings: tensorflow_text.normalize_utf8(strings, name)


def _replaced(pattern: str, by: str) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda strings: tf.strings.regex_replace(strings, pattern, by)


CHANGES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "clean": _clean,
    "cjk": _replaced(_CJK, r" \0 "),
    "nfc": _form("NFC"),
    "nfd": _form("NFD"),
    "nfkc": _form("NFKC"),
    "nfkd": _form("NFKD"),
    "nonspacing": _replaced(r"\p{Mn}", ""),
    "marks": _replaced(r"\p{M}", ""),
    "combining": _without_combining,
    "lower": _lower,
    "quotes": _replaced(QUOTES, '"'),
    "spaces": _replaced(rf"[{SPACES}\x{{1C}}-\x{{1F}}]", " "),  # what Python's `str.split` cuts at
}
