"""Rows that stay on one side of a split, since they share a text or a value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
from scipy import sparse

from kft.data.hashes import row_hashes
from kft.data.table import GROUP, ROW, Table

MASK = 2**64 - 1


@dataclass(frozen=True)
class Groups:
    """Rows that must stay together, because their normalised texts are equal, or what they are kept together by.

    Attributes:
        order: `(rows,)` row indices, group after group.
        starts: `(groups + 1,)` where each group begins in `order`.
        classes: `(rows,)` int class of each row, in the order of the table.
        priority: `(groups,)` uint64, the seeded order in which groups leave the training rows.
        further: As `classes`, of further columns of classes.
    """

    order: np.ndarray
    starts: np.ndarray
    classes: np.ndarray
    priority: np.ndarray
    further: Sequence[np.ndarray] = ()

    def rows(self, group: int) -> np.ndarray:
        """The row indices of a group."""
        return self.order[self.starts[group] : self.starts[group + 1]]

    def sizes(self) -> np.ndarray:
        """The number of rows of each group."""
        return np.diff(self.starts)


def group_hashes(table: Table) -> np.ndarray:
    """A number for each row's value of `GROUP`; one of its own for a row without a value."""
    has_none = pc.is_null(table.rows[GROUP]).to_numpy()
    values = pc.fill_null(table.rows[GROUP], "")
    filled = replace(table, rows=table.rows.select([GROUP, ROW]).set_column(0, GROUP, values))
    return np.where(has_none, row_hashes(filled, [GROUP, ROW]), row_hashes(filled, [GROUP]))


def linked(hashes: np.ndarray, shared: Sequence[np.ndarray]) -> np.ndarray:
    """A key for each row that is equal for rows that `hashes` or any of `shared` link, through others too.

    The key is the least hash of the group, so that it does not depend on the order of rows.
    """
    if not shared:
        return hashes
    of_row, starts = [], [0]
    for keys in (hashes, *shared):
        _, ids = np.unique(keys, return_inverse=True)
        of_row.append(ids + starts[-1])
        starts.append(starts[-1] + int(ids.max()) + 1)
    links = (np.concatenate([of_row[0]] * len(shared)), np.concatenate(of_row[1:]))
    graph = sparse.coo_array((np.ones(len(links[0]), np.int8), links), shape=(starts[-1], starts[-1]))
    _, component = sparse.csgraph.connected_components(graph, directed=False)
    group = component[of_row[0]]
    least = np.full(int(group.max()) + 1, MASK, np.uint64)
    np.minimum.at(least, group, hashes)
    return least[group]


def groups_of(keys: np.ndarray, classes: np.ndarray, seed: int, further: Sequence[np.ndarray]) -> Groups:
    """The rows by their key, in an order of the groups that follows from the keys and the seed.

    Args:
        keys: `(rows,)` uint64, as from `linked`.
        classes: `(rows,)` the class of each row.
        seed: Any integer.
        further: As `classes`, of further columns of classes.
    """
    different, group_of = np.unique(keys, return_inverse=True)
    order = np.argsort(group_of, kind="stable")
    starts = np.searchsorted(group_of[order], np.arange(len(different) + 1))
    return Groups(order, starts, classes, _mix(different, seed), further)


def _mix(keys: np.ndarray, seed: int) -> np.ndarray:
    """Keys scattered by a seed with the finalizer of SplitMix64 (Steele et al., 2014)."""
    mixed = keys + np.uint64(((seed + 1) * 0x9E3779B97F4A7C15) & MASK)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
