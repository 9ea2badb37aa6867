"""From byte offsets, which tokenizers count, to character offsets, which Python counts, in TensorFlow graph code."""

from __future__ import annotations

import tensorflow as tf

from kft.text import ragged

# For use inside a character class of RE2: what `str.isspace` says, and two format characters that are spaces without
# width.
SPACES = r"\s\p{Z}\x{0B}\x{1C}-\x{1F}\x{85}\x{200B}\x{FEFF}"


def valid(texts: tf.Tensor) -> tf.Tensor:
    """The same `(batch,)` texts; bytes that are no UTF-8 become U+FFFD, as `bytes.decode(errors="replace")` has it."""
    # Valid texts come back unchanged, control characters and byte order marks included.
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def without_nul(texts: tf.Tensor) -> tf.Tensor:
    """The texts as tokenizers see them: without NUL, which to some ops ends a text."""
    return tf.strings.regex_replace(texts, "\\x00", "")


def flat_bytes(texts: tf.Tensor) -> tf.Tensor:
    """The bytes of all `(batch,)` texts, one text after the other: `(bytes,)` uint8."""
    return tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8)


def flat_offsets(texts: tf.Tensor, offsets: tf.RaggedTensor) -> tf.Tensor:
    """Ragged `(batch, spans)` byte offsets, each from its text's beginning, as `(spans,)` int32 into `flat_bytes`."""
    begins = ragged.begins(tf.strings.length(texts))
    return tf.cast(offsets.flat_values, tf.int32) + tf.gather(begins, ragged.rows(offsets))


def from_bytes(
    texts: tf.Tensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor, *, skips_nul: bool = False
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Spans of bytes as spans of characters. A span that cuts a character covers it whole.

    Args:
        texts: `(batch,)` strings of valid UTF-8.
        starts: Ragged `(batch, spans)`, each text's own byte offsets.
        ends: The same for the ends, exclusive.
        skips_nul: The offsets count the bytes of `without_nul(texts)`; the result still counts those of `texts`.

    Returns:
        Starts and ends, ragged `(batch, spans)` int32. An empty span stays empty.
    """
    seen = without_nul(texts) if skips_nul else texts
    first, last = flat_offsets(seen, starts), flat_offsets(seen, ends)
    data = flat_bytes(texts)
    # A byte 10xxxxxx continues a character.
    numbers = tf.cumsum(tf.cast(tf.bitwise.bitwise_and(data, 0xC0) != 0x80, tf.int32)) - 1
    if skips_nul:
        numbers = tf.boolean_mask(numbers, data != 0)
    numbers = tf.concat([numbers, [0]], axis=0)  # so that there is something to gather where all texts are empty
    text_begins = tf.gather(ragged.begins(tf.strings.length(texts, unit="UTF8_CHAR")), ragged.rows(starts))
    end = tf.gather(numbers, tf.maximum(last - 1, 0)) + 1 - text_begins
    end = tf.where(tf.cast(ends.flat_values, tf.int32) > 0, end, 0)
    start = tf.where(last > first, tf.gather(numbers, first) - text_begins, end)
    return starts.with_flat_values(start), starts.with_flat_values(end)


def without_spaces(
    texts: tf.Tensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Spans of characters without the spaces at their edges; a span of nothing but spaces stays as it is.

    Args:
        texts: `(batch,)` strings of valid UTF-8.
        starts: Ragged `(batch, spans)` int32, in characters.
        ends: The same for the ends, exclusive.
    """
    each = tf.strings.unicode_split(texts, "UTF-8")
    text_begins = tf.gather(ragged.begins(ragged.lengths(each)), ragged.rows(starts))
    first, last = starts.flat_values + text_begins, ends.flat_values + text_begins
    is_space = tf.strings.regex_full_match(each.flat_values, f"[{SPACES}]")
    seen = tf.cast(tf.where(~is_space)[:, 0], tf.int32)  # where the other characters are, among those of all texts
    edged = tf.concat([[-1], seen, [tf.size(is_space)]], axis=0)
    trimmed_first = tf.gather(edged, tf.searchsorted(seen, first, side="left") + 1)
    trimmed_last = tf.gather(edged, tf.searchsorted(seen, last, side="left")) + 1
    has_any = trimmed_first < trimmed_last
    first = tf.where(has_any, trimmed_first, first) - text_begins
    last = tf.where(has_any, trimmed_last, last) - text_begins
    return starts.with_flat_values(first), starts.with_flat_values(last)
