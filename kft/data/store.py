"""The token store: features of the tokens of many rows, one after the other without padding.

Features are token ids, or anything else of any dtype and shape that a network reads: hidden states, for example.
`kft/data/cache.py` keeps them on disk, where they are read through a memory map.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from kft.data.batches import Batch
from kft.text.encoded import Encoded

SLICE_ROWS = 1024


class Aligned(NamedTuple):
    """A value for each token of a store, such as the class of each token.

    Attributes:
        values: `(tokens, …)`, all rows' one after the other, as the features of the group.
        group: The group of features they stand beside.
        pad: What fills a row up.
    """

    values: np.ndarray
    group: str = ""
    pad: float = -1


@dataclass(frozen=True)
class Store:
    """Features of `(rows,)` rows of different lengths, of any dtype and trailing shape.

    Attributes:
        features: By name, all rows' values one after the other: `(tokens, …)`. Memory-mapped if they come from a file.
        offsets: For each group, where each row begins, and the end of the last: `(rows + 1,)` int64.
        texts: Which row of the table each is from: `(rows,)` int64, ascending.
        pad_values: For each feature of tokens, the value of padding, 0 unless it is here; masks included.
        mask_names: The padding masks, which are made of the lengths.
        row_features: By name, one value for each row: `(rows, …)`.

    Raises:
        ValueError: A feature of rows has not one value for each, or the name of a feature of tokens.
    """

    features: dict[str, np.ndarray]
    offsets: dict[str, np.ndarray]
    texts: np.ndarray
    pad_values: dict[str, float]
    mask_names: tuple[str, ...]
    row_features: dict[str, np.ndarray] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        for name, values in self.row_features.items():
            if len(values) != len(self):
                raise ValueError(f"{name}: found values of {len(values):,} rows, expected {len(self):,}.")
            if name in self.features:
                raise ValueError(
                    f"{name}: found a feature of rows and one of tokens of this name, expected one of them."
                )

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def names(self) -> list[str]:
        """Of all features but the masks."""
        return [*self.features, *self.row_features]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in the longest group of each row: `(rows,)`; 1 where there are features of rows alone."""
        if not self.offsets:
            return np.ones(len(self), np.int64)
        return np.max([np.diff(offsets) for offsets in self.offsets.values()], axis=0)

    def sources(self, rows: np.ndarray) -> np.ndarray:
        """The rows of the table that these rows are from."""
        return self.texts[rows]

    def group_of(self, name: str) -> str:
        """The group that a feature belongs to."""
        return group_of(name, self.offsets)

    def batch(self, rows: np.ndarray, length: int, names: Container[str] | None = None) -> dict[str, np.ndarray]:
        """The features of these rows: those of tokens padded, `(len(rows), length, …)`; those of rows `(len(rows), …)`.

        Where there are several groups, each is padded to the next multiple of 32 that holds its rows, `length` at most.

        Args:
            rows: Which, in which order.
            length: Tokens, as many as the longest of the rows has or more.
            names: Only these features; None for all.
        """
        features = {
            name: self.padded(Aligned(values, self.group_of(name), self.pad_values.get(name, 0)), rows, length)
            for name, values in self.features.items()
            if names is None or name in names
        }
        features |= {
            n: np.asarray(values[rows]) for n, values in self.row_features.items() if names is None or n in names
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
        """What stands beside the tokens of these rows: `(len(rows), length, …)`, or less with several groups."""
        offsets, width = self._span(aligned.group, rows, length)
        padded = np.full((len(rows), width, *aligned.values.shape[1:]), aligned.pad, aligned.values.dtype)
        for i, (start, end) in enumerate(zip(offsets[rows], offsets[rows + 1], strict=True)):
            padded[i, : end - start] = aligned.values[start:end]
        return padded

    def targets_of(self, targets: np.ndarray | Aligned, batch: Batch) -> np.ndarray:
        """The targets of a batch: `(batch, …)`, or `(batch, tokens, …)` where they are aligned with the tokens."""
        return self.padded(targets, batch.rows, batch.length) if isinstance(targets, Aligned) else targets[batch.rows]

    def _span(self, group: str, rows: np.ndarray, length: int) -> tuple[np.ndarray, int]:
        """The offsets of a group, and the tokens that these rows are padded to in it."""
        offsets = self.offsets[group]
        if len(self.offsets) == 1:
            return offsets, length
        return offsets, min(length, -(-int((offsets[rows + 1] - offsets[rows]).max()) // 32) * 32)

    def width(self, group: str, rows: np.ndarray, length: int) -> int:
        """The tokens that these rows are padded to in a group, where `batch` is asked for `length`."""
        return self._span(group, rows, length)[1]

    def part(self, first: int, last: int) -> Store:
        """The rows of the texts from `first` to before `last`, whose numbers begin at 0 again."""
        start, end = np.searchsorted(self.texts, [first, last])
        bounds = {group: (offsets[start], offsets[end]) for group, offsets in self.offsets.items()}
        return replace(
            self,
            features={name: values[slice(*bounds[self.group_of(name)])] for name, values in self.features.items()},
            offsets={group: offsets[start : end + 1] - offsets[start] for group, offsets in self.offsets.items()},
            texts=self.texts[start:end] - first,
            row_features={name: values[start:end] for name, values in self.row_features.items()},
        )


def group_of(name: str, groups: Iterable[str]) -> str:
    """The group that a feature belongs to: the longest one that its name begins with, or else the first.

    >>> group_of("decoder_token_ids", ["encoder_", "decoder_"]), group_of("word", ["encoder_"])
    ('decoder_', 'encoder_')
    """
    return max((group for group in groups if name.startswith(group)), key=len, default=next(iter(groups)))


def without_padding(encoded: Encoded) -> dict[str, np.ndarray]:
    """The values of each feature of tokens that are no padding, all rows' one after the other: `(tokens, …)`."""
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
    return Store(
        without_padding(encoded),
        offsets,
        encoded.texts,
        encoder.pad_values,
        tuple(encoder.mask_names),
        row_features=dict(encoded.row_features),
    )


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
