"""Canonical columns made clean: text is text, targets are there, and what looks wrong is counted."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kft.data.columns import Column
from kft.data.hashes import row_hashes
from kft.data.messages import BLANK, messages_column, response_column
from kft.data.nested import (
    answers_column,
    choices_column,
    events_column,
    spans_column,
    tags_column,
    words_column,
)
from kft.data.table import Table
from kft.data.targets import INTEGER, label_column, labels_column, number_column, refuse_missing
from kft.errors import DataError, did_you_mean

LONG_CHARACTERS = 20_000


def clean(table: Table, wanted: Sequence[Column]) -> Table:
    """Checks every value of a canonical table and gives each column its one type.

    Args:
        table: As from `canonical`; columns of `wanted` that it lacks are passed over.
        wanted: The columns of the task.

    Returns:
        The same rows: texts and labels as `large_string`, numbers as float64, lists as in `kft.data.nested`, none
        missing. Notes count blank texts, texts past 20,000 characters, repeated rows, and equal inputs with unequal
        targets.

    Raises:
        DataError: At the first missing text or target, NUL, or target that is not of its kind.
    """
    wanted = [column for column in wanted if column.name in table.names()]
    rows, notes = table.rows, []
    for column in wanted:
        values = CONVERSIONS[column.kind](table, column.name)
        rows = rows.set_column(rows.column_names.index(column.name), column.name, values)
    cleaned = replace(table, rows=rows)
    inputs = [column.name for column in wanted if column.is_input]
    targets = [column.name for column in wanted if not column.is_input]
    for column in wanted:
        if column.kind == "text":
            notes += _text_notes(cleaned, column.name)
    return cleaned.with_notes(*notes, *_repeat_notes(cleaned, inputs, targets))


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
    """Checks that the classes can be learned, and that the other tables have no more of them.

    Args:
        train: Cleaned training rows with a `label`.
        others: Cleaned tables by role, as `validation` and `test`.
        names: The classes of the training rows, as from `label_names`.

    Raises:
        DataError: For fewer than two classes, a class with a single row, or a label unknown in training.
    """
    if len(names) < 2:
        raise DataError(
            f"{train.source}: all {len(train):,} rows have the label {names[0]!r}; expected at least two "
            "classes. Add rows of another class, or choose another label column."
        )
    for count in pc.value_counts(train.rows["label"]).to_pylist():
        if count["counts"] == 1:
            index = pc.index(train.rows["label"], pa.scalar(count["values"], pa.large_string())).as_py()
            raise DataError(
                f"{train.where(index)}: the only row of class {count['values']!r}; expected at least two "
                "rows of each class. Add rows, or correct or remove this one."
            )
    for role, table in others.items():
        check_known(table, names, role)


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
            f"which has {_listed(names)}.{did_you_mean(label, names)}"
        )


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _text_column(table: Table, name: str) -> pa.ChunkedArray:
    column = table.rows[name]
    if pa.types.is_nested(column.type):
        raise DataError(f"{table.where(0)}: column {name!r} holds {column.type}; expected one text per row.")
    refuse_missing(table, name, pc.is_null(column))
    return column.cast(pa.large_string())


def _text_notes(table: Table, name: str) -> list[str]:
    texts = table.rows[name]
    blank = pc.match_substring_regex(texts, BLANK)
    long = pc.greater(pc.utf8_length(texts), LONG_CHARACTERS)
    found = []
    for marked, what in (
        (blank, "empty or only white space"),
        (long, f"over {LONG_CHARACTERS:,} characters long"),
        (pc.match_substring(texts, "\0"), "with NUL characters, which are left out"),
    ):
        count = pc.sum(marked).as_py()
        if count:
            first = table.where(pc.index(marked, True).as_py())
            found.append(f"{first}: the {name} is {what} ({_rows(count)} of {len(table):,} like this).")
    return found


def _repeat_notes(table: Table, inputs: Sequence[str], targets: Sequence[str]) -> list[str]:
    """Notes on rows whose inputs were met before, with the same targets or with others."""
    if not inputs:
        return []
    by_text = row_hashes(table, inputs)
    by_row = row_hashes(table, [*inputs, *targets]) if targets else by_text
    notes = []
    repeated = len(table) - len(np.unique(by_row))
    if repeated:
        order = np.argsort(by_row, kind="stable")
        at = np.flatnonzero(by_row[order][1:] == by_row[order][:-1])[0]
        notes.append(
            f"{table.where(order[at + 1])}: repeats {_row(table, order[at])} exactly "
            f"({_rows(repeated)} of {len(table):,} repeat another)."
        )
    order = np.lexsort((by_row, by_text))
    clash = (by_text[order][1:] == by_text[order][:-1]) & (by_row[order][1:] != by_row[order][:-1])
    if clash.any():
        at = np.flatnonzero(clash)[0]
        first, second = sorted(order[at : at + 2])
        count = int(np.isin(by_text, by_text[order][1:][clash]).sum())
        other = "other" if targets[0].endswith("s") else "another"
        notes.append(
            f"{table.where(second)}: has the text of {_row(table, first)} but {other} {' or '.join(targets)} "
            f"({_rows(count)} of {len(table):,} contradict another)."
        )
    return notes


def _row(table: Table, index: int) -> str:
    return table.where(index).removeprefix(f"{table.source}, ")


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


CONVERSIONS = {
    "text": _text_column,
    "words": words_column,
    "marks": spans_column,
    "choices": choices_column,
    "messages": messages_column,
    "label": label_column,
    "labels": labels_column,
    "number": number_column,
    "tags": tags_column,
    "spans": spans_column,
    "answers": answers_column,
    "events": events_column,
    "response": response_column,
}
