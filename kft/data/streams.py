"""Streams: rows of one source with their targets, and the plan of steps that mixes several of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kft.data import batches
from kft.data.batches import Batch
from kft.data.store import Aligned, Store

Features = dict[str, np.ndarray]
Collator = Callable[[Store, Batch, Features, Features, int | None], tuple[Features, Features]]
"""(store, batch, all its features, its targets, epoch) to the features and targets that the network trains on.

A pure function, so that a resumed fit meets the same batches. The epoch is None for rows that are only evaluated."""

Step = Mapping[str, Batch]
"""The batch of each stream that one step trains on."""


def unchanged(
    store: Store, batch: Batch, features: Features, targets: Features, epoch: int | None
) -> tuple[Features, Features]:
    """The collator of tasks whose batches are the same in each epoch."""
    return features, targets


@dataclass(frozen=True)
class Stream:
    """Rows of one source, as a network trains on them.

    Attributes:
        store: Their token features.
        targets: By name, `(rows, …)` or aligned with the tokens.
        weights: By term, `(rows,)` float32: what each row weighs beside the others.
        counts: By term, `(rows,)`: how many tokens, or rows, the loss of each row is the mean of.
        collate: Makes the batches of each epoch.
    """

    store: Store
    targets: Mapping[str, np.ndarray | Aligned]
    weights: Mapping[str, np.ndarray]
    counts: Mapping[str, np.ndarray]
    collate: Collator = unchanged

    def term_weights(self, term: str) -> np.ndarray:
        """How much the loss of each row counts in a term, before it is divided by a total: `(rows,)` float32."""
        return np.asarray(self.counts[term] * self.weights[term], np.float32)

    def expected_weights(self, term: str) -> np.ndarray:
        """How much each row would count if all tokens, or rows, weighed the same: `(rows,)` float64.

        Losses are divided by the sum of these, not by that of the weights themselves: in an update of a single row its
        weight would cancel out, and rare classes would weigh less the smaller a batch is.
        """
        counts = self.counts[term]
        total = self.term_weights(term).sum(dtype=np.float64)
        return counts * (total / max(counts.sum(dtype=np.float64), 1e-12))

    def batch(self, batch: Batch, inputs: Sequence[str], epoch: int | None) -> tuple[Features, Features]:
        """The features that a network of these inputs reads of a batch, and its targets.

        Args:
            batch: Which rows.
            inputs: Names of the network's inputs.
            epoch: The pass over the rows, from 0; None where they are only evaluated.
        """
        names = set(inputs) if self.collate is unchanged else None
        features = self.store.batch(batch.rows, batch.length, names)
        targets = {name: self.store.targets_of(values, batch) for name, values in self.targets.items()}
        features, targets = self.collate(self.store, batch, features, targets, epoch)
        return {name: features[name] for name in inputs}, targets


def plan(
    stores: Mapping[str, Store],
    batch_sizes: Mapping[str, int],
    *,
    seed: int,
    epoch: int,
    fixed_lengths: Mapping[str, Sequence[int]],
    multiple_of: int = 1,
) -> list[Step]:
    """The steps of one epoch: a pass over the rows of the first stream, with a batch of each other beside each of its.

    The other streams go on from epoch to epoch, and begin anew, in another order, when they end. All of it is a pure
    function of lengths, sizes, seed and epoch.

    Args:
        stores: Token features by stream.
        batch_sizes: Rows of a batch, by stream.
        seed: Decides the order, with epoch and stream.
        epoch: The pass over the rows of the first stream, from 0.
        fixed_lengths: By stream, the only lengths to pad to; empty where any will do. See `batches.plan`.
        multiple_of: Batches are filled up to a multiple of this many rows.
    """

    def planned(rank: int, name: str, epoch: int) -> list[Batch]:
        return batches.plan(
            stores[name].lengths,
            batch_sizes[name],
            seed=seed,
            epoch=epoch,
            stream=rank,
            fixed_lengths=fixed_lengths[name],
            multiple_of=multiple_of,
        )

    first, *others = stores
    steps: list[dict[str, Batch]] = [{first: batch} for batch in planned(0, first, epoch)]
    for rank, name in enumerate(others, 1):
        a_pass = -(-len(stores[name]) // batch_sizes[name])
        number = epoch * len(steps)
        passes: dict[int, list[Batch]] = {}
        for place, step in enumerate(steps, number):
            turn = place // a_pass
            if turn not in passes:
                passes = {turn: planned(rank, name, turn)}
            step[name] = passes[turn][place % a_pass]
    return list(steps)


def totals_of(planned: Sequence[Batch], counts: np.ndarray) -> np.ndarray:
    """How much the rows of each batch count together, those that only fill it up left out: `(batches,)`."""
    real = [batch.rows[: len(batch.rows) - batch.num_padding] for batch in planned]
    return np.array([counts[rows].sum(dtype=np.float64) for rows in real])
