"""Label and number columns as the one type that the rest relies on."""

import pyarrow as pa
import pyarrow.compute as pc

from kft.data.table import Table
from kft.errors import DataError

INTEGER = r"^-?[0-9]+$"
SIMPLE_NUMBER = r"^-?[0-9]+(\.[0-9]+)?$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def label_column(table: Table, name: str) -> pa.ChunkedArray:
    """Labels as text: stripped, truth values as `true` and `false`, whole numbers without a fraction.

    `1.0` becomes `1` where every label is a number, whether the source stored numbers or text.

    Returns:
        `(rows,)` large_string without nulls or empty labels.

    Raises:
        DataError: If a label is missing, or is a list or another nested value.
    """
    column = table.rows[name]
    if pa.types.is_nested(column.type):
        raise DataError(
            f"{table.where(0)}: column {name!r} holds {column.type}; expected one label per row, as text or number."
        )
    labels = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    missing = pc.or_kleene(pc.is_null(labels), pc.equal(labels, ""))
    if pa.types.is_floating(column.type):
        missing = pc.or_kleene(missing, pc.is_nan(column))
    refuse_missing(table, name, missing)
    if pc.all(pc.match_substring_regex(labels, SIMPLE_NUMBER)).as_py():
        labels = pc.replace_substring_regex(labels, r"\.0+$", "")
    return labels


def labels_column(table: Table, name: str) -> pa.ChunkedArray:
    """Sets of labels: lists as they are, or text cut at `;`, or where no row has one at `|`, or else at `,`.

    Labels are stripped, each is there once, and they stand in the order of code points. An empty cell or list, or a
    missing one, is a row without labels.

    Returns:
        `(rows,)` large_list of large_string without nulls.

    Raises:
        DataError: If the column holds neither lists of text or numbers, nor text.
    """
    column = table.rows[name]
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if pa.types.is_nested(column.type) and (not is_list or pa.types.is_nested(column.type.value_type)):
        raise DataError(
            f"{table.where(0)}: column {name!r} holds {column.type}; expected lists of labels, or text such as 'a;b'."
        )
    if is_list:
        cells = column.to_pylist()
    else:
        texts = [text or "" for text in column.cast(pa.large_string()).to_pylist()]
        mark = next((mark for mark in ";|" if any(mark in text for text in texts)), ",")
        cells = [text.split(mark) for text in texts]
    sets = [sorted({str(label).strip() for label in cell or [] if label is not None} - {""}) for cell in cells]
    return pa.chunked_array([pa.array(sets, pa.large_list(pa.large_string()))])


def number_column(table: Table, name: str) -> pa.ChunkedArray:
    """Numbers as float64, all finite; text is read with a decimal point.

    Returns:
        `(rows,)` double without nulls.

    Raises:
        DataError: At the first value that is missing, no number, or not finite.
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
        DataError: Naming the first row and how many there are.
    """
    first = pc.index(missing, True).as_py()
    if first >= 0:
        count = pc.sum(missing).as_py()
        raise DataError(
            f"{table.where(first)}: the {name} is missing ({count:,} of {len(table):,} rows have none); "
            "fill it in or remove such rows."
        )


def _refuse_unlike_number(table: Table, name: str, good: pa.ChunkedArray) -> None:
    first = pc.index(good, False).as_py()
    if first >= 0:
        value = table.rows[name][first].as_py()
        raise DataError(
            f"{table.where(first)}: the {name} is {value!r}; expected a finite number such as 3 or 0.5, "
            "written with a decimal point."
        )
