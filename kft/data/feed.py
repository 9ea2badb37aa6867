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

    Weights are divided by a total, that of the batch or of all batches of one update, whatever pieces they are fed in
    and whatever devices share them: the losses and gradients of all add up to those of the whole.

    Args:
        store: Token features of all rows.
        batches: Which rows, in which order.
        pieces: How many each is fed in, one after the other.
        multiple_of: Rows of a piece are a multiple of this.
        inputs: The backbone's input names; other features are left out.
        targets: `(rows, …)`, or aligned with the tokens; None to predict.
        weights: `(rows,)` float32, how much each row counts beside the others; None for equal weights.
        totals: What the weights of each batch are divided by, `(batches,)`; None for their own sums.
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
        totals: np.ndarray | None = None,
        disguise: Disguise | None = None,
        epoch: int | None = None,
        pieces: int = 1,
        multiple_of: int = 1,
    ):
        super().__init__()
        self.store, self.inputs = store, set(inputs)
        self.targets = targets
        self.row_weights = np.ones(len(store), np.float32) if weights is None else weights
        totals = totals_of(batches, self.row_weights) if totals is None else totals
        self.pieces = [
            (piece, max(float(total), 1e-12))
            for batch, total in zip(batches, totals, strict=True)
            for piece in micro_batches(batch, pieces, multiple_of)
        ]
        self.disguise, self.epoch = disguise, epoch

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> Any:
        piece, total = self.pieces[index]
        names = self.inputs if self.disguise is None else None
        features = self.store.batch(piece.rows, piece.length, names)
        if self.targets is None:
            return (features,)
        targets = targets_of(self.store, self.targets, piece)
        if self.disguise is not None:
            features, targets = self.disguise(self.store, piece, features, targets, self.epoch)
            features = {name: features[name] for name in self.inputs}
        is_real = np.arange(len(piece.rows)) < len(piece.rows) - piece.num_padding
        weights = np.where(is_real, self.row_weights[piece.rows], 0.0) / total
        return features, targets, weights.astype(np.float32)


def totals_of(batches: Sequence[Batch], counts: np.ndarray) -> np.ndarray:
    """How much the rows of each batch count together, those that only fill it up left out: `(batches,)`."""
    real = [batch.rows[: len(batch.rows) - batch.num_padding] for batch in batches]
    return np.array([counts[rows].sum(dtype=np.float64) for rows in real])


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
