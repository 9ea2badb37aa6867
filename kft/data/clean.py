"""Canonical columns made clean: text is text, targets are there, and what looks wrong is counted."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

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
from kft.data.targets import (
    INTEGER,
    label_column,
    label_reading,
    labels_column,
    labels_reading,
    number_column,
    refuse_missing,
)
from kft.errors import DataError, did_you_mean

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
        f"{table.source}: {_rows(int(is_rare.sum()))} of {len(table):,} dropped (min_class_rows={fewest}), of "
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
