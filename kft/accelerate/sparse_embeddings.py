"""Embedding tables of which only the rows of tokens that occur in training are trained.

The row of a token that does not occur has no gradient, and AdamW, which does not decay embeddings, leaves it as it is.
So the rows that can move are variables of their own: the fine-tuned weights are the same, while gradients, moments
and the update cost what occurs, rather than the vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Container, Sequence
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops
from keras.src.backend.common.masking import set_keras_mask

from kft.data.store import Store
from kft.models.overrides import standing_in

WORTHWHILE = 0.6
"""The largest share of a table's rows that are set apart: from two thirds on, a checkpoint of both would be larger."""
PIECE = 2**20
TABLES = (keras.layers.Embedding, keras.layers.ReversibleEmbedding, keras_hub.layers.ReversibleEmbedding)


class Occurring(keras.Model):
    """A network of the same layers, with variables of its own for the rows of their tables that occur.

    Args:
        whole: Token features to raw outputs.
        tables: Embeddings that read token ids, and whose rows nothing else reads.
        ids: The tokens that occur in training: `(tokens,)`, ascending.
    """

    def __init__(self, whole: keras.Model, tables: Sequence[keras.layers.Embedding], ids: np.ndarray):
        super().__init__(whole.input, whole.output)
        self._of_all, self._tables, self._ids = whole.call, list(tables), ids
        # Not cast as a whole where layers compute in 16 bits: the rows that are read are.
        self._rows = [
            self.add_weight((len(ids), table.output_dim), dtype="float32", autocast=False, name="embeddings")
            for table in tables
        ]
        for table, rows in zip(self._tables, self._rows, strict=True):
            rows.assign(ops.take(table.embeddings, ids, axis=0))
            table._embeddings.trainable = False

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        with contextlib.ExitStack() as stack:
            for table, rows in zip(self._tables, self._rows, strict=True):
                read = functools.partial(_read, table, rows, self._ids, bool(training))
                stack.enter_context(standing_in(table, "call", read))
            return self._of_all(inputs, training=training, mask=mask)

    def put_back(self) -> None:
        """Writes the rows, as they are now, into the tables that they are of."""
        for table, rows in zip(self._tables, self._rows, strict=True):
            values = np.array(ops.convert_to_numpy(table.embeddings))
            values[self._ids] = ops.convert_to_numpy(rows)
            table._embeddings.assign(values)


def put_back(network: keras.Model) -> None:
    """Brings the trained rows of a network's tables into its layers, where they have been set apart."""
    if isinstance(network, Occurring):
        network.put_back()


def parts_of(network: keras.Model) -> list[tuple[Any, Any]]:
    """The variables of rows in a network, each with that of the table they are of."""
    if not isinstance(network, Occurring):
        return []
    return [(rows, table._embeddings) for rows, table in zip(network._rows, network._tables, strict=True)]


def network(whole: keras.Model, backbone: Any, store: Store) -> keras.Model:
    """The network that trains these rows at least cost: `Occurring`, or itself where nothing is to be won.

    Args:
        whole: Token features to raw outputs.
        backbone: The KerasHub backbone in it.
        store: All that it will be trained on, as it is.
    """
    tables = _tables(whole, backbone)
    ids = _ids(store, whole.input, backbone.vocabulary_size) if tables else None
    if ids is None or len(ids) > WORTHWHILE * backbone.vocabulary_size:
        return whole
    return Occurring(whole, tables, ids)


def _ids(store: Store, names: Container[str], vocabulary_size: int) -> np.ndarray | None:
    """Every number in these features, padding and masks among them; None where one is not a token's.

    Which of the features are tokens need not be known: numbers too many cost little.
    """
    occurs = np.zeros(vocabulary_size, bool)
    for values in [np.array([0, 1, *store.pad_values.values()]), *(store.ids[n] for n in store.ids if n in names)]:
        for start in range(0, len(values), PIECE):
            piece = values[start : start + PIECE]
            if piece.min() < 0 or piece.max() >= vocabulary_size:
                return None
            occurs[piece] = True
    return np.flatnonzero(occurs)


def _tables(whole: keras.Model, backbone: Any) -> list[keras.layers.Embedding]:
    """The trained embeddings of tokens that are read in one place, and in no other way than by token."""
    layers = whole._flatten_layers()
    found = []
    for table in layers:
        is_of_tokens = type(table) in TABLES and table.input_dim == getattr(backbone, "vocabulary_size", None)
        if is_of_tokens and table._embeddings.trainable and not table.lora_enabled and table.quantization_mode is None:
            owners = [layer for layer in layers if any(part is table for part in layer._layers)]
            if len(owners) == 1 and len(table._inbound_nodes) <= 1:
                found.append(table)
    return found


def _read(table: keras.layers.Embedding, rows: Any, ids: np.ndarray, training: bool, inputs: Any) -> Any:
    """The embeddings of tokens `(batch, length)`: `(batch, length, width)`.

    Outside training tokens may come that do not occur in it.
    """
    numbers = np.zeros(table.input_dim, np.int32)
    numbers[ids] = np.arange(len(ids))
    tokens = ops.cast(inputs, "int32")
    found = ops.take(rows, ops.take(numbers, tokens, axis=0), axis=0)
    if not training:
        occurs = np.isin(np.arange(table.input_dim), ids)
        found = ops.where(
            ops.take(occurs, tokens, axis=0)[..., None], found, ops.take(table.embeddings, tokens, axis=0)
        )
    found = ops.cast(found, table.compute_dtype)
    if (mask := table.compute_mask(inputs)) is not None:
        set_keras_mask(found, mask)
    return found
