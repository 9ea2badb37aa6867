"""Rows of text and where they came from; every reader gives one, nothing after it knows file formats."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kft.data.mapped import BLOCK_ROWS, memory_mapped

ROW = "__row__"
"""Column of 1-based row numbers: the line a row begins on in a text file, its rank elsewhere and in SQuAD's."""
UNNAMED = "__unnamed__"
"""What the name of a column begins with that has none in the source; `kft.readers.formats.read` leaves it out."""


GROUP = "__group__"
"""Column of what the user wants rows to be kept together by; only until they are split."""


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of rows with their source.

    Attributes:
        rows: Every column of the source and `ROW` (int64).
        source: The path as the user wrote it, or `<list>`, `<dict>`, `<pandas>`, `<arrow>`,
            `<datasets>`, `<tf.data>`.
        notes: Warnings worth telling the user, in the order they arose.
        labels: The classes in the order that the source defines, the positive one of two last; empty where it defines
            none.
        readings: By column, what was inferred from the values of the training rows and holds for every other part too:
            see `kft.data.targets`. JSON.
        benchmark: The name of the benchmark that the rows are of, as they were read; empty for others.
    """

    rows: pa.Table
    source: str
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    readings: Mapping[str, Any] = field(default_factory=dict)
    benchmark: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def names(self) -> list[str]:
        """The columns, without `ROW`."""
        return [name for name in self.rows.column_names if name != ROW]

    def take(self, indices: Sequence[int] | np.ndarray) -> "Table":
        """The rows at `indices`, in that order; long selections stay on disk."""
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) <= BLOCK_ROWS:
            return replace(self, rows=self.rows.take(pa.array(indices)))
        return replace(self, rows=memory_mapped(self._picked(indices), self.source))

    def _picked(self, indices: np.ndarray) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(indices), BLOCK_ROWS):
            part = indices[start : start + BLOCK_ROWS]
            low = int(part.min())
            # Arrow joins the chunks it takes from: a narrow window keeps that join small.
            window = self.rows.slice(low, int(part.max()) - low + 1)
            yield from window.take(pa.array(part - low)).combine_chunks().to_batches()

    def with_notes(self, *notes: str) -> "Table":
        """The same rows with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    def without(self, column: str) -> "Table":
        """The same rows without a column, if it is there."""
        return replace(self, rows=self.rows.drop_columns([column])) if column in self.rows.column_names else self

    def texts(self, column: str) -> list:
        """A whole column as Python values; for small tables."""
        return self.rows[column].to_pylist()

    def where(self, index: int) -> str:
        """The place of a row for messages, as in `train.csv, row 17`."""
        return f"{self.source}, row {self.rows[ROW][int(index)].as_py()}"

    def fingerprint(self) -> str:
        """The sha256 (hex) of the names and values of all columns but `ROW`.

        Values count as text, so `1` and `"1"` are the same; how the rows are cut into chunks and where
        they came from do not matter.
        """
        digest = hashlib.sha256()
        for name in self.names():
            digest.update(f"{len(name)}:{name}:{_column_digest(self.rows[name])};".encode())
        return digest.hexdigest()


def _column_digest(column: pa.ChunkedArray) -> str:
    lengths, contents = hashlib.sha256(), hashlib.sha256()
    for chunk in column.chunks:
        values = _as_bytes(chunk)
        lengths.update(pc.fill_null(pc.binary_length(values), -1).to_numpy(zero_copy_only=False).tobytes())
        filled = pc.fill_null(values, b"")
        _, offsets, data = filled.buffers()
        if data is not None:
            first = filled.offset
            bounds = np.frombuffer(offsets, np.int64)[first : first + len(filled) + 1]
            contents.update(memoryview(data)[bounds[0] : bounds[-1]])
    return lengths.hexdigest() + contents.hexdigest()


def _as_bytes(chunk: pa.Array) -> pa.Array:
    if pa.types.is_nested(chunk.type):
        texts = [None if value is None else json.dumps(value, default=str) for value in chunk.to_pylist()]
        chunk = pa.array(texts, pa.large_string())
    if not pa.types.is_large_binary(chunk.type):
        chunk = chunk.cast(pa.large_string())
    return chunk.cast(pa.large_binary())
