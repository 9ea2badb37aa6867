"""Batches for `model.fit` and `model.predict`: rows of token stores, gathered by a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kft.data.batches import Batch, micro_batches
from kft.data.store import Store
from kft.data.streams import Step, Stream


class Feed(keras.utils.PyDataset):
    """Numbered batches, each made when Keras asks for it.

    Args:
        length: How many.
        make: (number of a batch) to what Keras takes.
        row_features: The names of features of rows, whose shape but for the rows is the same in all batches.
    """

    def __init__(self, length: int, make: Callable[[int], Any], row_features: Iterable[str] = ()):
        super().__init__()
        self.length, self.make, self.row_features = length, make, frozenset(row_features)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


def to_predict(store: Store, planned: Sequence[Batch], inputs: Sequence[str]) -> Feed:
    """The features of each planned batch.

    Args:
        store: Token features of all rows.
        planned: Which rows, in which order.
        inputs: Names of the network's inputs; other features are left out.
    """
    names = set(inputs)
    return Feed(len(planned), lambda i: (store.batch(planned[i].rows, planned[i].length, names),), store.row_features)


def to_evaluate(stream: Stream, planned: Sequence[Batch], inputs: Sequence[str]) -> Feed:
    """The features, targets and `is_real` of each planned batch: what `RowValues` reads.

    Args:
        stream: The rows.
        planned: Which of them, in which order.
        inputs: Names of the network's inputs.
    """

    def make(index: int) -> Any:
        features, targets = stream.batch(planned[index], inputs, None)
        return ({"features": features, "targets": targets, "is_real": _is_real(planned[index])},)

    return Feed(len(planned), make, stream.store.row_features)


def to_train(
    streams: Mapping[str, Stream],
    steps: Sequence[Step],
    inputs: Sequence[str],
    totals: Mapping[str, np.ndarray],
    stream_of: Mapping[str, str],
    *,
    epoch: int,
    pieces: int = 1,
    multiple_of: int = 1,
) -> Feed:
    """The features and targets of each step by stream, and the weights of its rows by term.

    Weights are divided by a total, such as that of all batches of one update, whatever pieces they are fed in and
    whatever devices share them: the losses and gradients of all add up to those of the whole.

    Args:
        streams: The rows by stream.
        steps: The batch of each stream, step by step.
        inputs: Names of the network's inputs.
        totals: By term, what the weights of each step are divided by: `(steps,)`.
        stream_of: The stream of each term.
        epoch: The pass over the rows of the first stream, from 0.
        pieces: How many each step is fed in, one after the other.
        multiple_of: Rows of a piece are a multiple of this.
    """
    cut = [
        {name: micro_batches(batch, pieces, multiple_of) for name, batch in step.items() if name in streams}
        for step in steps
    ]
    weights = {term: streams[name].term_weights(term) for term, name in stream_of.items()}

    def make(index: int) -> Any:
        step, piece = divmod(index, pieces)
        batches = {name: of_stream[piece] for name, of_stream in cut[step].items()}
        made = {name: streams[name].batch(batch, inputs, epoch) for name, batch in batches.items()}
        shares = {}
        for term, name in stream_of.items():
            share = weights[term][batches[name].rows] / max(float(totals[term][step]), 1e-12)
            shares[term] = np.where(_is_real(batches[name]), share, 0.0).astype(np.float32)
        features = {name: pair[0] for name, pair in made.items()}
        return features, {name: pair[1] for name, pair in made.items()}, shares

    row_features = [name for stream in streams.values() for name in stream.store.row_features]
    return Feed(len(steps) * pieces, make, row_features)


def _is_real(batch: Batch) -> np.ndarray:
    """Which rows of a batch do more than fill it up: `(batch,)` bool."""
    return np.arange(len(batch.rows)) < len(batch.rows) - batch.num_padding


def for_keras(feed: Feed) -> Any:
    """The feed as `fit` and `predict` take it on this backend; on TensorFlow a `tf.data.Dataset` of open shapes.

    Keras reads the shapes of a PyDataset off its first two batches and refuses later ones of another length.
    """
    if keras.config.backend() != "tensorflow":
        return feed
    import tensorflow as tf

    def open_shape(path: tuple[Any, ...], array: np.ndarray) -> tf.TensorSpec:
        num_open = 1 if path[-1] in feed.row_features else 2
        return tf.TensorSpec([None] * min(array.ndim, num_open) + list(array.shape[num_open:]), array.dtype)

    first = feed[0]
    signature = keras.tree.pack_sequence_as(first, [open_shape(*each) for each in keras.tree.flatten_with_path(first)])
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
    network.predict_function = tf.function(of_batch, input_signature=[[feed.element_spec]], autograph=False)


def in_row_order(outputs: np.ndarray, planned: Sequence[Batch]) -> np.ndarray:
    """Undoes the plan's order and drops the filled-in rows: `(rows, …)` from outputs in batch order."""
    rows = np.concatenate([batch.rows for batch in planned])
    real = np.concatenate([_is_real(batch) for batch in planned])
    ordered = np.empty((int(real.sum()), *outputs.shape[1:]), outputs.dtype)
    ordered[rows[real]] = outputs[real]
    return ordered
