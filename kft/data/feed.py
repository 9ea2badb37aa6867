"""Batches for `model.fit` and `model.predict`: rows of a token store, gathered by a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kft.data.batches import Batch
from kft.data.store import Store


class Feed(keras.utils.PyDataset):
    """`(features, targets, weights)` of each planned batch; only features where there are no targets.

    Args:
        store: Token features of all rows.
        batches: Which rows, in which order.
        inputs: The backbone's input names; other features are left out.
        targets: `(rows, …)` or None.
        weights: `(rows,)` float32, the weight of each row in the loss; None for 1.
    """

    def __init__(
        self,
        store: Store,
        batches: Sequence[Batch],
        inputs: Sequence[str],
        targets: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ):
        super().__init__()
        self.store, self.batches, self.inputs = store, batches, set(inputs)
        self.targets, self.row_weights = targets, weights

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        batch = self.batches[index]
        features = {k: v for k, v in self.store.batch(batch.rows, batch.length).items() if k in self.inputs}
        if self.targets is None:
            return (features,)
        weights = np.ones(len(batch.rows), np.float32) if self.row_weights is None else self.row_weights[batch.rows]
        if batch.num_padding:
            weights = weights.copy()
            weights[-batch.num_padding :] = 0
        return features, self.targets[batch.rows], weights


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
    return ds.apply(tf.data.experimental.assert_cardinality(len(feed))).prefetch(tf.data.AUTOTUNE)


def in_row_order(outputs: np.ndarray, batches: Sequence[Batch]) -> np.ndarray:
    """Undoes the plan's order and drops the filled-in rows: `(rows, …)` from outputs in batch order."""
    rows = np.concatenate([batch.rows for batch in batches])
    real = np.concatenate([np.arange(len(b.rows)) < len(b.rows) - b.num_padding for b in batches])
    ordered = np.empty((int(real.sum()), *outputs.shape[1:]), outputs.dtype)
    ordered[rows[real]] = outputs[real]
    return ordered
