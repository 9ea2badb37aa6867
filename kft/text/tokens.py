"""Texts to padded token features, in TensorFlow graph code.

KerasHub preprocessors may take a Python path outside `tf.function` whose ids can differ (BPE), so everything here
runs inside one: training and the exported model then share a single path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras_hub
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops that tokenizers use)
from keras import saving

from kft.errors import PresetError
from kft.text import characters
from kft.text.encoded import Encoded

MASK = "padding_mask"
TEXT = "text"  # the feature `(rows,)` that tells which text each row is from, where rows are windows of texts


def encode(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Token features of a batch, padded to its longest row. Graph code.

    Args:
        preprocessor: A KerasHub preprocessor of a text task; its `sequence_length` is the cut.
        texts: One `(batch,)` string tensor for each text column. NUL characters are dropped, since a leading one
            empties the text in WordPiece.

    Returns:
        Features by the backbone's input names, each `(batch, tokens)`. A backbone without a padding mask (FNet) sees
        its padding, so its rows keep the full `sequence_length`.
    """
    features = pack(preprocessor, tuple(characters.without_nul(text) for text in texts))
    return trimmed({n: _up_to_last(value) if n.endswith(MASK) else value for n, value in features.items()})


def trimmed(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Features `(rows, tokens)` cut to their longest row, where there is a mask that tells it."""
    mask = next((value for name, value in features.items() if name.endswith(MASK)), None)
    if mask is None:
        return features
    longest = tf.maximum(tf.reduce_max(row_lengths(mask)), 1)
    return {name: value[:, :longest] for name, value in features.items()}


def pack(preprocessor: Any, texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """The preprocessor's features, padded to its `sequence_length`. Graph code."""
    # Without the explicit y a tuple of two texts would be taken for (text, label).
    return preprocessor(tuple(texts) if len(texts) > 1 else texts[0], y=None)


def _up_to_last(mask: tf.Tensor) -> tf.Tensor:
    """A right-padded mask that is true up to its last true: KerasHub's is false at a padding token written in a text.

    Such a token is one like others to the original tokenizers, and an end token follows it.
    """
    return tf.cumsum(tf.cast(mask, tf.int32), axis=-1, reverse=True) > 0


def row_lengths(mask: tf.Tensor) -> tf.Tensor:
    """Tokens in each row of a right-padded `(batch, tokens)` mask: `(batch,)` int32."""
    return tf.reduce_sum(tf.cast(mask, tf.int32), axis=-1)


class Encoder:
    """A task's `features` for a known preprocessor as a traced function from lists of strings to NumPy arrays.

    Attributes:
        name: Of the function.
        pad_values: For each feature, the value its padding holds. Empty for a backbone without a padding mask.
        max_length: The longest row in tokens.
        num_tokens: Size of the vocabulary.
    """

    def __init__(self, preprocessor: Any, num_texts: int, features: Callable[..., Any] = encode):
        self._graph = tf.function(
            lambda *texts: features(preprocessor, texts),
            input_signature=[tf.TensorSpec((None,), tf.string)] * num_texts,
            autograph=False,
        )
        self._preprocessor = preprocessor
        self.name = f"{features.__module__}.{features.__qualname__}"
        self.max_length = int(preprocessor.sequence_length)
        self.num_tokens = int(preprocessor.tokenizer.vocabulary_size())
        # The first row of an empty text and a long one is padded wherever there is padding.
        probe = self._features([["", "a b c d e f g h"]] * num_texts)
        self.has_mask = any(name.endswith(MASK) for name in probe)
        self.pad_values = {
            name: int(value[0, -1]) for name, value in probe.items() if value.ndim == 2 and self.has_mask
        }

    def __call__(self, texts: Sequence[Sequence[str]]) -> Encoded:
        """The features of a list of strings for each text column."""
        found = self._features(texts)
        masks = {name.removesuffix(MASK): mask for name, mask in found.items() if name.endswith(MASK)}
        ids = {n: v.astype(np.int32) for n, v in found.items() if not n.endswith(MASK) and n != TEXT}
        if any((value < 0).any() for name, value in ids.items() if name.endswith("token_ids")):
            raise PresetError(
                f"{type(self._preprocessor.tokenizer).__name__}: its vocabulary lacks a byte that stands in the texts. "
                "Expected a byte-level vocabulary with all 256 bytes; choose another preset."
            )
        any_feature = next(iter(ids.values()))
        lengths = (
            {group: np.maximum(mask.astype(np.int64).sum(axis=1), 1) for group, mask in masks.items()}
            if masks
            else {"": np.full(len(any_feature), max(any_feature.shape[1], 1), np.int64)}
        )
        return Encoded(ids, lengths, found.get(TEXT, np.arange(len(any_feature))).astype(np.int64))

    def _features(self, texts: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
        columns = [tf.constant(list(column), tf.string) for column in texts]
        return {name: value.numpy() for name, value in self._graph(*columns).items()}

    @property
    def mask_names(self) -> list[str]:
        """Names of the padding masks among the features."""
        return [name for name in self.pad_values if name.endswith(MASK)]


@saving.register_keras_serializable(package="kft")
class SequencePreprocessor(keras_hub.models.Preprocessor):
    """Packs one or two texts for backbones that have no KerasHub classification preprocessor.

    Rows look like `<start> first <end> second <end>`, with whichever special tokens the tokenizer has. The padding
    mask follows the lengths, not a pad id, because some tokenizers (GPT-2) pad with an ordinary token.

    Args:
        tokenizer: A KerasHub tokenizer.
        sequence_length: Longest row in tokens.
        prefix: Put before the backbone's input names: `"encoder_"` for the encoder of a sequence-to-sequence model.
        with_segments: Whether the backbone takes `segment_ids`.
        end_order: Ids appended after the last text; by default the tokenizer's end token.
    """

    def __init__(
        self,
        tokenizer: Any,
        sequence_length: int = 512,
        prefix: str = "",
        with_segments: bool = False,
        end_order: list[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length
        self.prefix = prefix
        self.with_segments = with_segments
        self.end_order = end_order

    def call(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Features of one text or a tuple of texts, `(batch,)` strings each; `y` and weights pass through."""
        texts = tuple(tf.convert_to_tensor(text) for text in (x if isinstance(x, tuple) else (x,)))
        # Outside a graph some KerasHub tokenizers answer with Python lists.
        features = (
            tf.function(self._features, autograph=False)(texts) if tf.executing_eagerly() else self._features(texts)
        )
        if y is None:
            return features
        return (features, y) if sample_weight is None else (features, y, sample_weight)

    def _features(self, segments: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        start = getattr(self.tokenizer, "start_token_id", None)
        end = getattr(self.tokenizer, "end_token_id", None)
        last = self.end_order or ([] if end is None else [end])
        ends = [last if i == len(segments) - 1 else ([] if end is None else [end]) for i in range(len(segments))]
        first = [] if start is None or start == end else [start]
        room = self.sequence_length - len(first) - sum(map(len, ends))
        tokens = [self.tokenizer(segment) for segment in segments]
        tokens = tensorflow_text.RoundRobinTrimmer(room).trim(tokens) if len(tokens) > 1 else [tokens[0][:, :room]]
        rows, kinds = [], []
        for i, segment in enumerate(tokens):
            ids = tf.concat([_column(first if i == 0 else [], segment), segment, _column(ends[i], segment)], axis=1)
            rows.append(ids)
            kinds.append(tf.ones_like(ids) * i)
        ids, kinds = tf.concat(rows, axis=1), tf.concat(kinds, axis=1)
        shape = (None, self.sequence_length)
        pad = getattr(self.tokenizer, "pad_token_id", None) or 0
        features = {
            self.prefix + "token_ids": ids.to_tensor(pad, shape=shape),
            self.prefix + MASK: tf.ones_like(ids, dtype=tf.bool).to_tensor(False, shape=shape),
        }
        if self.with_segments:
            features["segment_ids"] = kinds.to_tensor(0, shape=shape)
        return features

    def get_config(self) -> dict[str, Any]:
        names = ("sequence_length", "prefix", "with_segments", "end_order")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _column(ids: list[int], like: tf.RaggedTensor) -> tf.RaggedTensor:
    """The same few ids in every row: `(batch, len(ids))`, ragged as `like`."""
    row = tf.constant(ids, dtype=like.dtype)[tf.newaxis, :]
    return tf.RaggedTensor.from_tensor(tf.repeat(row, like.nrows(), axis=0))
