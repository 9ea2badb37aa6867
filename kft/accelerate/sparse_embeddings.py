"""Embedding tables of which only the rows of the tokens in the training data are trained.

The row of a token that is not in the training data has no gradient, and AdamW, which does not decay embeddings, leaves
it as it is. So the rows that can move are variables of their own: the fine-tuned weights are the same, while gradients,
moments and the update cost what the training data has, rather than the vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import keras
import keras_hub
import numpy as np
from keras import ops

from kft.accelerate.internals import layers_of, num_calls, set_keras_mask, sublayers_of
from kft.accelerate.overrides import has_own_call, replaced

if TYPE_CHECKING:
    from kft.data.store import Store

WORTHWHILE = 0.6
"""The largest share of a table's rows that are set apart: from two thirds on, a checkpoint of both would be larger."""
PIECE = 2**20
TABLES = (keras.layers.Embedding, keras.layers.ReversibleEmbedding, keras_hub.layers.ReversibleEmbedding)


class SparseEmbeddings(keras.Model):
    """A network of the same layers, with variables of its own for the rows of their tables that are trained.

    Args:
        whole: Token features to raw outputs.
        tables: Embeddings that read token ids, and whose rows nothing else reads.
        ids: The tokens in the training data: `(tokens,)`, ascending.
    """

    def __init__(self, whole: keras.Model, tables: Sequence[keras.layers.Embedding], ids: np.ndarray):
        super().__init__(whole.input, whole.output)
        self.call_whole, self.tables, self.token_ids = whole.call, list(tables), ids
        # Not cast as a whole where layers compute in 16 bits: the rows that are read are.
        self.rows = [
            self.add_weight((len(ids), table.output_dim), dtype="float32", autocast=False, name="embeddings")
            for table in tables
        ]
        self.take_out()
        for table in self.tables:
            table.embeddings.trainable = False

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        with contextlib.ExitStack() as stack:
            for table, rows in zip(self.tables, self.rows, strict=True):
                read = functools.partial(_read, table, rows, self.token_ids, bool(training))
                stack.enter_context(replaced(table, "call", read))
            return self.call_whole(inputs, training=training, mask=mask)

    def take_out(self) -> None:
        """Reads the rows from the tables as they are now."""
        for table, rows in zip(self.tables, self.rows, strict=True):
            rows.assign(ops.take(table.embeddings, self.token_ids, axis=0))

    def put_back(self) -> None:
        """Writes the rows, as they are now, into the tables that they are of."""
        for table, rows in zip(self.tables, self.rows, strict=True):
            values = np.array(ops.convert_to_numpy(table.embeddings))
            values[self.token_ids] = ops.convert_to_numpy(rows)
            table.embeddings.assign(values)


def put_back(network: keras.Model) -> None:
    """Brings the trained rows of a network's tables into its layers, where they have been set apart."""
    if isinstance(network, SparseEmbeddings):
        network.put_back()


def take_out(network: keras.Model) -> None:
    """Sets the trained rows of a network's tables by its layers, where they have been set apart."""
    if isinstance(network, SparseEmbeddings):
        network.take_out()


def parts_of(network: keras.Model) -> list[tuple[Any, Any]]:
    """The variables of rows in a network, each with that of the table they are of."""
    if not isinstance(network, SparseEmbeddings):
        return []
    return [(rows, table.embeddings) for rows, table in zip(network.rows, network.tables, strict=True)]


def token_ids(stores: Sequence[Store], names: Container[str], vocabulary_size: int) -> np.ndarray | None:
    """Every number in these features, padding and masks among them; None where one is not a token's.

    Which of the features are tokens need not be known: numbers too many cost little.

    Args:
        stores: All that is trained on, as it is.
        names: The features that the network reads.
        vocabulary_size: Rows of the table.
    """
    is_used = np.zeros(vocabulary_size, bool)
    for store in stores:
        features = [values for name, values in {**store.features, **store.row_features}.items() if name in names]
        for values in [np.array([0, 1, *store.pad_values.values()]), *features]:
            for start in range(0, len(values), PIECE):
                piece = values[start : start + PIECE]
                if not np.issubdtype(piece.dtype, np.integer) or piece.min() < 0 or piece.max() >= vocabulary_size:
                    return None
                is_used[piece] = True
    return np.flatnonzero(is_used)


def tables_of(network: keras.Model, backbone: Any) -> list[keras.layers.Embedding]:
    """The trained embeddings of tokens that are read in one place, and in no other way than by token."""
    layers = layers_of(network)
    tables = []
    for table in layers:
        is_of_tokens = type(table) in TABLES and table.input_dim == getattr(backbone, "vocabulary_size", None)
        if not is_of_tokens or table.lora_enabled or table.quantization_mode is not None or not has_own_call(table):
            continue
        owners = [layer for layer in layers if any(part is table for part in sublayers_of(layer))]
        if table.embeddings.trainable and len(owners) == 1 and num_calls(network, table) <= 1:
            tables.append(table)
    return tables


def _read(table: keras.layers.Embedding, rows: Any, ids: np.ndarray, training: bool, inputs: Any) -> Any:
    """The embeddings of tokens `(batch, length)`: `(batch, length, width)`.

    Outside training tokens may come that are not in the training data.
    """
    numbers = np.zeros(table.input_dim, np.int32)
    numbers[ids] = np.arange(len(ids))
    tokens = ops.cast(inputs, "int32")
    vectors = ops.take(rows, ops.take(numbers, tokens, axis=0), axis=0)
    if not training:
        is_trained = ops.take(np.isin(np.arange(table.input_dim), ids), tokens, axis=0)[..., None]
        vectors = ops.where(is_trained, vectors, ops.take(table.embeddings, tokens, axis=0))
    vectors = ops.cast(vectors, table.compute_dtype)
    if (mask := table.compute_mask(inputs)) is not None:
        set_keras_mask(vectors, mask)
    return vectors
