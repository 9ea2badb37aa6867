"""The plan of batches: which rows make up each batch, and how long it is padded.

A pure NumPy function of (lengths, seed, epoch, shapes). Order, length buckets and padding are all decided here, so a
run resumes at batch k of an epoch by slicing the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MEGABATCH = 100


@dataclass(frozen=True)
class Batch:
    """Rows of one batch: `rows` `(batch,)` int, and the `length` in tokens they are padded to.

    The last `num_padding` of the rows only fill the batch up; they weigh nothing.
    """

    rows: np.ndarray
    length: int
    num_padding: int = 0


def plan(
    lengths: np.ndarray,
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    stream: int = 0,
    shuffle: bool = True,
    fixed_lengths: Sequence[int] = (),
    multiple_of: int = 1,
) -> list[Batch]:
    """Batches of rows of like length, each row once.

    When shuffled, rows are permuted, cut into groups of 100 batches, sorted by length inside each group, and the
    batches are permuted again: padding is small and the order still random. Otherwise the longest rows come first.

    Args:
        lengths: Tokens in each row: `(rows,)`.
        batch_size: Rows in a batch; the last may have fewer unless `fixed_lengths` are given.
        seed: With `epoch`, decides the order.
        epoch: The pass over the data, from 0.
        stream: The number of the source of these rows among those of a fit; decides the order, too.
        shuffle: Whether the order is random.
        fixed_lengths: The only lengths to pad to, ascending, for compilers that make one program for each shape. All
            batches are then full: the last one is filled with rows that weigh nothing.
        multiple_of: Batches are filled up to a multiple of this many rows, such as the number of devices.
    """
    count = len(lengths)
    if shuffle:
        random = np.random.default_rng([seed, epoch, stream] if stream else [seed, epoch])
        order = random.permutation(count)
        span = batch_size * MEGABATCH
        groups = [order[i : i + span] for i in range(0, count, span)]
        order = np.concatenate([g[np.argsort(-lengths[g], kind="stable")] for g in groups]) if groups else order
    else:
        order = np.argsort(-np.asarray(lengths), kind="stable")
    batches = [
        _batch(order[i : i + batch_size], lengths, batch_size, fixed_lengths, multiple_of)
        for i in range(0, count, batch_size)
    ]
    if shuffle:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches


def _batch(
    rows: np.ndarray, lengths: np.ndarray, batch_size: int, fixed_lengths: Sequence[int], multiple_of: int
) -> Batch:
    longest = int(lengths[rows].max())
    full = batch_size if fixed_lengths else len(rows)
    missing = -(-full // multiple_of) * multiple_of - len(rows)
    if fixed_lengths:
        longest = next((length for length in fixed_lengths if length >= longest), longest)
    return Batch(np.concatenate([rows, np.repeat(rows[:1], missing)]), longest, missing)


def micro_batches(batch: Batch, pieces: int, multiple_of: int = 1) -> list[Batch]:
    """Cuts a batch into `pieces` of equal size, to be computed one after the other.

    Args:
        batch: The batch.
        pieces: How many; 1 gives the batch as it is.
        multiple_of: Every piece holds a multiple of this many rows. The last are filled up with rows of no weight.

    >>> [piece.rows.tolist() for piece in micro_batches(Batch(np.arange(3), 8), 2)]
    [[0, 1], [2, 0]]
    """
    if pieces == 1:
        return [batch]
    size = -(-len(batch.rows) // (pieces * multiple_of)) * multiple_of
    num_real = len(batch.rows) - batch.num_padding
    rows = np.concatenate([batch.rows, np.repeat(batch.rows[:1], size * pieces - len(batch.rows))])
    starts = range(0, size * pieces, size)
    return [Batch(rows[i : i + size], batch.length, min(size, max(0, i + size - num_real))) for i in starts]


def fixed_lengths(max_length: int, fewest: int = 32) -> tuple[int, ...]:
    """Powers of two from `fewest` below `max_length`, and `max_length`: the shapes a compiler has to see.

    >>> fixed_lengths(128)
    (32, 64, 128)
    """
    lengths = []
    length = fewest
    while length < max_length:
        lengths.append(length)
        length *= 2
    return (*lengths, max_length)


def padded_tokens(batches: Sequence[Batch]) -> int:
    """Tokens of all batches, padding included."""
    return sum(len(batch.rows) * batch.length for batch in batches)
