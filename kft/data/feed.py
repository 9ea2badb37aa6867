"""Batches for `model.fit` and `model.predict`: rows of a token store, gathered by a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kft.data.batches import Batch, micro_batches
from kft.data.store import Aligned, Store

Disguise = Callable[[Store, Batch, dict[str, np.ndarray], Any, int | None], tuple[dict[str, np.ndarray], Any]]
"""(store, batch, all its features, targets, epoch) to the features and targets that the network sees.

A pure function, so that a fit that goes on meets the same batches. The epoch is None for rows only measured."""


class Feed(keras.utils.PyDataset):
    """`(features, targets, weights)` of each planned batch; only features where there are no targets.

    The weights of a batch add up to 1, so that the sum of weighted losses is their mean, whatever devices share it.
    Those of a piece add up to its share times the number of pieces: the mean over all is that of the batch.

    Args:
        store: Token features of all rows.
        batches: Which rows, in which order.
        pieces: How many each is fed in, one after the other.
        multiple_of: Rows of a piece are a multiple of this.
        inputs: The backbone's input names; other features are left out.
        targets: `(rows, …)`, or aligned with the tokens; None to predict.
        weights: `(rows,)` float32, how much each row counts beside the others; None for equal weights.
        disguise: What makes of each batch the one to train on in this epoch.
        epoch: The pass over the rows, from 0; None where they are only measured.
    """

    def __init__(
        self,
        store: Store,
        batches: Sequence[Batch],
        inputs: Sequence[str],
        targets: np.ndarray | Aligned | None = None,
        weights: np.ndarray | None = None,
        *,
        disguise: Disguise | None = None,
        epoch: int | None = None,
        pieces: int = 1,
        multiple_of: int = 1,
    ):
        super().__init__()
        self.store, self.inputs, self.num_pieces = store, set(inputs), pieces
        self.pieces = [(piece, batch) for batch in batches for piece in micro_batches(batch, pieces, multiple_of)]
        self.targets, self.row_weights = targets, weights
        self.disguise, self.epoch = disguise, epoch

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> Any:
        piece, whole = self.pieces[index]
        names = self.inputs if self.disguise is None else None
        features = self.store.batch(piece.rows, piece.length, names)
        if self.targets is None:
            return (features,)
        targets = targets_of(self.store, self.targets, piece)
        if self.disguise is not None:
            features, targets = self.disguise(self.store, piece, features, targets, self.epoch)
            features = {name: features[name] for name in self.inputs}
        share = self.num_pieces / max(float(self._weights(whole).sum()), 1e-12)
        return features, targets, self._weights(piece) * np.float32(share)

    def _weights(self, batch: Batch) -> np.ndarray:
        weights = np.ones(len(batch.rows), np.float32) if self.row_weights is None else self.row_weights[batch.rows]
        is_real = np.arange(len(batch.rows)) < len(batch.rows) - batch.num_padding
        return weights * is_real.astype(np.float32)


def targets_of(store: Store, targets: np.ndarray | Aligned, batch: Batch) -> np.ndarray:
    """The targets of a batch: `(batch, …)`, or `(batch, tokens)` where they are aligned with the tokens."""
    return store.padded(targets, batch.rows, batch.length) if isinstance(targets, Aligned) else targets[batch.rows]


def for_keras(feed: Feed) -> Any:
    """The feed as `fit` and `predict` take it on this backend; on TensorFlow a `tf.data.Dataset` of open shapes.

    Keras reads the shapes of a PyDataset off its first two batches and refuses later ones of another length.
    """
    if keras.config.backend() != "tensorflow":
        return feed
    import tensorflow as tf

    def open_shape(array: np.ndarray) -> tf.TensorSpec:
        return tf.TensorSpec([None] * min(array.ndim, 2) + list(array.shape[2:]), array.dtype)

    signature = tf.nest.map_structure(open_shape, feed[0])
    ds = tf.data.Dataset.from_generator(lambda: (feed[i] for i in range(len(feed))), output_signature=signature)
    # An autotuned pipeline ends only when its tuner wakes, which it does half as often each time.
    options = tf.data.Options()
    options.autotune.enabled = False
    return ds.apply(tf.data.experimental.assert_cardinality(len(feed))).prefetch(2).with_options(options)


def accept_any_shape(network: Any, feed: Any) -> None:
    """Lets `predict` on TensorFlow be traced once for batches like these of any shape.

    Keras traces it for the first shape, for the second, and once more before it takes both sizes to be open.
    """
    is_traced = network.predict_function is not None
    # Of several replicas each gets a piece of a batch.
    if keras.config.backend() != "tensorflow" or is_traced or network.distribute_strategy.num_replicas_in_sync > 1:
        return
    import tensorflow as tf

    network.make_predict_function()
    of_batch = network.predict_function.python_function
    network.predict_function = tf.function(of_batch, input_signature=[[feed.element_spec]])


def in_row_order(outputs: np.ndarray, batches: Sequence[Batch]) -> np.ndarray:
    """Undoes the plan's order and drops the filled-in rows: `(rows, …)` from outputs in batch order."""
    rows = np.concatenate([batch.rows for batch in batches])
    real = np.concatenate([np.arange(len(b.rows)) < len(b.rows) - b.num_padding for b in batches])
    ordered = np.empty((int(real.sum()), *outputs.shape[1:]), outputs.dtype)
    ordered[rows[real]] = outputs[real]
    return ordered
