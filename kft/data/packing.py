"""Rows of tokens on shared lines, so that little of a batch is padding."""

from __future__ import annotations

import tempfile
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kft.data.store import SLICE_ROWS, Store
from kft.text.encoded import ROW_IDS


@dataclass(frozen=True)
class Lines(Store):
    """A store whose rows are lines of several rows each.

    Attributes:
        members: The rows of the store it was made of, line after line: `(rows,)` int64.
        begins: Where each line begins among them, and the end of the last: `(lines + 1,)` int64.
    """

    members: np.ndarray
    begins: np.ndarray

    def sources(self, rows: np.ndarray) -> np.ndarray:
        """The rows of the table that these lines hold."""
        return np.concatenate([self.members[self.begins[row] : self.begins[row + 1]] for row in rows])


def pack(store: Store, length: int, source: str | None = None) -> Lines:
    """The rows of a store on as few lines as best fit finds; `row_ids` beside the tokens tells them apart.

    The longest rows come first, each onto the line that it leaves least room on. The tokens go by way of a file without
    a name, so memory stays flat.

    Args:
        store: Of one group of features, a row for each text; features of rows have no place on a line of several.
        length: Tokens of a line, as many as the longest row has or more.
        source: Not needed: a line may be as short as it is.

    Raises:
        ValueError: The store has features of rows.

    Reference:
        Krell et al., 2021, "Efficient sequence packing without cross-contamination",
        https://arxiv.org/abs/2107.02027
    """
    if store.row_features:
        raise ValueError(
            f"found features of rows ({', '.join(store.row_features)}), which lines of several cannot have."
        )
    ((group, offsets),) = store.offsets.items()
    lines = best_fit(np.diff(offsets), length)
    members = np.array([row for line in lines for row in line], np.int64)
    counts = np.array([len(line) for line in lines], np.int64)
    begins = np.append(0, np.cumsum(counts))
    row_ids = np.arange(len(members)) - np.repeat(begins[:-1], counts) + 1
    lengths = np.diff(offsets)[members]
    begin = offsets[members]
    features = {name: _on_disk(_gathered(values, begin, lengths), values) for name, values in store.features.items()}
    numbers = (
        np.repeat(row_ids[i : i + SLICE_ROWS], lengths[i : i + SLICE_ROWS]) for i in range(0, len(members), SLICE_ROWS)
    )
    features[ROW_IDS] = _on_disk(numbers, np.zeros(0, np.int32))
    return Lines(
        features=features,
        offsets={group: np.append(0, np.cumsum(lengths))[begins]},
        texts=store.texts[members[begins[:-1]]],
        pad_values=store.pad_values,
        mask_names=store.mask_names,
        members=store.texts[members],
        begins=begins,
    )


def best_fit(lengths: Sequence[int] | np.ndarray, room: int) -> list[list[int]]:
    """Rows by line, each line with room for so many tokens.

    >>> best_fit([3, 5, 2, 8], 8)
    [[3], [1, 0], [2]]
    """
    line: list[int]
    lines: list[list[int]] = []
    spaces: list[int] = []  # ascending, what is free on any line
    by_space: dict[int, list[list[int]]] = defaultdict(list)
    for row in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        place = bisect_left(spaces, lengths[row])
        if place == len(spaces):
            lines.append(line := [])
            space = room
        else:
            space = spaces[place]
            line = by_space[space].pop()
            if not by_space[space]:
                del spaces[place]
        line.append(row)
        left = int(space - lengths[row])
        if left > 0:
            if not by_space[left]:
                insort(spaces, left)
            by_space[left].append(line)
    return lines


def _gathered(values: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> Iterator[np.ndarray]:
    """The values of rows one after the other, a slice of rows at a time."""
    for i in range(0, len(begins), SLICE_ROWS):
        counts = lengths[i : i + SLICE_ROWS]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        yield values[np.repeat(begins[i : i + SLICE_ROWS], counts) + within]


def _on_disk(parts: Iterator[np.ndarray], like: np.ndarray) -> np.ndarray:
    """Values in a file that is gone when the last reader is: `(values, …)`, each as those of `like`."""
    with tempfile.TemporaryFile() as file:
        for part in parts:
            file.write(np.ascontiguousarray(part, like.dtype).tobytes())
        file.flush()
        return np.memmap(file, like.dtype, mode="r").reshape(-1, *like.shape[1:])
