"""CSV and TSV files as record batches of text columns."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from kft.data.mapped import blocks
from kft.data.table import ROW, UNNAMED
from kft.errors import DataError
from kft.readers.lines import lines

FIELD_CHARACTERS = 16 * 1024 * 1024
"""The longest field; past it a quote was left open, and the rest of the file must not fill the memory."""


@dataclass(frozen=True)
class Dialect:
    """How fields are told apart.

    Attributes:
        delimiter: What stands between fields.
        quoted: Whether fields in quotes may hold delimiters and line breaks (RFC 4180).
        rule: What to know about quotes when a row has too many or too few fields.
    """

    delimiter: str
    quoted: bool
    rule: str

    def reader(self, path: Path, source: str) -> Any:
        """A `csv.reader` over the file that refuses what RFC 4180 does not allow."""
        csv.field_size_limit(FIELD_CHARACTERS)
        text = lines(path, source)
        if self.quoted:
            return csv.reader(text, delimiter=self.delimiter, strict=True)
        return csv.reader(text, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)


CSV = Dialect(",", True, "a field that holds a comma must stand in quotes")
QUOTED_TSV = Dialect("\t", True, "quotes enclose fields in this file")
PLAIN_TSV = Dialect("\t", False, "quotes are ordinary characters in this file")


def csv_batches(path: Path, source: str) -> tuple[Iterator[pa.RecordBatch], tuple[str, ...]]:
    """The rows of a comma-separated file with a header, and notes."""
    return _batches(path, source, CSV), ()


def tsv_batches(path: Path, source: str) -> tuple[Iterator[pa.RecordBatch], tuple[str, ...]]:
    """The rows of a tab-separated file with a header, and a note on how its quotes were taken."""
    dialect, notes = tsv_dialect(path, source)
    return _batches(path, source, dialect), notes


def tsv_dialect(path: Path, source: str) -> tuple[Dialect, tuple[str, ...]]:
    """Whether the quotes of a TSV enclose fields, as Excel writes them, or are text, as in GLUE.

    Decided once for the whole file. Quotes enclose fields if every field that starts with one is a
    well-formed quoted field and all rows then have as many fields as the header. When some quoted
    field would hold a tab or a line break, the file must also be ragged without quoting: otherwise
    two stray quotes would swallow the rows between them.
    """
    starts_with_quote, regular = _plain_shape(path, source)
    if not starts_with_quote:
        return PLAIN_TSV, ()
    spans = _quoted_spans(path, source)
    if spans is None or (spans and regular):
        return PLAIN_TSV, (f"{source}: quotes are read as ordinary characters; they do not enclose whole fields.",)
    return QUOTED_TSV, (f"{source}: fields that start with a quote are read as quoted fields.",)


def _plain_shape(path: Path, source: str) -> tuple[bool, bool]:
    """Whether a field starts with a quote, and whether all rows read without quoting are equally wide."""
    starts_with_quote = False
    widths = set()
    for line in lines(path, source):
        if line.strip():
            widths.add(line.count("\t"))
            starts_with_quote = starts_with_quote or line.startswith('"') or '\t"' in line
    return starts_with_quote, len(widths) == 1


def _quoted_spans(path: Path, source: str) -> bool | None:
    """Whether a quoted field holds a tab or line break; None if the file is no well-formed quoted TSV."""
    width = None
    spans = False
    try:
        for row in QUOTED_TSV.reader(path, source):
            if not _blank(row, width):
                width = width or len(row)
                if len(row) != width:
                    return None
                spans = spans or any("\t" in field or "\n" in field or "\r" in field for field in row)
    except csv.Error:
        return None
    return spans


def column_names(names: Sequence[object], source: str) -> list[str]:
    """The names of a source's columns as text; one that is blank begins with `UNNAMED`.

    Raises:
        DataError: A name is there twice, is no Unicode text, or is kept for row numbers; names the positions.
    """
    found: dict[str, int] = {}
    for position, name in enumerate(map(str, names), 1):
        if name == ROW:
            raise DataError(f"{source}: the column name {ROW!r} is kept for row numbers; rename that column.")
        if not name.isprintable() and not _is_unicode(name):
            raise DataError(f"{source}: the name of column {position} is not Unicode text ({name!r}); rename it.")
        name = name if name.strip() else f"{UNNAMED}{position}"
        if name in found:
            raise DataError(
                f"{source}: columns {found[name]} and {position} are both named {name!r}; names must differ."
            )
        found[name] = position
    return list(found)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _batches(path: Path, source: str, dialect: Dialect) -> Iterator[pa.RecordBatch]:
    rows = _numbered(path, source, dialect)
    _, names, _ = next(rows, (0, None, 0))
    if names is None:
        raise DataError(f"{source}: is empty; expected a header row with the column names, then rows.")
    names = [name.strip() for name in names]
    _check_delimiter(names, source, dialect)
    names = column_names(names, source)
    for block in blocks(_regular(rows, names, source, dialect)):
        columns = zip(*(row for _, row in block), strict=True)
        arrays = [pa.array(column, pa.large_string()) for column in columns]
        arrays.append(pa.array([number for number, _ in block], pa.int64()))
        yield pa.record_batch(arrays, names=[*names, ROW])


def _numbered(path: Path, source: str, dialect: Dialect) -> Iterator[tuple[int, list[str], int]]:
    """`(line, fields, characters)` of each row that is not blank."""
    reader = dialect.reader(path, source)
    width = None
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(_quoting_message(error, f"{source}, row {number}")) from error
        if not _blank(row, width):
            width = width or len(row)
            yield number, row, sum(map(len, row))


def _blank(row: list[str], width: int | None) -> bool:
    """Whether a row is a blank line. In a file of one column, white space is a text."""
    return not row or (len(row) == 1 and width != 1 and not row[0].strip())


def _quoting_message(error: csv.Error, place: str) -> str:
    advice = 'Close the field with a quote, and write a quote inside it twice ("").'
    if "expected after" in str(error):
        return f"{place}: text follows the closing quote of a quoted field. {advice}"
    if "field limit" in str(error):
        return f"{place}: a field holds more than {FIELD_CHARACTERS:,} characters; is its quote closed? {advice}"
    return f"{place}: a quoted field opens here and is never closed. {advice}"


def _check_delimiter(names: list[str], source: str, dialect: Dialect) -> None:
    word, others = ("commas", ";\t") if dialect is CSV else ("tabs", ";,")
    if len(names) == 1 and any(other in names[0] for other in others):
        raise DataError(
            f"{source}: the header {names[0]!r} is one column; expected names with {word} between them. "
            f"Save the file with {word}, or name its format: .csv has commas, .tsv has tabs."
        )


def _regular(
    rows: Iterator[tuple[int, list[str], int]], names: list[str], source: str, dialect: Dialect
) -> Iterator[tuple[int, list[str], int]]:
    empty = True
    for number, row, size in rows:
        if len(row) != len(names):
            fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
            raise DataError(
                f"{source}, row {number}: found {fields}, expected {len(names)} as in the header; {dialect.rule}."
            )
        yield number, row, size
        empty = False
    if empty:
        raise DataError(f"{source}: has a header but no rows; expected at least one row below the header.")
