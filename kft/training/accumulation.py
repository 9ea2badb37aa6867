"""Which calls of the optimizer make up which update of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kft.data.batches import Batch
from kft.data.streams import totals_of


@dataclass(frozen=True)
class Windows:
    """Updates of several batches, each of several pieces; none reaches from one epoch into the next.

    The last update of an epoch, and that of the fit, takes the batches that are left. All of it is a pure function of
    the call's number, so that a graph can decide it and a resumed fit agrees.

    Attributes:
        batches_per_epoch: Batches in one pass over the rows.
        total: Batches of the whole fit.
        accumulated: Batches in one update.
        pieces: Calls of the optimizer for each batch.
    """

    batches_per_epoch: int
    total: int
    accumulated: int = 1
    pieces: int = 1

    @property
    def most_calls(self) -> int:
        """Calls in the longest update."""
        return min(self.accumulated, self.batches_per_epoch, self.total) * self.pieces

    @property
    def num_updates(self) -> int:
        """Updates of the whole fit."""
        return int(self.update_of(self.total * self.pieces - 1)) + 1

    def is_last(self, call: Any) -> Any:
        """Whether the call of this number, from 0, is the last of its update. Takes tensors too.

        >>> [call for call in range(9) if Windows(5, 9, accumulated=3).is_last(call)]
        [2, 4, 7, 8]
        """
        an_epoch, an_update = self.batches_per_epoch * self.pieces, self.accumulated * self.pieces
        made = call % an_epoch + 1
        return (made % an_update == 0) | (made == an_epoch) | (call + 1 == self.total * self.pieces)

    def update_of(self, call: Any) -> Any:
        """The number of the update, from 0, that a call belongs to. Takes tensors too.

        >>> [Windows(5, 9, accumulated=3).update_of(call) for call in range(9)]
        [0, 0, 0, 1, 1, 2, 2, 2, 3]
        """
        an_epoch, an_update = self.batches_per_epoch * self.pieces, self.accumulated * self.pieces
        return call // an_epoch * -(-an_epoch // an_update) + call % an_epoch // an_update


def update_totals(planned: Sequence[Batch], counts: np.ndarray, accumulated: int) -> np.ndarray:
    """For each batch of an epoch, how much the rows of its whole update count together: `(batches,)`.

    Args:
        planned: The batches of the epoch from its first, as far as the fit goes.
        counts: How much each row counts: `(rows,)`.
        accumulated: Batches in one update.

    >>> update_totals([Batch(np.array([row]), 8) for row in range(3)], np.array([1.0, 2.0, 4.0]), 2).tolist()
    [3.0, 3.0, 4.0]
    """
    of_batch = totals_of(planned, counts)
    of_update = np.add.reduceat(of_batch, np.arange(0, len(of_batch), accumulated))
    return np.repeat(of_update, accumulated)[: len(of_batch)]
