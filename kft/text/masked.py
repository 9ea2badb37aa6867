"""Texts for masked language models, and what they fill masks with, in TensorFlow graph code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_text

from kft.text import characters, layout, offsets, ragged, responses, windows, words
from kft.text.tokens import MASK, TEXT, trimmed

NUM_FILLS = 5
_CONTINUES, _BEGINS, _MASKS = 0, 1, 2  # what a token is to its word
_SENTENCE_END = r"""([.!?]["')\]»”’]*)\s+|([。！？]["')\]»”’]*)\s*|\s*\n\s*"""


def encode(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Windows that have each token of each text once, and which tokens make up a word. Graph code.

    Returns:
        The backbone's inputs, each `(windows, tokens)`; `text` `(windows,)`; and `word`, a number that the tokens of a
        word share, -1 for tokens that must not be hidden: special ones, masks and padding, `(windows, tokens)` int32.
    """
    ids, kinds = tokenize(preprocessor.tokenizer, characters.valid(texts[0]))
    cut = windows.cut(layout.of(preprocessor), ids, preprocessor.sequence_length)
    begins = tf.gather(ragged.begins(ragged.lengths(ids)), cut.rows)[:, tf.newaxis]
    numbers = tf.concat([_numbers(kinds.flat_values), [-1]], axis=0)
    word = tf.gather(numbers, tf.where(cut.token_index >= 0, begins + cut.token_index, tf.size(numbers) - 1))
    return {**trimmed({**cut.features, "word": word}), TEXT: cut.rows}


def encode_pairs(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Rows of two neighbouring sentences, each sentence in one row. Graph code.

    The third of three last sentences goes with the second. A text of one sentence is a row of one. What does not fit is
    cut off the longer of the two.

    Returns:
        As for `encode`, with `segment_ids` 0 for the first sentence and 1 for the second.
    """
    packing = layout.of(preprocessor)
    found = sentences(characters.valid(texts[0]))
    counts = ragged.lengths(found)
    rows = ragged.rows(found)
    number = tf.range(tf.size(rows)) - tf.gather(ragged.begins(counts), rows)
    num_pairs = tf.maximum(counts // 2, 1)
    pair = tf.minimum(number // 2, tf.gather(num_pairs, rows) - 1)
    is_second = tf.cast((number % 2 == 1) | (number // 2 > pair), tf.int32)
    half = 2 * (tf.gather(ragged.begins(num_pairs), rows) + pair) + is_second

    ids, kinds = tokenize(preprocessor.tokenizer, found.flat_values)
    total = tf.reduce_sum(num_pairs)
    lengths = tf.math.unsorted_segment_sum(ragged.lengths(ids), half, 2 * total)
    halves = [_ragged(values.flat_values, lengths) for values in (ids, kinds)]
    room = preprocessor.sequence_length - packing.num_special(2)
    trimmer = tensorflow_text.RoundRobinTrimmer(room)
    (first, second), (first_kinds, second_kinds) = (trimmer.trim([part[0::2], part[1::2]]) for part in halves)

    is_pair = ragged.lengths(second) > 0
    start, end = (_repeated(special, is_pair | True) for special in (packing.start, packing.end))
    middle = _repeated(packing.middle, is_pair)
    tokens = tf.concat([start, first, middle, second, end], axis=1)
    segments = tf.concat(
        [*(tf.zeros_like(part) for part in (start, first, middle)), tf.ones_like(second), _second(end, is_pair)], axis=1
    )
    special = [tf.ones_like(part) * _MASKS for part in (start, middle, end)]
    row_kinds = tf.concat([special[0], first_kinds, special[1], second_kinds, special[2]], axis=1)
    word = tokens.with_flat_values(_numbers(row_kinds.flat_values))
    shape = (None, preprocessor.sequence_length)
    features = {
        "token_ids": tokens.to_tensor(packing.pad, shape=shape),
        "segment_ids": segments.to_tensor(0, shape=shape),
        "word": word.to_tensor(-1, shape=shape),
        MASK: tf.ones_like(tokens, tf.bool).to_tensor(False, shape=shape),
    }
    features = {name: value for name, value in features.items() if name in (*packing.names, "word")}
    return {**trimmed(features), TEXT: ragged.repeat(tf.range(tf.size(counts)), num_pairs)}


def sentences(texts: tf.Tensor) -> tf.RaggedTensor:
    """The sentences of `(batch,)` texts, ragged `(batch, sentences)`: they end at `. ! ?`, `。！？` and line breaks."""
    stripped = tf.strings.strip(texts)
    marked = tf.strings.regex_replace(stripped, _SENTENCE_END, "\\1\\2\x1e")
    return tf.strings.split(tf.strings.regex_replace(marked, "\x1e+$", ""), "\x1e")


def _repeated(ids: Sequence[int], is_there: tf.Tensor) -> tf.RaggedTensor:
    """The same few ids in each row that is there: ragged `(rows, ids)` int32."""
    lengths = tf.cast(is_there, tf.int32) * len(ids)
    count = tf.reduce_sum(tf.cast(is_there, tf.int32))
    return _ragged(tf.tile(tf.constant(list(ids), tf.int32), [count]), lengths)


def _ragged(values: tf.Tensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Rows of these `(rows,)` lengths, with 64-bit splits as tokenizers give them."""
    return tf.RaggedTensor.from_row_lengths(values, tf.cast(lengths, tf.int64))


def _second(end: tf.RaggedTensor, is_pair: tf.Tensor) -> tf.RaggedTensor:
    """The segment of the last special tokens: that of the text before them."""
    return end.with_flat_values(ragged.repeat(tf.cast(is_pair, tf.int32), ragged.lengths(end)))


def tokenize(tokenizer: Any, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """The tokens of texts in which the mask token stands for itself, and what each is to its word. Graph code.

    The white space before a mask is part of what it stands for, as it is of tokens that begin a word.

    Args:
        tokenizer: A KerasHub tokenizer with a mask token.
        texts: `(batch,)` strings of valid UTF-8.

    Returns:
        Ids, and 1 where a token begins a word, 0 where it continues one, 2 for a mask: ragged `(batch, tokens)` int32.
    """
    parts = tf.strings.split(texts, tokenizer.id_to_token(tokenizer.mask_token_id))
    counts = ragged.lengths(parts)
    is_last = tf.range(tf.size(parts.flat_values)) + 1 == ragged.repeat(tf.cumsum(counts), counts)
    before_mask = tf.strings.regex_replace(parts.flat_values, f"[{characters.SPACES}]+$", "")
    pieces = tf.where(is_last, parts.flat_values, before_mask)
    tokens = offsets.tokenize(tokenizer, pieces)
    kinds = tokens.ids.with_flat_values(_kinds(tokens, words.find(pieces)))
    lengths = ragged.lengths(tokens.ids) + tf.cast(~is_last, tf.int32)
    lengths = tf.math.unsorted_segment_sum(lengths, ragged.rows(parts), tf.size(texts))

    def with_masks(values: tf.RaggedTensor, mask: int) -> tf.RaggedTensor:
        joined = tf.concat([values, _repeated([mask], ~is_last)], axis=1)
        return _ragged(joined.flat_values, lengths)

    return with_masks(tokens.ids, tokenizer.mask_token_id), with_masks(kinds, _MASKS)


def _kinds(tokens: offsets.Tokens, found: words.Words) -> tf.Tensor:
    """Whether each token of all texts begins a word, or continues that of the token before: `(tokens,)` int32."""
    # One sorted line of positions for all texts: each text has a stretch of its own.
    stretch = tf.reduce_max(tf.concat([tokens.ends.flat_values, found.ends.flat_values, [0]], axis=0)) + 1

    def line(positions: tf.RaggedTensor) -> tf.Tensor:
        rows = tf.cast(ragged.rows(positions), tf.int64)
        return tf.cast(positions.flat_values, tf.int64) + rows * tf.cast(stretch, tf.int64)

    starts, ends = line(found.starts), tf.concat([line(found.ends), [0]], axis=0)
    at = line(tokens.starts)
    word = tf.searchsorted(starts, at, side="right") - 1  # the last that begins at or before the token
    word = tf.where((word >= 0) & (tf.gather(ends, word) > at), word, -1)
    before = tf.concat([[-1], word[:-1]], axis=0)
    return tf.where((word >= 0) & (word == before), _CONTINUES, _BEGINS)


def _numbers(kinds: tf.Tensor) -> tf.Tensor:
    """A number for each word: `(tokens,)` int32, -1 for tokens of none."""
    return tf.where(kinds == _MASKS, -1, tf.cumsum(kinds % 2))


def fill(model: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """The likeliest tokens for each mask token in the texts. Graph code.

    Long texts are read in windows; each mask in the one that shows most of both its sides.

    Args:
        model: A task model that takes `mask_positions`, with its preprocessor.
        texts: `(batch,)` strings.

    Returns:
        `fills.token` `(batch, masks)` strings, the likeliest, filled up with empty ones; `fills.tokens` and
        `fills.scores`, the five likeliest and their probabilities, `(batch, masks, 5)`.
    """
    preprocessor, strings = model.preprocessor, characters.valid(texts[0])
    length, mask_id = preprocessor.sequence_length, preprocessor.tokenizer.mask_token_id
    ids, kinds = tokenize(preprocessor.tokenizer, strings)
    cut = windows.cut(layout.of(preprocessor), ids, length, stride=length // 4)
    is_mask = (cut.features["token_ids"] == mask_id) & (cut.token_index >= 0) & cut.has_most_context
    at = tf.where(is_mask)  # (masks of all texts, 2), in their order
    num_windows = tf.shape(is_mask)[0]
    positions = tf.RaggedTensor.from_value_rowids(tf.cast(at[:, 1], tf.int32), at[:, 0], tf.cast(num_windows, tf.int64))
    padded = positions.to_tensor(0)
    padded = tf.pad(padded, [[0, 0], [0, tf.cast(tf.equal(tf.shape(padded)[1], 0), tf.int32)]])
    logits = responses.outputs(model, {**cut.features, "mask_positions": padded})  # (windows, masks, vocabulary)
    is_asked = tf.sequence_mask(ragged.lengths(positions), tf.shape(padded)[1])
    names = responses.token_texts(preprocessor.tokenizer)
    probabilities = tf.nn.softmax(tf.boolean_mask(tf.cast(logits, tf.float32), is_asked), axis=-1)
    scores, tokens = tf.math.top_k(probabilities[:, : len(names)], min(NUM_FILLS, len(names)))
    strings_of = tf.gather(tf.constant(names), tokens)
    text = tf.gather(cut.rows, at[:, 0])

    def by_text(values: tf.Tensor, fill: Any) -> tf.Tensor:
        found = tf.RaggedTensor.from_value_rowids(values, text, tf.size(strings)).to_tensor(fill)
        return tf.pad(
            found,
            [[0, 0], [0, tf.cast(tf.equal(tf.shape(found)[1], 0), tf.int32)], *[[0, 0]] * (len(found.shape) - 2)],
            constant_values=fill,
        )

    return {
        "fills.token": by_text(strings_of[:, 0], ""),
        "fills.tokens": by_text(strings_of, ""),
        "fills.scores": by_text(scores, 0.0),
    }
