"""The token store: token ids of many rows, one after the other without padding.

`kft/data/cache.py` keeps them on disk, where they are read through a memory map.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from kft.data.batches import Batch
from kft.text.encoded import Encoded

SLICE_ROWS = 1024


class Aligned(NamedTuple):
    """A number for each token of a store, such as the class of each token.

    Attributes:
        values: `(tokens,)`, all rows' one after the other, as the ids of the group.
        group: The group of features they stand beside.
        pad: What fills a row up.
    """

    values: np.ndarray
    group: str = ""
    pad: int = -1


@dataclass(frozen=True)
class Store:
    """Token features of `(rows,)` rows of different lengths.

    Attributes:
        ids: For each feature, all rows' values one after the other: `(tokens,)` int32, memory-mapped.
        offsets: For each group, where each row begins, and the end of the last: `(rows + 1,)` int64.
        texts: Which row of the table each is from: `(rows,)` int64, ascending.
        pad_values: For each input of the backbone, the value of padding; masks included.
        mask_names: The inputs that are padding masks.
    """

    ids: dict[str, np.ndarray]
    offsets: dict[str, np.ndarray]
    texts: np.ndarray
    pad_values: dict[str, int]
    mask_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in the longest group of each row: `(rows,)`."""
        return np.max([np.diff(offsets) for offsets in self.offsets.values()], axis=0)

    def sources(self, rows: np.ndarray) -> np.ndarray:
        """The rows of the table that these rows are from."""
        return self.texts[rows]

    def group_of(self, name: str) -> str:
        """The group that a feature belongs to."""
        return group_of(name, self.offsets)

    def batch(self, rows: np.ndarray, length: int, names: Container[str] | None = None) -> dict[str, np.ndarray]:
        """The features of these rows, padded to `length`: each `(len(rows), length)`.

        Where there are several groups, each is padded to the next multiple of 32 that holds its rows, `length` at most.

        Args:
            rows: Which, in which order.
            length: Tokens, as many as the longest of the rows has or more.
            names: Only these features; None for all.
        """
        features = {
            name: self.padded(Aligned(values, self.group_of(name), self.pad_values.get(name, 0)), rows, length)
            for name, values in self.ids.items()
            if names is None or name in names
        }
        for name in self.mask_names:
            if names is None or name in names:
                offsets, width = self._span(self.group_of(name), rows, length)
                is_real = np.arange(width)[None, :] < (offsets[rows + 1] - offsets[rows])[:, None]
                # Integers, as the backbones take them: mirrored training averages the first batch, which bools do not
                # allow.
                features[name] = is_real.astype(np.int32)
        return features

    def padded(self, aligned: Aligned, rows: np.ndarray, length: int) -> np.ndarray:
        """What stands beside the tokens of these rows: `(len(rows), length)`, or less if there are several groups."""
        offsets, width = self._span(aligned.group, rows, length)
        padded = np.full((len(rows), width), aligned.pad, aligned.values.dtype)
        for i, (start, end) in enumerate(zip(offsets[rows], offsets[rows + 1], strict=True)):
            padded[i, : end - start] = aligned.values[start:end]
        return padded

    def targets_of(self, targets: np.ndarray | Aligned, batch: Batch) -> np.ndarray:
        """The targets of a batch: `(batch, …)`, or `(batch, tokens)` where they are aligned with the tokens."""
        return self.padded(targets, batch.rows, batch.length) if isinstance(targets, Aligned) else targets[batch.rows]

    def _span(self, group: str, rows: np.ndarray, length: int) -> tuple[np.ndarray, int]:
        """The offsets of a group, and the tokens that these rows are padded to in it."""
        offsets = self.offsets[group]
        if len(self.offsets) == 1:
            return offsets, length
        return offsets, min(length, -(-int((offsets[rows + 1] - offsets[rows]).max()) // 32) * 32)

    def part(self, first: int, last: int) -> Store:
        """The rows of the texts from `first` to before `last`, whose numbers begin at 0 again."""
        start, end = np.searchsorted(self.texts, [first, last])
        bounds = {group: (offsets[start], offsets[end]) for group, offsets in self.offsets.items()}
        ids = {name: values[slice(*bounds[self.group_of(name)])] for name, values in self.ids.items()}
        offsets = {group: o[start : end + 1] - o[start] for group, o in self.offsets.items()}
        return replace(self, ids=ids, offsets=offsets, texts=self.texts[start:end] - first)


def group_of(name: str, groups: Iterable[str]) -> str:
    """The group that a feature belongs to: the longest one that its name begins with, or else the first.

    >>> group_of("decoder_token_ids", ["encoder_", "decoder_"]), group_of("word", ["encoder_"])
    ('decoder_', 'encoder_')
    """
    return max((group for group in groups if name.startswith(group)), key=len, default=next(iter(groups)))


def without_padding(encoded: Encoded) -> dict[str, np.ndarray]:
    """The values of each feature that are no padding, all rows' one after the other."""
    found = {}
    for name, values in encoded.features.items():
        lengths = encoded.lengths[group_of(name, encoded.lengths)]
        found[name] = values[np.arange(values.shape[1])[None, :] < lengths[:, None]]
    return found


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where each row begins, and the end of the last: `(rows + 1,)` int64.

    >>> offsets_of(np.array([2, 3])).tolist()
    [0, 2, 5]
    """
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def in_memory(encoded: Encoded, encoder: Any) -> Store:
    """A store of a few rows, such as those of one predict call, that never touches the disk."""
    offsets = {group: offsets_of(lengths) for group, lengths in encoded.lengths.items()}
    return Store(without_padding(encoded), offsets, encoded.texts, encoder.pad_values, tuple(encoder.mask_names))


def sliced(columns: Sequence[Any], num_rows: int, size: int = SLICE_ROWS) -> Iterator[list[list[str]]]:
    """Slices of text columns, each a list of strings for each column.

    >>> [[len(texts) for texts in part] for part in sliced([["a", "b"]], 2)]
    [[2]]
    """
    for start in range(0, num_rows, size):
        yield [_strings(column, start, min(start + size, num_rows)) for column in columns]


def _strings(column: Any, start: int, end: int) -> list[str]:
    part = column[start:end]
    return part.to_pylist() if hasattr(part, "to_pylist") else list(part)
