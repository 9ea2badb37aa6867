"""Words and their logits, in TensorFlow graph code that predict and the export share.

The words are those of `kft.text.words`, each read off its first token in the window that shows most of both its sides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from kft.text import characters, layout, offsets, ragged, windows, words
from kft.text.tokens import TEXT, trimmed
from kft.text.words import Words


@functools.cache
def reader(rule: str) -> Callable[[Any, Sequence[tf.Tensor]], dict[str, tf.Tensor]]:
    """`encode` by a rule of `words.RULES`.

    Raises:
        RunError: There is no such rule.
    """
    words.check(rule)

    def features(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        return encode(preprocessor, texts, rule)

    features.__qualname__ = f"encode[{rule}]"  # by which token stores are told apart
    return features


def encode(preprocessor: Any, texts: Sequence[tf.Tensor], rule: str = words.WORDS) -> dict[str, tf.Tensor]:
    """Windows of the texts' tokens, and which words begin at each token. Graph code.

    Neighbouring windows share a quarter of a window's tokens.

    Args:
        preprocessor: A KerasHub preprocessor of a text task.
        texts: `(batch,)` strings, and where the words are given their marks, as `words.marked` reads them.
        rule: How other words are found.

    Returns:
        The backbone's inputs, each `(windows, tokens)`; `text` `(windows,)`; `word`, the number in its text of the
        first word that is read off the token, -1 where none is, and `num_words`, how many are, `(windows, tokens)`
        int32.
    """
    strings = characters.valid(texts[0])
    found = words_of(strings, texts[1:], rule)
    tokens = offsets.tokenize(preprocessor.tokenizer, strings)
    length = preprocessor.sequence_length
    cut = windows.cut(layout.of(preprocessor), tokens.ids, length, stride=length // 4)
    num_words, first_word = _words_of_tokens(found, tokens)
    token_begins = ragged.begins(ragged.lengths(tokens.ids))
    token = tf.gather(token_begins, cut.rows)[:, tf.newaxis] + cut.token_index
    is_read = cut.has_most_context & (cut.token_index >= 0)
    token = tf.where(is_read, token, tf.size(num_words) - 1)  # the last stands for no token
    features = {**cut.features, "word": tf.gather(first_word, token), "num_words": tf.gather(num_words, token)}
    return {**trimmed(features), TEXT: cut.rows}


def words_of(strings: tf.Tensor, marks: Sequence[tf.Tensor], rule: str) -> Words:
    """The words that are given, else those that are found."""
    return words.marked(strings, tf.convert_to_tensor(marks[0])) if marks else words.find(strings, rule)


def _words_of_tokens(found: Words, tokens: offsets.Tokens) -> tuple[tf.Tensor, tf.Tensor]:
    """How many words begin at each token of all texts, and the first: `(tokens + 1,)`, none at the last."""
    first = offsets.first_tokens(found, tokens)
    token_begins = ragged.begins(ragged.lengths(tokens.ids))
    rows = ragged.rows(first)
    numbers = tf.range(tf.size(rows)) - tf.gather(ragged.begins(ragged.lengths(first)), rows)
    total = tf.size(tokens.ids.flat_values)
    token = tf.where(first.flat_values >= 0, first.flat_values + tf.gather(token_begins, rows), total)
    num_words = tf.math.unsorted_segment_sum(tf.ones_like(token), token, total + 1)
    num_words = tf.where(tf.range(total + 1) < total, num_words, 0)
    first_word = tf.math.unsorted_segment_min(numbers, token, total + 1)
    return num_words, tf.where(num_words > 0, first_word, -1)


def of_first_windows(outputs: tf.Tensor, extras: Mapping[str, Any], text: Any) -> tf.Tensor:
    """The outputs for the first window of each of `(batch,)` texts: `(batch, …)` from `(windows, …)`."""
    numbers = tf.range(tf.size(tf.convert_to_tensor(text)))
    first = tf.searchsorted(tf.cast(extras[TEXT], tf.int32), numbers)
    return tf.gather(tf.convert_to_tensor(outputs), first)


def word_logits(
    logits: tf.Tensor, extras: Mapping[str, tf.Tensor], found: Words, missing: int
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """The logits of each word, and whether it is read off the same token as the word before it.

    Args:
        logits: `(windows, tokens, classes)` float.
        extras: What `encode` gives beside the backbone's inputs.
        found: The words of the texts.
        missing: The class of words that no token stands for.

    Returns:
        Ragged `(batch, words, classes)` float32 by its first two dimensions, and ragged `(batch, words)` bool.
    """
    num_words = tf.convert_to_tensor(extras["num_words"])
    at = tf.cast(tf.where(num_words > 0), tf.int32)  # (read tokens, 2)
    counts = tf.gather_nd(num_words, at)
    token = ragged.owners(counts)  # of each word read
    within = tf.range(tf.size(token)) - tf.gather(ragged.begins(counts), token)
    text = tf.gather(tf.cast(extras[TEXT], tf.int32), at[:, 0])
    begins = tf.gather(ragged.begins(ragged.lengths(found.starts)), text)
    word = tf.gather(begins + tf.gather_nd(tf.convert_to_tensor(extras["word"]), at), token) + within
    values = tf.gather(tf.gather_nd(tf.cast(logits, tf.float32), at), token)
    total = tf.size(found.starts.flat_values)
    summed = tf.math.unsorted_segment_sum(values, word, total)
    is_read = tf.math.unsorted_segment_sum(tf.ones_like(word), word, total) > 0
    default = tf.one_hot(missing, tf.shape(logits)[-1], on_value=0.0, off_value=-20.0)
    shares = tf.math.unsorted_segment_sum(tf.cast(within > 0, tf.int32), word, total) > 0
    by_word = tf.where(is_read[:, tf.newaxis], summed, default)
    return found.starts.with_flat_values(by_word), found.starts.with_flat_values(shares)
