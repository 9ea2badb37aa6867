"""Which bytes of a text each byte of the changed text comes from, for any change, in TensorFlow graph code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from kft.text import normalizers, ragged

# What can merge with the character before it in a composed normal form: marks, Hangul letters, halfwidth voice marks.
_MAY_COMPOSE = (
    r"\p{M}|[\x{1100}-\x{11FF}\x{A960}-\x{A97F}\x{D7B0}-\x{D7FF}\x{3131}-\x{318E}\x{FFA0}-\x{FFDC}\x{FF9E}\x{FF9F}]"
)


def normalized(strings: tf.Tensor, names: Sequence[str]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`(n,)` strings after the changes of these names, and the two tables of `changed`. Graph code."""
    if not names:
        byte = tf.range(tf.reduce_sum(tf.strings.length(strings)))
        return strings, byte, byte + 1
    if "quotes" not in names:
        return changed(strings, lambda each: normalizers.normalized(each, names))
    place = names.index("quotes")
    assert place == 0, "quotes are replaced before anything else"
    # The same length with a byte that no text has: what is left out is seen by it.
    kept = tf.strings.regex_replace(strings, normalizers.QUOTES, b'"\xff')
    is_kept = tf.io.decode_raw(tf.strings.reduce_join(kept), tf.uint8) != 0xFF
    first = tf.cast(tf.where(is_kept)[:, 0], tf.int32)
    last = tf.concat([first[1:], [tf.size(is_kept)]], axis=0)[: tf.size(first)]  # one past the byte, or past both
    plain, starts, ends = normalized(normalizers.normalized(strings, ["quotes"]), names[1:])
    return plain, tf.gather(first, starts), tf.gather(last, ends - 1)


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
    each, string_of = split.flat_values, ragged.rows(split)
    is_first = tf.concat([[True], string_of[1:] != string_of[:-1]], axis=0)[: tf.size(each)]
    begins_cluster = is_first | ~tf.strings.regex_full_match(each, _MAY_COMPOSE)
    clusters = _joined(each, begins_cluster)
    cluster_of = tf.cumsum(tf.cast(begins_cluster, tf.int32)) - 1

    whole, whole_cluster, whole_character = change(strings), change(clusters), change(each)
    cluster_is_sum = _joined(whole_character, begins_cluster) == whole_cluster
    begins_string = tf.boolean_mask(is_first, begins_cluster)
    string_is_sum = _joined(whole_cluster, begins_string) == tf.boolean_mask(whole, ragged.lengths(split) > 0)

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
    unit_starts = tf.boolean_mask(ragged.begins(tf.strings.length(each)), begins)
    unit_ends = tf.concat([unit_starts, [tf.reduce_sum(tf.strings.length(each))]], axis=0)[1:]
    lengths = tf.boolean_mask(length_after, begins)
    unit = ragged.owners(lengths)
    return whole, tf.gather(unit_starts, unit), tf.gather(unit_ends, unit)


def _joined(pieces: tf.Tensor, begins: tf.Tensor) -> tf.Tensor:
    """Neighbouring pieces put together, a new string at each piece that begins one."""
    starts = tf.where(begins)[:, 0]
    return tf.strings.reduce_join(tf.RaggedTensor.from_row_starts(pieces, starts, validate=False), axis=-1)
