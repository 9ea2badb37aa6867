"""Byte-level BPE tokens with byte offsets, in TensorFlow graph code.

The tokenizer gives ids alone, and each id stands for a known number of bytes. So the tokens of a text lie one after the
other along its pieces (words with their spaces), which are found here as KerasHub finds them: a piece that it drops, or
takes for a special token, is thereby known too.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_text
from keras_hub.src.tokenizers.byte_pair_tokenizer import (
    SPECIAL_WHITESPACES,
    SPLIT_PATTERN_1,
    SPLIT_PATTERN_2,
    create_alts_for_unsplittable_tokens,
)

from kft.text import characters, normalizers, ragged
from kft.text.changes import normalized
from kft.text.rules import Rules

# KerasHub's tokenizer puts this digit before a space to end a piece there, and drops it later, the text's own as well.
_MARKER = "\u096c"
_MARKED_SPACE = rf"( )([^\s{SPECIAL_WHITESPACES}])"


# What the original tokenizers split texts by, without their look-ahead `\s+(?!\S)`, which RE2 does not have. In its
# place a byte that is in no valid UTF-8 stands where the look-ahead would end a run of spaces: before the last of them.
_CUT = b"\xff"
_S, _ROW_S = normalizers.SPACES, normalizers.ROW_SPACES
_OTHER = rf"[^{_S}\p{{L}}\p{{N}}]"
_LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    rf"| ?{_OTHER}+[\r\n]*|[{_S}]*[\r\n]+|[{_S}]+"
)
_GPT = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?{_OTHER}+|[{_S}]+"
WORDS = {
    "gpt2": _GPT,
    "gpt2_digits": _GPT,
    "llama3": _LLAMA.replace("DIGITS", "{1,3}"),
    "qwen2": _LLAMA.replace("DIGITS", ""),
}
_RUN_END = {_GPT: rf"([{_S}])([{_S}])([^{_S}])"}  # of the others a line end is no last space
_LINE_RUN_END = rf"([{_S}])([{_ROW_S}])([^{_S}])"


class _Pieces(NamedTuple):
    """Pieces of all texts, one after the other: `(pieces,)` each.

    Attributes:
        strings: What the tokenizer merges.
        rows: Which text each is from.
        starts: Its first byte among those of all marked texts.
        lengths: How many bytes of the marked text it stands for.
        is_stand_in: Whether it is a short name of a special token.
    """

    strings: tf.Tensor
    rows: tf.Tensor
    starts: tf.Tensor
    lengths: tf.Tensor
    is_stand_in: tf.Tensor


def spans(tokenizer: Any, ids: tf.RaggedTensor, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """The bytes of the text that each token stands for. Graph code.

    Args:
        tokenizer: A KerasHub `BytePairTokenizer`.
        ids: What its graph path gives for the texts, ragged `(batch, tokens)`.
        texts: `(batch,)` strings of valid UTF-8 without NUL.

    Returns:
        Starts and ends, ragged `(batch, tokens)` int32. They cut a character where tokens do.
    """
    read = tf.strings.join([" ", texts]) if tokenizer.add_prefix_space else texts
    marked, read_byte = _mark(read)
    pieces = _split(tokenizer, marked)
    num_bytes = tf.strings.length(pieces.strings)
    # For each byte that the tokenizer merges, in the order of the pieces: the marked bytes that it stands for.
    piece = ragged.owners(num_bytes)
    within = tf.range(tf.size(piece)) - tf.gather(ragged.begins(num_bytes), piece)
    is_verbatim = tf.gather(num_bytes == pieces.lengths, piece)
    first = tf.gather(pieces.starts, piece) + tf.where(is_verbatim, within, 0)
    last = tf.where(is_verbatim, first, first + tf.gather(pieces.lengths, piece) - 1)

    rows = ragged.rows(ids)
    lengths = _num_bytes(tokenizer, ids.flat_values)
    text_num_bytes = tf.math.unsorted_segment_sum(num_bytes, pieces.rows, tf.size(texts))
    text_ends = tf.cumsum(text_num_bytes)
    tokens_before = ragged.begins(tf.math.unsorted_segment_sum(lengths, rows, tf.size(texts)))
    # Both sums grow alike; a text does not pass its drift on to the next should they ever not.
    ends = tf.cumsum(lengths) + tf.gather(text_ends - text_num_bytes - tokens_before, rows)
    limit = tf.gather(text_ends, rows) - 1
    starts, ends = tf.minimum(ends - lengths, limit), tf.minimum(ends - 1, limit)

    text_begins = tf.gather(ragged.begins(tf.strings.length(read)), rows)
    text_begins += 1 if tokenizer.add_prefix_space else 0
    starts = tf.gather(read_byte, tf.gather(first, starts)) - text_begins
    ends = tf.gather(read_byte, tf.gather(last, ends)) + 1 - text_begins
    return ids.with_flat_values(tf.maximum(starts, 0)), ids.with_flat_values(ends)


def by_rules(
    tokenizer: Any, rules: Rules, texts: tf.Tensor
) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
    """Token ids as the original tokenizer gives them by these rules, and the bytes that each stands for. Graph code.

    Args:
        tokenizer: A KerasHub `BytePairTokenizer`, for its vocabulary and merges.
        rules: How texts are cut into words.
        texts: `(batch,)` strings of valid UTF-8 without NUL.

    Returns:
        Ids, starts and ends, ragged `(batch, tokens)` int32. They cut a character where tokens do.
    """
    plain, plain_starts, plain_ends = normalized(texts, rules.normalizers)
    has_prefix = tf.fill(tf.shape(plain), False)
    if rules.prefix_space:
        has_prefix = (plain != "") & (tf.strings.substr(plain, 0, 1) != " ")
    marked = tf.where(has_prefix, tf.strings.join([" ", plain]), plain)
    if rules.split == "gpt2_digits":
        marked = tf.strings.regex_replace(marked, r"\p{N}", _CUT + rb"\0" + _CUT)
    words = WORDS[rules.split]
    marked = tf.strings.regex_replace(marked, _RUN_END.get(words, _LINE_RUN_END), rb"\1" + _CUT + rb"\2\3")
    pieces, begins, _ = tensorflow_text.regex_split_with_offsets(marked, words, words)
    begins = characters.flat_offsets(marked, begins)
    is_piece = tf.strings.substr(pieces.flat_values, 0, 1) != _CUT
    begins = tf.boolean_mask(begins, is_piece)
    pieces = tf.ragged.boolean_mask(pieces, pieces.with_flat_values(is_piece))
    ids = _merged(tokenizer, pieces.flat_values, rules.whole_words)  # ragged (pieces, tokens)

    lengths = tf.maximum(tf.strings.length(tokenizer.id_to_token_map.lookup(ids.flat_values), unit="UTF8_CHAR"), 1)
    within = tf.cumsum(lengths, exclusive=True)
    owner = ragged.rows(ids)
    first_of = tf.gather(tf.concat([within, [0]], axis=0), tf.cast(ids.row_starts(), tf.int32))
    num_cuts = tf.cumsum(tf.cast(characters.flat_bytes(marked) == _CUT[0], tf.int32))
    begins -= tf.gather(tf.concat([num_cuts, [0]], axis=0), begins)
    starts = tf.gather(begins, owner) + within - tf.gather(first_of, owner)

    ids = tf.RaggedTensor.from_row_splits(ids.flat_values, tf.gather(ids.row_splits, pieces.row_splits), validate=False)
    rows, prefix = ragged.rows(ids), tf.cast(has_prefix, tf.int32)
    # From bytes of all texts with their prefixes to those of all plain ones.
    shift = tf.gather(tf.cumsum(prefix), rows)
    plain_begins = tf.gather(ragged.begins(tf.strings.length(plain)), rows)
    starts, ends = (tf.maximum(offsets - shift, plain_begins) for offsets in (starts, starts + lengths))
    is_empty = starts == ends  # the prefix itself, which stands before the text
    text_begins = tf.gather(ragged.begins(tf.strings.length(texts)), rows)
    limit = tf.maximum(tf.size(plain_starts) - 1, 0)
    starts = tf.gather(plain_starts, tf.minimum(starts, limit)) - text_begins
    ends = tf.where(is_empty, starts, tf.gather(plain_ends, tf.maximum(ends - 1, 0)) - text_begins)
    return ids, ids.with_flat_values(starts), ids.with_flat_values(ends)


def _merged(tokenizer: Any, pieces: tf.Tensor, whole_words: bool) -> tf.RaggedTensor:
    """Ids of the tokens of `(pieces,)` strings, ragged: KerasHub's merges, and its cache of pieces that were seen.

    The cache and the loop are private to KerasHub's tokenizer; it offers neither without its own way to cut texts.
    """

    def learn() -> tf.Tensor:
        unseen = tf.boolean_mask(pieces, seen == "")
        alphabet = tokenizer.byte2unicode.lookup(tf.strings.bytes_split(unseen))
        merged = tf.strings.reduce_join(tokenizer._bpe_merge_tf(alphabet), axis=1, separator=" ")
        if whole_words:
            whole = tf.strings.reduce_join(alphabet, axis=1)
            merged = tf.where(tokenizer.token_to_id_map.lookup(whole) >= 0, whole, merged)
        tokenizer.cache.insert(unseen, merged)
        return tokenizer.cache.lookup(pieces)

    tokenizer._maybe_initialized_tf()
    seen = tokenizer.cache.lookup(pieces)
    joined = tf.cond(tf.reduce_any(seen == ""), learn, lambda: seen)
    tokens = tf.strings.split(joined, sep=" ")
    ids = tokenizer.token_to_id_map.lookup(tokens.flat_values)
    return tokens.with_flat_values(tf.cast(ids, tf.int32))


def _mark(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The texts with KerasHub's markers, and for each of their bytes the byte of the text it belongs to, flat."""
    marked = tf.strings.regex_replace(texts, _MARKED_SPACE, rf"{_MARKER}\1\2")
    # The same places, found by another byte in them: no offset moves.
    other = tf.strings.regex_replace(texts, _MARKED_SPACE, r"_\2")
    data, other_data = (tf.io.decode_raw(tf.strings.reduce_join(strings), tf.uint8) for strings in (texts, other))
    widths = tf.where(data == other_data, 1, 1 + len(_MARKER.encode()))
    return marked, ragged.owners(widths)


def _split(tokenizer: Any, marked: tf.Tensor) -> _Pieces:
    """The pieces that the tokenizer merges by themselves: KerasHub's `split_strings_for_bpe` with offsets."""
    lengths = tf.strings.length(marked)
    starts = ragged.begins(lengths)
    pieces = _Pieces(marked, tf.range(tf.size(marked)), starts, lengths, tf.zeros_like(lengths, dtype=tf.bool))
    special_tokens = tokenizer.unsplittable_tokens or []
    # Letters that no later split cuts stand in for special tokens.
    placeholders = create_alts_for_unsplittable_tokens(special_tokens)
    for token, placeholder in zip(special_tokens, placeholders, strict=True):
        pieces = _cut(pieces, re.escape(token))
        strings = tf.strings.regex_replace(pieces.strings, re.escape(token), placeholder)
        pieces = pieces._replace(strings=strings, is_stand_in=pieces.is_stand_in | (strings != pieces.strings))
    pieces = _cut(_cut(pieces, SPLIT_PATTERN_1), SPLIT_PATTERN_2)
    for token, placeholder in zip(special_tokens, placeholders, strict=True):
        pieces = pieces._replace(strings=tf.strings.regex_replace(pieces.strings, re.escape(placeholder), token))
    kept = pieces.strings != _MARKER
    return _Pieces(*(tf.boolean_mask(values, kept) for values in pieces))


def _cut(pieces: _Pieces, pattern: str) -> _Pieces:
    """The pieces cut around each match of a pattern, which becomes a piece itself."""
    strings, starts, ends = tensorflow_text.regex_split_with_offsets(pieces.strings, pattern, pattern)
    owner = ragged.rows(strings)
    rows, begins, lengths, is_stand_in = (tf.gather(values, owner) for values in pieces[1:])
    starts, ends = tf.cast(starts.flat_values, tf.int32), tf.cast(ends.flat_values, tf.int32)
    starts, lengths = tf.where(is_stand_in, 0, starts), tf.where(is_stand_in, lengths, ends - starts)
    return _Pieces(strings.flat_values, rows, begins + starts, lengths, is_stand_in)


def _num_bytes(tokenizer: Any, ids: tf.Tensor) -> tf.Tensor:
    """How many bytes each id stands for: one a character in the byte alphabet, but special tokens are plain text."""
    names = tokenizer.id_to_token_map.lookup(ids)
    num_bytes = tf.strings.length(names, unit="UTF8_CHAR")
    for token in tokenizer.unsplittable_tokens or []:
        if not token.isascii():
            num_bytes = tf.where(names == token, len(token.encode()), num_bytes)
    # An id of -1 is a byte that is not in the vocabulary.
    return tf.maximum(num_bytes, 1)
