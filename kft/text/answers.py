"""Answers inside a text to questions about it, in TensorFlow graph code that predict and the export share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from kft.text import characters, layout, offsets, ragged, windows
from kft.text.tokens import TEXT, trimmed

IMPOSSIBLE = -1e9
CANDIDATES = 20  # starts and ends of each window, as in BERT's run_squad.py
LONGEST_ANSWER = 30  # tokens
NUM_BEST = 5


def encode(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Windows of question and context. Graph code.

    Neighbouring windows share a quarter of a window's tokens.

    Args:
        preprocessor: Of the model.
        texts: Questions and contexts, `(batch,)` strings each.

    Returns:
        The backbone's inputs, each `(windows, tokens)`; `text` `(windows,)`; `start` and `end`, the characters of the
        context that the token stands for, -1 for all other tokens, `(windows, tokens)` int32.
    """
    question, context = (characters.valid(text) for text in texts)
    length = preprocessor.sequence_length
    first = offsets.tokenize(preprocessor.tokenizer, question)
    tokens = offsets.tokenize(preprocessor.tokenizer, context)
    cut = windows.cut(layout.of(preprocessor), tokens.ids, length, stride=length // 4, first=first.ids)
    begins = tf.gather(ragged.begins(ragged.lengths(tokens.ids)), cut.rows)[:, tf.newaxis]
    is_context = cut.token_index >= 0

    def at_tokens(values: tf.RaggedTensor) -> tf.Tensor:
        padded = tf.concat([values.flat_values, [-1]], axis=0)
        return tf.gather(padded, tf.where(is_context, begins + cut.token_index, tf.size(padded) - 1))

    features = {**cut.features, "start": at_tokens(tokens.starts), "end": at_tokens(tokens.ends)}
    return {**trimmed(features), TEXT: cut.rows}


def answers(
    logits: tf.Tensor, threshold: float, extras: Mapping[str, Any], context: Any, longest: int = 0
) -> dict[str, tf.Tensor]:
    """The best spans of each context over all its windows.

    A span's score is the sum of its start's and its end's logit; having no answer scores as the first token does, in
    the window where it scores least (Devlin et al., 2019, sec. 4.3). Probabilities are over the best spans and none.

    Args:
        logits: `(windows, tokens, 2)` float, of being the first and the last token of the answer.
        threshold: There is no answer where its probability is above this; 1 where every question has one.
        extras: What `encode` gives beside the backbone's inputs.
        context: `(batch,)` strings.
        longest: Characters of the longest answer; one of up to `LONGEST_ANSWER` tokens may have more.

    Returns:
        `answer` `(batch,)` string, empty for none; `start` and `end` `(batch,)` int32, its characters in the context,
        -1 for none; `score` `(batch,)` float32, its probability; `no_answer` `(batch,)` float32, that of none; and the
        best spans, whatever the threshold: `nbest.answer` `(batch, 5)` strings, filled up with empty ones,
        `nbest.start`, `.end` and `.score`.
    """
    strings = characters.valid(tf.convert_to_tensor(context))
    logits = tf.cast(logits, tf.float32)
    row = tf.cast(extras[TEXT], tf.int32)
    first, last = tf.cast(extras["start"], tf.int32), tf.cast(extras["end"], tf.int32)
    spans = _of_windows(logits, first, last, longest)
    start, end, score = _of_texts(*spans, row, tf.size(strings))
    none = tf.math.unsorted_segment_min(logits[:, 0, 0] + logits[:, 0, 1], row, tf.size(strings))
    probabilities = tf.nn.softmax(tf.concat([none[:, tf.newaxis], score], axis=1), axis=1)
    none, each = probabilities[:, 0], probabilities[:, 1:]
    is_span = score > IMPOSSIBLE / 2
    each = tf.where(is_span, each, 0.0)
    width = NUM_BEST
    texts = tf.strings.substr(
        tf.reshape(tf.tile(strings[:, tf.newaxis], [1, width]), [-1]),
        tf.reshape(tf.where(is_span, start, 0), [-1]),
        tf.reshape(tf.where(is_span, end - start, 0), [-1]),
        unit="UTF8_CHAR",
    )
    texts = tf.reshape(texts, tf.shape(start))
    is_answered = is_span[:, 0] & ((none <= threshold) | (threshold >= 1.0))
    return {
        "answer": tf.where(is_answered, texts[:, 0], ""),
        "start": tf.where(is_answered, start[:, 0], -1),
        "end": tf.where(is_answered, end[:, 0], -1),
        "score": tf.where(is_answered, each[:, 0], none),
        "no_answer": none,
        "nbest.answer": texts,
        "nbest.start": tf.where(is_span, start, -1),
        "nbest.end": tf.where(is_span, end, -1),
        "nbest.score": each,
    }


def _of_windows(
    logits: tf.Tensor, first: tf.Tensor, last: tf.Tensor, longest: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Starts and ends in characters and scores of the spans of each window: `(windows, candidates²)` each."""
    is_context = (first >= 0) & (last > first)
    count = tf.minimum(CANDIDATES, tf.shape(logits)[1])
    best_start, starts = tf.math.top_k(tf.where(is_context, logits[:, :, 0], IMPOSSIBLE), count)
    best_end, ends = tf.math.top_k(tf.where(is_context, logits[:, :, 1], IMPOSSIBLE), count)
    starts, ends = starts[:, :, tf.newaxis], ends[:, tf.newaxis, :]
    score = best_start[:, :, tf.newaxis] + best_end[:, tf.newaxis, :]
    start = tf.broadcast_to(tf.gather(first, starts[:, :, 0], batch_dims=1)[:, :, tf.newaxis], tf.shape(score))
    end = tf.broadcast_to(tf.gather(last, ends[:, 0, :], batch_dims=1)[:, tf.newaxis, :], tf.shape(score))
    is_short = (ends < starts + LONGEST_ANSWER) | (end - start <= longest)
    score = tf.where((ends >= starts) & is_short & (score > IMPOSSIBLE / 2), score, IMPOSSIBLE)
    flattened = [tf.shape(logits)[0], count * count]
    return tf.reshape(start, flattened), tf.reshape(end, flattened), tf.reshape(score, flattened)


def _of_texts(
    start: tf.Tensor, end: tf.Tensor, score: tf.Tensor, row: tf.Tensor, num_texts: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The best spans of each text, each once: `(batch, NUM_BEST)` each, filled up with impossible ones."""
    # A span can be among the candidates of several windows; it counts where it scores best.
    keep = tf.minimum(CANDIDATES, tf.shape(score)[1])
    score, at = tf.math.top_k(score, keep)
    start, end = tf.gather(start, at, batch_dims=1), tf.gather(end, at, batch_dims=1)

    def by_text(values: tf.Tensor, fill: Any) -> tf.Tensor:
        by_row = tf.RaggedTensor.from_value_rowids(
            values, row, tf.cast(num_texts, row.dtype)
        )  # (batch, windows, spans)
        dense = by_row.to_tensor(fill)
        return tf.reshape(dense, [num_texts, tf.shape(dense)[1] * keep])

    start, end, score = by_text(start, -1), by_text(end, -1), by_text(score, IMPOSSIBLE)
    score, order = tf.math.top_k(score, tf.minimum(CANDIDATES, tf.shape(score)[1]))
    start, end = (tf.gather(values, order, batch_dims=1) for values in (start, end))
    is_same = (start[:, :, tf.newaxis] == start[:, tf.newaxis, :]) & (end[:, :, tf.newaxis] == end[:, tf.newaxis, :])
    earlier = tf.linalg.band_part(tf.ones_like(is_same[0], tf.int32), -1, 0) - tf.eye(
        tf.shape(score)[1], dtype=tf.int32
    )
    is_repeated = tf.reduce_any(is_same & (earlier > 0), axis=2)
    score = tf.where(is_repeated, IMPOSSIBLE, score)
    missing = tf.maximum(NUM_BEST - tf.shape(score)[1], 0)
    start, end = (tf.pad(values, [[0, 0], [0, missing]], constant_values=-1) for values in (start, end))
    score, at = tf.math.top_k(tf.pad(score, [[0, 0], [0, missing]], constant_values=IMPOSSIBLE), NUM_BEST)
    return tf.gather(start, at, batch_dims=1), tf.gather(end, at, batch_dims=1), score
