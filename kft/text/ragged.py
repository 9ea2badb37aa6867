"""Rows of different lengths laid end to end, in TensorFlow graph code.

TensorFlow's own `tf.repeat` and `RaggedTensor.value_rowids` take memory for all rows at the length of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def lengths(ragged: tf.RaggedTensor) -> tf.Tensor:
    """Values in each row of a ragged `(rows, values)`: `(rows,)` int32."""
    return tf.cast(ragged.row_lengths(), tf.int32)


def begins(lengths: tf.Tensor) -> tf.Tensor:
    """Where each row begins: `(rows,)` int32.

    >>> begins(tf.constant([2, 0, 1])).numpy().tolist()
    [0, 2, 2]
    """
    return tf.cumsum(lengths, exclusive=True)


def owners(lengths: tf.Tensor) -> tf.Tensor:
    """The row of each value: `(values,)` int32 from `(rows,)` int32.

    >>> owners(tf.constant([2, 0, 1])).numpy().tolist()
    [0, 0, 2]
    """
    begun = tf.math.unsorted_segment_sum(tf.ones_like(lengths), begins(lengths), tf.reduce_sum(lengths) + 1)
    return tf.cumsum(begun)[:-1] - 1


def rows(ragged: tf.RaggedTensor) -> tf.Tensor:
    """The row of each of the flat values of a ragged `(rows, values)`: `(values,)` int32."""
    return owners(lengths(ragged))


def repeat(values: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Each of the `(rows,)` values as often as its row is long.

    >>> repeat(tf.constant([7, 8, 9]), tf.constant([2, 0, 1])).numpy().tolist()
    [7, 7, 9]
    """
    return tf.gather(values, owners(lengths))


def with_single(
    rows: Sequence[tf.RaggedTensor], is_single: tf.Tensor, values: Sequence[tf.Tensor]
) -> tuple[tf.RaggedTensor, ...]:
    """Ragged `(rows, values)`, several at once, with one value more in the rows where `is_single`: `(rows,)` each."""
    found = []
    for each, value in zip(rows, values, strict=True):
        counts = tf.cast(is_single, each.row_splits.dtype)
        singles = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(value, is_single), counts, validate=False)
        found.append(tf.concat([each, singles], axis=1))
    return tuple(found)
