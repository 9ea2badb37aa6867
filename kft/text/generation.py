"""Prompts and responses to token features, and generated tokens back to text, in TensorFlow graph code.

A decoder reads `<start> prompt separator response <end>`, and so does an encoder that writes: its separator is its end
token, and its segments are 0 in the prompt and 1 in the response. A model with an encoder and a decoder reads
`<start> prompt <end>` in the one, and `<start> response <end>` in the other. The special tokens are those of the
preprocessor for the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras_hub
import tensorflow as tf

from kft.text import characters, ragged
from kft.text.prompts import SEPARATOR
from kft.text.tokens import SequencePreprocessor

TARGETS = "target_ids"  # the next token where that is part of the response, else NOT_LEARNT
NOT_LEARNT = -1
WIDTHS = 32  # prompts are padded to a multiple of it, so that compilers see few shapes


def has_encoder(preprocessor: Any) -> bool:
    """Whether the model reads prompts with an encoder of its own."""
    return isinstance(preprocessor, keras_hub.models.Seq2SeqLMPreprocessor)


def has_segments(preprocessor: Any) -> bool:
    """Whether the model is an encoder that writes, which tells prompt and response apart by their segments."""
    return isinstance(preprocessor, SequencePreprocessor)


def pads_left(preprocessor: Any) -> bool:
    """Whether KerasHub's generation for the family expects prompts at the end of their row (RWKV-7)."""
    _build(preprocessor)
    return not has_encoder(preprocessor) and preprocessor.packer.padding_side == "left"


def encode(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Features of prompts with their responses, padded to the longest row. Graph code.

    Nothing is longer than the preprocessor's `sequence_length`. What a decoder has no room for is cut from the start of
    the prompt; of a response, and of a prompt that an encoder reads, the end is cut.

    Args:
        preprocessor: KerasHub's for a CausalLM or Seq2SeqLM.
        texts: Prompts and responses, `(batch,)` strings each.

    Returns:
        The backbone's inputs, and beside the tokens of the decoder `target_ids`, each `(batch, tokens)`.
    """
    _build(preprocessor)
    prompts, responses = (preprocessor.tokenizer(characters.without_nul(text)) for text in texts)
    if has_encoder(preprocessor):
        start, end, pad = _special(preprocessor.decoder_packer)
        before, room = _column(start, responses), preprocessor.sequence_length + 1 - len(start)
        features = _read_by_encoder(preprocessor, prompts)
        group = "decoder_"
    else:
        start, end, pad = _frame(preprocessor)
        separator = _separator(preprocessor, prompts)
        limit = preprocessor.sequence_length + 1 - len(start)
        room = limit - tf.minimum(ragged.lengths(separator)[:1], limit // 2)[0]
    responses = tf.concat([responses, _column(end, responses)], axis=1)[:, :room]
    if not has_encoder(preprocessor):
        prompts = last(tf.concat([prompts, separator], axis=1), limit - ragged.lengths(responses))
        before = tf.concat([_column(start, prompts), prompts], axis=1)
        features, group = {}, ""
    # The last token has no successor; the first is nobody's.
    tokens = tf.concat([before, responses], axis=1)[:, :-1]
    targets = tf.concat([(tf.zeros_like(before) + NOT_LEARNT)[:, 1:], responses], axis=1)
    if has_segments(preprocessor):
        segments = tf.concat([tf.zeros_like(before), tf.ones_like(responses)], axis=1)[:, :-1]
        features = {"segment_ids": segments.to_tensor(0)}
    return {**features, **_padded(tokens, pad, group), f"{group}{TARGETS}": targets.to_tensor(NOT_LEARNT)}


def asked(
    preprocessor: Any, prompts: tf.Tensor, num_new: int, limit: int, end_ids: Sequence[int]
) -> dict[str, tf.Tensor]:
    """What a model goes on from: prompts as tokens with room for the response after them. Graph code.

    Args:
        preprocessor: KerasHub's for a CausalLM or Seq2SeqLM.
        prompts: `(batch,)` strings.
        num_new: Tokens of the longest response.
        limit: Tokens of the longest prompt, special ones included; what is more is cut as by `encode`.
        end_ids: The tokens that end a response.

    Returns:
        The backbone's inputs, `(batch, tokens)` each, with bools for masks, as KerasHub generates from.
    """
    _build(preprocessor)
    tokens = preprocessor.tokenizer(characters.without_nul(prompts))
    if has_encoder(preprocessor):
        start, _, _ = _special(preprocessor.decoder_packer)
        read, begun, group = _read_by_encoder(preprocessor, tokens), _column(start, tokens), "decoder_"
        read = {n: tf.cast(v, tf.bool) if n.endswith("padding_mask") else v for n, v in read.items()}
        width = len(start)
    else:
        start, _, _ = _frame(preprocessor)
        tokens = tf.concat([tokens, _separator(preprocessor, tokens)], axis=1)
        tokens = last(tokens, tf.fill([tf.shape(prompts)[0]], limit - len(start)))
        read, begun, group = {}, tf.concat([_column(start, tokens), tokens], axis=1), ""
        longest = tf.reduce_max(ragged.lengths(begun))
        width = tf.minimum(-(-longest // WIDTHS) * WIDTHS, limit)
    # KerasHub would take padding for an end if they were one token. No position sees what stands after it.
    pad = next(i for i in range(len(end_ids) + 1) if i not in end_ids)
    ids = begun.to_tensor(pad)
    ids = tf.pad(ids, [[0, 0], [0, width + num_new - tf.shape(ids)[1]]], constant_values=pad)
    is_given = tf.sequence_mask(ragged.lengths(begun), width + num_new)
    if has_segments(preprocessor):
        read = {"segment_ids": tf.cast(~is_given, tf.int32)}
    return {**read, f"{group}token_ids": ids, f"{group}padding_mask": is_given}


def text_of(
    preprocessor: Any, ids: tf.Tensor, is_given: tf.Tensor, num_new: int, end_ids: Sequence[int], stop: Sequence[str]
) -> dict[str, tf.Tensor]:
    """What was written after each prompt, up to the first end token and the first stop text. Graph code.

    Args:
        preprocessor: KerasHub's for a CausalLM or Seq2SeqLM.
        ids: `(batch, tokens)` int, prompts and what was written after them.
        is_given: `(batch, tokens)` bool, where the prompts are, from the first token on.
        num_new: Tokens of the longest response.
        end_ids: The tokens that end a response.
        stop: Texts at whose first occurrence the response is cut.

    Returns:
        `text` `(batch,)` string, valid UTF-8: a character that was not written to its end is U+FFFD.
    """
    ids, is_given = tf.cast(ids, tf.int32), tf.cast(is_given, tf.bool)
    begins = tf.reduce_sum(tf.cast(is_given, tf.int32), axis=1, keepdims=True)
    is_new = ~is_given & (tf.range(tf.shape(ids)[1])[tf.newaxis, :] < begins + num_new)
    is_end = is_new & _is_any_of(ids, end_ids)
    is_text = is_new & (tf.cumsum(tf.cast(is_end, tf.int32), axis=1) == 0)
    is_text &= ~_is_any_of(ids, preprocessor.tokenizer.special_token_ids)
    texts = preprocessor.tokenizer.detokenize(tf.ragged.boolean_mask(ids, is_text))
    texts = characters.valid(texts)
    return {"text": tf.strings.regex_replace(texts, _first_of(stop), "", replace_global=False) if stop else texts}


def slice_update(inputs: Any, start_indices: Any, updates: Any) -> tf.Tensor:
    """Keras's `slice_update` by an op of TensorFlow's own, in place of XLA's. Graph code."""
    inputs, begin = tf.convert_to_tensor(inputs), tf.stack([tf.cast(i, tf.int32) for i in start_indices])
    updates = tf.cast(updates, inputs.dtype)
    found = tf.raw_ops.TensorStridedSliceUpdate(
        input=inputs, begin=begin, end=begin + tf.shape(updates), strides=tf.ones_like(begin), value=updates
    )
    return tf.ensure_shape(found, inputs.shape)


def squeeze(x: tf.Tensor, axis: Any = None) -> tf.Tensor:
    """`keras.ops.squeeze` where an axis need not be known to be 1 before the graph runs, as in KerasHub's T5."""
    return tf.squeeze(x, axis)


def traced(function: Callable[..., Any], num_texts: int = 1) -> Callable[..., Any]:
    """Graph code of texts, `(batch,)` strings each, as a function that also takes lists of strings."""
    graph = tf.function(function, input_signature=[tf.TensorSpec((None,), tf.string)] * num_texts, autograph=False)
    return lambda *texts: graph(*(tf.convert_to_tensor(column, tf.string) for column in texts))


def traced_reader(function: Callable[..., Any]) -> Callable[..., Any]:
    """Graph code of ids and masks, `(batch, tokens)` each, as a function of NumPy arrays."""
    shape = (None, None)
    signature = [tf.TensorSpec(shape, tf.int32), tf.TensorSpec(shape, tf.bool)]
    return tf.function(function, input_signature=signature, autograph=False)


def last(rows: tf.RaggedTensor, counts: tf.Tensor) -> tf.RaggedTensor:
    """The last values of each row.

    >>> last(tf.ragged.constant([[1, 2, 3], [4]]), tf.constant([2, 2])).to_list()
    [[2, 3], [4]]
    """
    lengths = ragged.lengths(rows)
    owners = ragged.owners(lengths)
    place = tf.range(tf.size(rows.values)) - tf.gather(ragged.begins(lengths), owners)
    kept = tf.boolean_mask(rows.values, place >= tf.gather(lengths - counts, owners))
    row_lengths = tf.minimum(lengths, tf.maximum(counts, 0))
    return tf.RaggedTensor.from_row_lengths(kept, tf.cast(row_lengths, rows.row_splits.dtype), validate=False)


def _read_by_encoder(preprocessor: Any, prompts: tf.RaggedTensor) -> dict[str, tf.Tensor]:
    start, end, pad = _special(preprocessor.encoder_packer, _has_start(preprocessor))
    room = preprocessor.sequence_length - len(start) - len(end)
    tokens = tf.concat([_column(start, prompts), prompts[:, :room], _column(end, prompts)], axis=1)
    return _padded(tokens, pad, "encoder_")


def _frame(preprocessor: Any) -> tuple[list[int], list[int], int]:
    """`_special` of a model that reads prompt and response as one row."""
    if has_segments(preprocessor):
        tokenizer = preprocessor.tokenizer
        return [tokenizer.start_token_id], [tokenizer.end_token_id], tokenizer.pad_token_id
    return _special(preprocessor.packer, _has_start(preprocessor))


def _build(preprocessor: Any) -> None:
    """Makes the preprocessor's packers, which tell the special tokens of its family."""
    if not has_segments(preprocessor) and not preprocessor.built:
        preprocessor.build(None)


def _special(packer: Any, has_start: bool = True) -> tuple[list[int], list[int], int]:
    """Ids before a text, ids after it, and the id that fills a row."""
    start = list(packer.start_value or []) if has_start else []
    return [i for i in start if i is not None], list(packer.end_value or []), packer.pad_value or 0


def _has_start(preprocessor: Any) -> bool:
    return getattr(preprocessor, "add_start_token", True)


def _separator(preprocessor: Any, like: tf.RaggedTensor) -> tf.RaggedTensor:
    """The tokens of the separator in every row."""
    if has_segments(preprocessor):
        return _column([preprocessor.tokenizer.end_token_id], like)
    return preprocessor.tokenizer(tf.fill([like.nrows()], SEPARATOR))


def _column(ids: Sequence[int], like: tf.RaggedTensor) -> tf.RaggedTensor:
    """The same few ids in every row: `(batch, len(ids))`, ragged as `like`."""
    row = tf.constant(list(ids), like.dtype, shape=(1, len(ids)))
    return tf.RaggedTensor.from_tensor(tf.tile(row, [like.nrows(), 1]), row_splits_dtype=like.row_splits.dtype)


def _padded(tokens: tf.RaggedTensor, pad: int, group: str) -> dict[str, tf.Tensor]:
    mask = tf.ones_like(tokens, tf.int32).to_tensor(0)
    return {f"{group}token_ids": tokens.to_tensor(pad), f"{group}padding_mask": mask}


def _is_any_of(ids: tf.Tensor, wanted: Sequence[int]) -> tf.Tensor:
    return tf.reduce_any(ids[..., tf.newaxis] == tf.constant(list(wanted), ids.dtype, shape=(len(wanted),)), axis=-1)


def _first_of(texts: Sequence[str]) -> str:
    """The regular expression (RE2) of the first of some texts and all that follows it.

    >>> _first_of(["a.", "b"])
    '(?s)(?:\\\\x{61}\\\\x{2e}|\\\\x{62}).*'
    """
    return "(?s)(?:" + "|".join("".join(f"\\x{{{ord(c):x}}}" for c in text) for text in texts) + ").*"
