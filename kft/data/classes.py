"""The classes of rows with labels: their names and order, those with few rows, those that training never saw."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kft.data.table import Table
from kft.data.targets import (
    INTEGER,
)
from kft.errors import DataError, did_you_mean


def label_names(table: Table, column: str = "label") -> list[str]:
    """The classes of a cleaned table in an order that does not depend on the rows'.

    The source's own order comes first; else integers stand in numeric order, anything else in the order of code points.
    """
    names = pc.unique(table.rows[column]).to_pylist()
    if table.labels and set(names) <= set(table.labels):
        return [name for name in table.labels if name in names]
    if all(re.match(INTEGER, name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def check_labels(train: Table, others: Mapping[str, Table], names: Sequence[str]) -> None:
    """Checks that there are classes to tell apart, and that the other tables have no more of them.

    Args:
        train: Cleaned training rows with a `label`.
        others: Cleaned tables by role, as `validation` and `test`.
        names: The classes of the training rows, as from `label_names`.

    Raises:
        DataError: For fewer than two classes, or a label unknown in training.
    """
    if len(names) < 2:
        raise DataError(
            f"{train.source}: all {len(train):,} rows have the label {names[0]!r}; expected at least two "
            "classes. Add rows of another class, or choose another label column."
        )
    for role, table in others.items():
        check_known(table, names, role)


def check_repeated(table: Table, name: str, *, is_guess: bool) -> None:
    """Checks that labels are classes, which several rows have, and not texts or numbers of the rows.

    Args:
        table: Cleaned rows with a `label`, before they are split.
        name: What the user calls that column.
        is_guess: Whether nobody has said that it holds labels, so that a few repeats do not do.

    Raises:
        DataError: Each row has a label of its own; or, of a guessed column, most rows have.
    """
    counts = [count["counts"] for count in pc.value_counts(table.rows["label"]).to_pylist()]
    single = counts.count(1)
    if single < 2 or single <= (len(table) / 2 if is_guess else len(table) - 1):
        return
    example = str(table.rows["label"][0].as_py())
    example = example if len(example) <= 40 else example[:39] + "…"
    raise DataError(
        f"{table.source}: {single:,} of {len(table):,} rows have a label in column {name!r} that no other row has, as "
        f"{example!r}: no class can be learnt from one row. If it is a text to be written, ask for task=generate; if a "
        "number, for task=regress; else choose the column of the labels: label=… (--label COLUMN)."
    )


def rare_classes(table: Table, fewest: int) -> dict[str, int]:
    """The number of rows of each class that has fewer than `fewest`, in the order of `label_names`."""
    counts = {count["values"]: count["counts"] for count in pc.value_counts(table.rows["label"]).to_pylist()}
    return {name: counts[name] for name in label_names(table) if counts[name] < fewest}


def single_row_notes(train: Table) -> list[str]:
    """A note that names the classes of the training rows that have one row; none where there are none."""
    rare = rare_classes(train, 2)
    if not rare:
        return []
    return [
        f"{train.source}: {_classes(len(rare))} with a single training row, which is hardly learnt: "
        f"{listed_names(list(rare))}. min_class_rows=2 (--min-class-rows 2) drops the rows of such classes."
    ]


def without_rare(table: Table, rare: Mapping[str, int], fewest: int) -> Table:
    """The rows whose class is none of `rare`, with a note that names those and counts their rows."""
    is_rare = pc.is_in(table.rows["label"], value_set=pa.array(list(rare), pa.large_string())).to_numpy()
    if not is_rare.any():
        return table
    named = [f"{name!r} ({count:,})" for name, count in rare.items()]
    note = (
        f"{table.source}: {row_count(int(is_rare.sum()))} of {len(table):,} dropped (min_class_rows={fewest}), of "
        f"{_classes(len(rare))} with fewer training rows: {_cut(named)}."
    )
    return table.take(np.flatnonzero(~is_rare)).with_notes(note)


def check_known(table: Table, names: Sequence[str], role: str) -> None:
    """Checks that every label of a table is one of `names`.

    Raises:
        DataError: For a label unknown in training, with its file and row.
    """
    known = pc.is_in(table.rows["label"], value_set=pa.array(names, pa.large_string()))
    index = pc.index(known, False).as_py()
    if index >= 0:
        label = table.rows["label"][index].as_py()
        raise DataError(
            f"{table.where(index)}: label {label!r} of the {role} data is unknown in the training data, "
            f"which has {listed_names(names)}.{did_you_mean(label, names)}"
        )


def listed_names(names: Sequence[str], most: int = 10) -> str:
    """Names in quotes, the first ones of many.

    >>> listed_names(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    return _cut([repr(name if len(name) <= 60 else name[:59] + "…") for name in names], most)


def _cut(parts: Sequence[str], most: int = 10) -> str:
    more = f" and {len(parts) - most:,} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more


def _classes(count: int) -> str:
    return f"{count:,} class" if count == 1 else f"{count:,} classes"


def row_count(count: int) -> str:
    """So many rows in words.

    >>> row_count(1), row_count(2000)
    ('1 row', '2,000 rows')
    """
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
