"""The rows that a baseline learns from and is scored on, as many as can be read in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from kft.errors import DataError
from kft.evaluation.entities import Span

if TYPE_CHECKING:
    from kft.data.table import Table

# With these a baseline takes about two seconds on one core.
MOST_ROWS, MOST_CHARACTERS = 10_000, 1_000_000
MOST_ROW_LABELS = 200_000
MOST_LABELS = 500


@dataclass(frozen=True)
class Tokens:
    """The tokens of a language model's rows, without special ones and padding.

    Attributes:
        train: Those of the training rows, one after another: `(tokens,)` int.
        judged: Those of the rows that the model is judged on.
        vocabulary_size: How many different ones the tokenizer has.
    """

    train: np.ndarray
    judged: np.ndarray
    vocabulary_size: int


@dataclass(frozen=True)
class Rows:
    """What a baseline learns from, and is scored on; `notes` is added to."""

    parts: Mapping[str, Table]
    split: str
    label_spec: Mapping[str, Any]
    seed: int
    tokens: Tokens | None
    notes: list[str] = field(default_factory=list)

    @property
    def train(self) -> Table:
        """The training rows."""
        return self.parts["train"]

    @property
    def test(self) -> Table:
        """The rows that are judged."""
        return self.parts[self.split]

    def sampled(self, part: str, columns: Sequence[str], most: int = MOST_ROWS) -> Table:
        """Rows of a part drawn at random, as many as can be read in time, and a note where that is not all."""
        table = self.parts[part]
        characters = sum(pc.sum(pc.utf8_length(table.rows[name])).as_py() or 0 for name in columns)
        share = min(1.0, most / len(table), MOST_CHARACTERS / max(characters, 1))
        if share == 1:
            return table
        count = max(1, int(share * len(table)))
        self.notes.append(f"computed with {count:,} of {len(table):,} {part} rows, drawn at random")
        return table.take(np.sort(np.random.default_rng(self.seed).permutation(len(table))[:count]))


def texts(table: Table) -> list[str]:
    """The texts of each row as one."""
    columns = [table.texts(name) for name in text_columns(table)]
    return [" ".join(row) for row in zip(*columns, strict=True)]


def text_columns(table: Table) -> list[str]:
    """The columns of one text, or of two."""
    return [name for name in ("text", "text_pair") if name in table.names()]


def with_labels(rows: Rows, count: int) -> tuple[Table, Table]:
    """Training and judged rows for so many labels."""
    columns = text_columns(rows.train)
    return rows.sampled("train", columns, most_rows(count)), rows.sampled(rows.split, columns)


def most_rows(num_labels: int) -> int:
    """How many rows can be learned from in time.

    Raises:
        DataError: There are so many labels that no number of rows is enough for them.
    """
    if num_labels > MOST_LABELS:
        raise DataError(f"There are {num_labels:,} labels; it is computed for {MOST_LABELS} at most, to stay quick.")
    return min(MOST_ROWS, MOST_ROW_LABELS // num_labels)


def indicators(table: Table, labels: Sequence[str]) -> np.ndarray:
    """1 for each label that a row has: `(rows, labels)`."""
    ids = {label: i for i, label in enumerate(labels)}
    given = np.zeros((len(table), len(labels)), int)
    for index, row in enumerate(table.texts("label")):
        given[index, [ids[label] for label in row]] = 1
    return given


def numbers(table: Table) -> np.ndarray:
    """The true number of each row."""
    return table.rows["label"].to_numpy().astype(np.float64)


def spans(table: Table) -> list[list[Span]]:
    """The true entities of each row: start, end and type."""
    return [[(one["start"], one["end"], one["label"]) for one in row] for row in table.texts("spans")]


def gold(table: Table) -> list[list[str]]:
    """The true answers to each question."""
    return [[answer["text"] for answer in row] for row in table.texts("answers")]
