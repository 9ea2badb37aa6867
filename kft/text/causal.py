"""Texts for language models that read from left to right, and how well they predict them, in TensorFlow graph code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kft.text import characters, ragged, responses, windows
from kft.text.layout import Layout
from kft.text.tokens import MASK, TEXT, trimmed


def encode(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """The tokens of each text and the end token after it, in rows of `sequence_length`. Graph code.

    Tokenizers whose start token is another than their end token put it before each text.

    Returns:
        `token_ids` and `padding_mask`, `(rows, tokens)`, and `text` `(rows,)`.
    """
    start = _start(preprocessor.tokenizer)
    ids = _with_ends(preprocessor.tokenizer, texts[0], [] if start == _end(preprocessor.tokenizer) else start)
    cut = windows.cut(_packing(preprocessor.tokenizer), ids, preprocessor.sequence_length)
    return {**trimmed(cut.features), TEXT: cut.rows}


def _packing(tokenizer: Any) -> Layout:
    return Layout((), (), (), getattr(tokenizer, "pad_token_id", None) or 0, ("token_ids", MASK))


def _end(tokenizer: Any) -> list[int]:
    end = getattr(tokenizer, "end_token_id", None)
    return [] if end is None else [end]


def _start(tokenizer: Any) -> list[int]:
    """The token before a text: the start token, or what ends the text before it."""
    start = getattr(tokenizer, "start_token_id", None)
    return _end(tokenizer) if start is None else [start]


def _with_ends(tokenizer: Any, texts: tf.Tensor, start: list[int]) -> tf.RaggedTensor:
    """The ids of the texts between a start and the end token: ragged `(batch, tokens)` int32."""
    seen = characters.without_nul(characters.valid(texts))
    # Outside a graph KerasHub takes a Python path, whose ids can differ.
    ids = (tf.function(tokenizer.tokenize, autograph=False) if tf.executing_eagerly() else tokenizer.tokenize)(seen)
    ids = tf.cast(ids, tf.int32)
    columns = [tf.tile(tf.constant([special], tf.int32), [tf.size(texts), 1]) for special in (start, _end(tokenizer))]
    return tf.concat([columns[0], ids, columns[1]], axis=1)


def judge(model: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """How well a model predicts each text, its end included. Graph code.

    Long texts are read in pieces of `sequence_length` tokens, each by itself.

    Args:
        model: A KerasHub CausalLM with its preprocessor.
        texts: `(batch,)` strings.

    Returns:
        `perplexity` `(batch,)` float32, the exponential of the mean loss over the tokens; `num_tokens` `(batch,)`
        int32, how many were predicted.
    """
    tokenizer, length = model.preprocessor.tokenizer, model.preprocessor.sequence_length
    ids = _with_ends(tokenizer, texts[0], _start(tokenizer))
    seen, following = ids[:, :-1], ids[:, 1:]
    cut = windows.cut(_packing(tokenizer), seen, length)
    is_token = cut.token_index >= 0
    begins = tf.gather(ragged.begins(ragged.lengths(following)), cut.rows)[:, tf.newaxis]
    after = tf.concat([following.flat_values, [0]], axis=0)
    targets = tf.gather(after, tf.where(is_token, begins + cut.token_index, 0))
    logits = tf.cast(responses.outputs(model, cut.features), tf.float32)  # (windows, tokens, vocabulary)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    summed = tf.reduce_sum(tf.where(is_token, losses, 0.0), axis=1)
    summed = tf.math.unsorted_segment_sum(summed, cut.rows, tf.size(texts[0]))
    count = ragged.lengths(following)
    return {"perplexity": tf.exp(summed / tf.cast(tf.maximum(count, 1), tf.float32)), "num_tokens": count}
