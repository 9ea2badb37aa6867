"""Columns made anew cell by cell, and what cells may hold: lists as text, labels, whole numbers."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from kft.data import listed
from kft.data.faults import Faults
from kft.data.mapped import BLOCK_ROWS, memory_mapped
from kft.data.table import ROW, Table
from kft.errors import DataError


def made_anew(
    table: Table, name: str, convert: Callable[..., Any], kind: pa.DataType, *, beside: Sequence[str] = ()
) -> pa.ChunkedArray:
    """A column with each cell replaced by what `convert` makes of it; a long one lies on disk.

    Args:
        table: The rows.
        name: The column.
        convert: From a cell, and the row's cells of `beside`, to the new cell. Its ValueError becomes a refusal of the
            row.
        kind: The type of the new column.
        beside: Further columns that `convert` needs.

    Raises:
        BadRows: The rows that `convert` refuses, with the place of the first.
    """
    faults = Faults(len(table))

    def batches() -> Iterator[pa.RecordBatch]:
        index = 0
        for batch in table.rows.select([name, *beside, ROW]).to_batches(max_chunksize=BLOCK_ROWS):
            try:
                *columns, numbers = (column.to_pylist() for column in batch.columns)
            except (OverflowError, ValueError) as error:  # such as dates that Python has not
                raise DataError(f"{table.source}: column {name!r} holds values that cannot be read: {error}.") from None
            cells = []
            for number, *values in zip(numbers, *columns, strict=True):
                try:
                    cells.append(convert(*values))
                except ValueError as error:
                    faults.add(index, f"{table.source}, row {number}: column {name!r}: {error}")
                    cells.append(None)
                index += 1
            yield pa.record_batch([pa.array(cells, kind)], names=[name])

    made = memory_mapped(batches(), table.source)[name] if len(table) else pa.chunked_array([], kind)
    faults.refuse()
    return made


def in_lists(
    convert: Callable[[Any], list[str]], table: Table, name: str, kinds: tuple[type, ...]
) -> Callable[[Any], list[str]]:
    """The same conversion, of cells that are read as lists first where the column holds lists as text.

    Decided once for a column: a cell of it that is no list is then refused, and not cut at spaces.
    """
    if not listed.spells_lists(table.rows[name], kinds):
        return convert

    def of_text(cell: Any) -> list[str]:
        if cell is None or not str(cell).strip():
            return convert(cell)
        try:
            return convert(listed.parse(cell))
        except ValueError as error:
            raise ValueError(f"{shown(cell)} is not read as a list, as other rows are: {error}.") from None

    return of_text


def shown(value: Any, width: int = 60) -> str:
    """A value as messages quote it, cut where it is long.

    >>> shown("a" * 100, 10)
    "'aaaaaaaa…"
    """
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def parsed(cell: Any, form: str) -> Any:
    """What a cell holds; text that begins as a list or a dict is read as one, see `kft.data.listed`.

    Raises:
        ValueError: It is none to its end; says that `form` was expected.
    """
    if not isinstance(cell, str) or (opening := cell.lstrip()[:1]) not in listed.CLOSING:
        return cell
    if opening == "(":
        return listed.parse_tuple(cell)
    try:
        return listed.parse(cell)
    except ValueError as error:
        raise ValueError(f"{shown(cell)} is no whole list ({error}); expected {form}.") from None


def whole_number(value: Any) -> int | None:
    """A whole number, also one stored as 3.0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else None


def label_text(value: Any) -> str | None:
    """A label as text, stripped; whole numbers have no fraction. None for what is no label.

    >>> label_text(1.0), label_text(" B-PER"), label_text(True), label_text([])
    ('1', 'B-PER', 'true', None)
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int | float):
        whole = whole_number(value)
        return str(value if whole is None else whole)
    return value.strip() if isinstance(value, str) else None
