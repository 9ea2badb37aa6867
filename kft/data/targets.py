"""Label and number columns as the one type that the rest relies on."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kft.data import listed
from kft.data.faults import BadRows, Faults
from kft.data.table import Table
from kft.errors import DataError

INTEGER = r"^-?[0-9]+$"
SIMPLE_NUMBER = r"^-?[0-9]+(\.[0-9]+)?$"
WHOLE = r"^(-?[0-9]+)\.0+$"
TRUTH = r"^(?i:true|false)$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
BITS = ("0", "1", "0.0", "1.0", "True", "False", "true", "false")
ELEMENTS = (str, int, float)
"""What a list of labels that is written as text begins with."""

Reading = dict[str, Any]
"""What was inferred from the values of a column of the training rows, as JSON: every other part is read the same."""


def label_column(table: Table, name: str, reading: Reading | None = None) -> pa.ChunkedArray:
    """Labels as text: stripped, truth values as `true` and `false`, whole numbers without a fraction.

    `1.0` becomes `1` where every label of the training rows is a number, whether the source stored numbers or text.

    Args:
        table: The rows.
        name: The column.
        reading: How it is read, as `label_reading` found it in the training rows; None for training rows themselves.

    Returns:
        `(rows,)` large_string without nulls or empty labels.

    Raises:
        BadRows: Labels that are missing.
        DataError: The labels are lists or other nested values.
    """
    column = table.rows[name]
    if pa.types.is_nested(column.type):
        raise DataError(
            f"{table.where(0)}: column {name!r} holds {column.type}; expected one label per row, as text or number."
        )
    labels = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    refuse_missing(table, name, _is_missing(column, labels))
    return _spelled(labels, label_reading(table, name) if reading is None else reading)


def label_reading(table: Table, name: str) -> Reading:
    """How a column of labels is to be read: whether all are numbers, so that those without a fraction lose its zeros.

    >>> from kft.readers.formats import read
    >>> label_reading(read({"label": ["1.0", "2"]}), "label"), label_reading(read({"label": ["1.0", "b"]}), "label")
    ({'numbers': True}, {'numbers': False})
    """
    column = table.rows[name]
    if pa.types.is_nested(column.type):
        return {"numbers": False}
    labels = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    return {"numbers": _are_numbers(labels.filter(pc.invert(_is_missing(column, labels))))}


def reading_of_names(names: Sequence[str]) -> Reading:
    """The reading of labels that gives names as these, for a run that has recorded none.

    >>> reading_of_names(["1", "2"]), reading_of_names(["1.0", "2.0", "b"])
    ({'numbers': True}, {'numbers': False})
    """
    return {"numbers": _are_numbers(pa.chunked_array([pa.array(names, pa.large_string())]))}


def labels_column(table: Table, name: str, reading: Reading | None = None) -> pa.ChunkedArray:
    """Sets of labels: lists, lists written as text, or text cut at the separator of the training rows.

    Labels are written as those of `label_column`, each is there once, and they stand in the order of code points. An
    empty cell or list, or a missing one, is a row without labels.

    Args:
        table: The rows.
        name: The column.
        reading: How it is read, as `labels_reading` found it in the training rows; None for training rows themselves.

    Returns:
        `(rows,)` large_list of large_string without nulls.

    Raises:
        BadRows: Cells that are no list where others are lists written as text.
        DataError: The column holds neither lists of text or numbers, nor text; or vectors of 0 and 1.
    """
    cells = _cells(table, name, (reading or {}).get("separator"))
    if reading is None:
        _refuse_many_hot(table, name, cells)
        reading = {"numbers": _are_numbers(_flat(cells))}
    flat = _spelled(_flat(cells), reading).to_pylist()
    ends = np.cumsum([0, *map(len, cells)])
    sets = [sorted({*flat[start:end]} - {""}) for start, end in itertools.pairwise(ends)]
    return pa.chunked_array([pa.array(sets, pa.large_list(pa.large_string()))])


def labels_reading(table: Table, name: str) -> Reading:
    """How a column of sets of labels is to be read: the separator of text, and whether all labels are numbers."""
    column = table.rows[name]
    is_text = not pa.types.is_nested(column.type) and not listed.spells_lists(column, ELEMENTS)
    mark = _separator(column) if is_text else None
    return {"separator": mark, "numbers": _are_numbers(_flat(_cells(table, name, mark)))}


def _cells(table: Table, name: str, separator: str | None) -> list[list[str]]:
    """The labels of each row as text, stripped; empty ones are left in."""
    column = table.rows[name]
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if pa.types.is_nested(column.type) and (not is_list or pa.types.is_nested(column.type.value_type)):
        raise DataError(
            f"{table.where(0)}: column {name!r} holds {column.type}; expected lists of labels, or text such as 'a;b'."
        )
    if is_list:
        return [[_as_text(label) for label in cell or []] for cell in column.to_pylist()]
    if listed.spells_lists(column, ELEMENTS):
        return _parsed(table, name)
    mark = separator or _separator(column)
    texts = column.cast(pa.large_string()).to_pylist()
    return [[label.strip() for label in (text or "").split(mark)] for text in texts]


def _separator(column: pa.ChunkedArray) -> str:
    texts = column.cast(pa.large_string())
    return next((mark for mark in ";|" if pc.any(pc.match_substring(texts, mark)).as_py()), ",")


def _parsed(table: Table, name: str) -> list[list[str]]:
    """The labels of lists that are written as text."""
    cells, faults = [], Faults(len(table))
    for index, text in enumerate(table.texts(name)):
        labels: Any = []
        if text is not None and text.strip():
            try:
                labels = listed.parse(text)
            except ValueError as error:
                faults.add(index, f"{table.where(index)}: the {name} {text[:60]!r} is no list, as others are: {error}.")
        if not isinstance(labels, list) or any(isinstance(label, list | dict) for label in labels):
            faults.add(index, f"{table.where(index)}: the {name} is {text[:60]!r}; expected a list of labels.")
            labels = []
        cells.append([_as_text(label) for label in labels])
    faults.refuse()
    return cells


def _as_text(label: Any) -> str:
    return "" if label is None or label != label else str(label).strip()


def _flat(cells: list[list[str]]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([label for cell in cells for label in cell], pa.large_string())])


def _refuse_many_hot(table: Table, name: str, cells: list[list[str]]) -> None:
    """Refuses vectors of 0 and 1, which as sets of names would all be {0, 1}."""
    found = [cell for cell in cells if any(cell)]
    width = len(found[0]) if found else 0
    if width < 2 or any(len(cell) != width or not set(cell) <= set(BITS) for cell in found):
        return
    first = next(index for index, cell in enumerate(cells) if any(cell))
    raise DataError(
        f"{table.where(first)}: the {name} is a vector of {width} numbers 0 and 1, as in every row; expected the names "
        f"of the labels that a row has. Write them in its place: [n for n, bit in zip(names, row[{name!r}]) if bit]."
    )


def _is_missing(column: pa.ChunkedArray, labels: pa.ChunkedArray) -> pa.ChunkedArray:
    missing = pc.or_kleene(pc.is_null(labels), pc.equal(labels, ""))
    if pa.types.is_floating(column.type):
        missing = pc.or_kleene(missing, pc.is_nan(column))
    return pc.fill_null(missing, True)


def _are_numbers(labels: pa.ChunkedArray) -> bool:
    labels = labels.filter(pc.not_equal(labels, ""))
    return len(labels) > 0 and bool(pc.all(pc.match_substring_regex(labels, SIMPLE_NUMBER)).as_py())


def _spelled(labels: pa.ChunkedArray, reading: Reading) -> pa.ChunkedArray:
    """Labels in one spelling, whatever wrote them: pandas writes truth values as `True`, JSON as `true`."""
    labels = pc.if_else(pc.match_substring_regex(labels, TRUTH), pc.utf8_lower(labels), labels)
    return pc.replace_substring_regex(labels, WHOLE, r"\1") if reading["numbers"] else labels


def number_column(table: Table, name: str) -> pa.ChunkedArray:
    """Numbers as float64, all finite; text is read with a decimal point.

    Returns:
        `(rows,)` double without nulls.

    Raises:
        BadRows: Values that are missing, no number, or not finite.
        DataError: The column holds lists or other nested values.
    """
    column = table.rows[name]
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        refuse_missing(table, name, pc.is_null(column))
        numbers = pc.cast(column, pa.float64(), safe=False)
    else:
        if pa.types.is_nested(kind):
            raise DataError(f"{table.where(0)}: column {name!r} holds {kind}; expected one number per row.")
        texts = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
        refuse_missing(table, name, pc.or_kleene(pc.is_null(texts), pc.equal(texts, "")))
        _refuse_unlike_number(table, name, pc.match_substring_regex(texts, NUMBER))
        numbers = pc.cast(pc.replace_substring_regex(texts, r"^\+", ""), pa.float64())
    _refuse_unlike_number(table, name, pc.is_finite(numbers))
    return numbers


def refuse_missing(table: Table, name: str, missing: pa.ChunkedArray) -> None:
    """Raises for the first row that `missing` marks.

    Args:
        table: The rows.
        name: The column, for the message.
        missing: `(rows,)` bool.

    Raises:
        BadRows: Naming the first row and how many there are.
    """
    rows = np.flatnonzero(missing.to_numpy())
    if len(rows):
        raise BadRows(
            f"{table.where(rows[0])}: the {name} is missing ({len(rows):,} of {len(table):,} rows have none)",
            rows,
            "; fill it in or remove such rows.",
        )


def _refuse_unlike_number(table: Table, name: str, good: pa.ChunkedArray) -> None:
    rows = np.flatnonzero(~good.to_numpy())
    if len(rows):
        value = table.rows[name][int(rows[0])].as_py()
        count = f" ({len(rows):,} of {len(table):,} rows have none)" if len(rows) > 1 else ""
        raise BadRows(
            f"{table.where(rows[0])}: the {name} is {value!r}; expected a finite number such as 3 or 0.5, "
            f"written with a decimal point{count}.",
            rows,
        )
