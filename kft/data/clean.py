"""Canonical columns made clean: text is text, targets are there, and what looks wrong is counted."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kft.data.classes import listed_names, row_count
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
from kft.data.targets import (
    label_column,
    label_reading,
    labels_column,
    labels_reading,
    number_column,
    refuse_missing,
)
from kft.errors import DataError

LONG_CHARACTERS = 20_000
MOST_SPELLINGS = 5
"""Pairs of labels nearly alike that are named."""


def clean(table: Table, wanted: Sequence[Column], readings: Mapping[str, Any] | None = None) -> Table:
    """Checks every value of a canonical table and gives each column its one type.

    Args:
        table: As from `canonical`; columns of `wanted` that it lacks are passed over.
        wanted: The columns of the task.
        readings: Those of the cleaned training rows, by which every other part is read; None for training rows.

    Returns:
        The same rows: texts and labels as `large_string`, numbers as float64, lists as in `kft.data.nested`, none
        missing. Notes count blank texts, texts past 20,000 characters, repeated rows, equal inputs with unequal
        targets, and labels that are nearly alike. The readings of the training rows stand in it.

    Raises:
        BadRows: Texts or targets that are missing, or not of their kind.
        DataError: A column that holds another kind of values throughout.
    """
    wanted = [column for column in wanted if column.name in table.names()]
    rows, notes, found = table.rows, [], dict(readings or {})
    for column in wanted:
        if column.kind in READINGS:
            infer, convert = READINGS[column.kind]
            given = found.get(column.name)
            values = convert(table, column.name, given)
            if given is None:
                found[column.name] = infer(table, column.name)
                notes += _spelling_notes(table, column.name, values)
        else:
            values = CONVERSIONS[column.kind](table, column.name)
        rows = rows.set_column(rows.column_names.index(column.name), column.name, values)
    cleaned = replace(table, rows=rows, readings=found)
    inputs = [column.name for column in wanted if column.is_input]
    targets = [column.name for column in wanted if not column.is_input]
    for column in wanted:
        if column.kind == "text":
            notes += _text_notes(cleaned, column.name)
    return cleaned.with_notes(*notes, *_repeat_notes(cleaned, inputs, targets))


def _text_column(table: Table, name: str) -> pa.ChunkedArray:
    column = table.rows[name]
    if pa.types.is_nested(column.type):
        raise DataError(f"{table.where(0)}: column {name!r} holds {column.type}; expected one text per row.")
    refuse_missing(table, name, pc.is_null(column))
    return column.cast(pa.large_string())


def _addition_column(table: Table, name: str) -> pa.ChunkedArray:
    """Texts that may be missing or empty."""
    column = table.rows[name]
    if pa.types.is_nested(column.type):
        raise DataError(f"{table.where(0)}: column {name!r} holds {column.type}; expected one text per row.")
    return pc.fill_null(column.cast(pa.large_string()), "")


def _spelling_notes(table: Table, name: str, values: pa.ChunkedArray) -> list[str]:
    """Notes on labels that became one, and on labels that stay apart though people may not tell them apart."""
    is_set = pa.types.is_nested(values.type)
    labels = pc.unique(pc.list_flatten(values) if is_set else values).to_pylist()
    notes = []
    if not is_set:
        before = pc.unique(pc.utf8_trim_whitespace(table.rows[name].cast(pa.large_string()))).to_pylist()
        joined = [label for label in before if label not in set(labels)]
        if len(before) > len(labels) and joined:
            notes.append(
                f"{table.source}: {len(before):,} spellings of the {name} are read as {len(labels):,} labels: "
                f"{listed_names(joined)} stand for others that are written without fraction or capitals."
            )
    forms: dict[str, str] = {}
    for label in sorted(labels):
        form = "".join(unicodedata.normalize("NFKC", label).casefold().split())
        other = forms.setdefault(form, label)
        if other != label:
            notes.append(
                f"{table.source}: the labels {_codes(other)} and {_codes(label)} differ only in case, white space or "
                "Unicode form; they are different classes. Write them alike if they are the same."
            )
    more = [f"{table.source}: there are more labels nearly alike."] if len(notes) > MOST_SPELLINGS else []
    return [*notes[:MOST_SPELLINGS], *more]


def _codes(label: str) -> str:
    """A label in quotes; with its code points where it has others than ASCII's, which look alike in several forms."""
    codes = "" if label.isascii() else f" ({' '.join(f'U+{ord(letter):04X}' for letter in label[:20])})"
    return f"{label!r}{codes}"


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
            found.append(f"{first}: the {name} is {what} ({row_count(count)} of {len(table):,} like this).")
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
            f"({row_count(repeated)} of {len(table):,} repeat another)."
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
            f"({row_count(count)} of {len(table):,} contradict another)."
        )
    return notes


def _row(table: Table, index: int) -> str:
    return table.where(index).removeprefix(f"{table.source}, ")


READINGS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "label": (label_reading, label_column),
    "labels": (labels_reading, labels_column),
}
"""Kinds whose values are read by what the training rows hold: what infers that, and the conversion that it is given."""
CONVERSIONS = {
    "text": _text_column,
    "addition": _addition_column,
    "words": words_column,
    "marks": spans_column,
    "choices": choices_column,
    "messages": messages_column,
    "number": number_column,
    "tags": tags_column,
    "spans": spans_column,
    "answers": answers_column,
    "events": events_column,
    "response": response_column,
}
