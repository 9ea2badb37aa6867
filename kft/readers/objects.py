"""JSON objects and Python dicts as record batches whose column types fit their values."""

import contextlib
import datetime
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kft.data.mapped import blocks
from kft.data.table import ROW
from kft.errors import DataError
from kft.readers.delimited import column_names
from kft.readers.elements import decoded, elements, in_turn, next_token
from kft.readers.lines import lines
from kft.readers.squad import articles_position, question_batches

NumberedRow = tuple[int, Mapping, int]


def jsonl_batches(path: Path, source: str) -> tuple[Iterator[pa.RecordBatch], tuple[str, ...]]:
    """The rows of a file with one JSON object per line; keys that a line lacks are null."""
    return object_batches(_jsonl_rows(path, source), source), ()


def json_batches(path: Path, source: str) -> tuple[Iterator[pa.RecordBatch], tuple[str, ...]]:
    """The rows of a JSON array of objects, of objects one after another, or the questions of an object in SQuAD's form.

    The text of the file is held in memory while it is read.
    """
    text = "".join(lines(path, source, newline="\n", most_characters=None))
    if not text.strip():
        raise DataError(f"{source}: is empty; expected a JSON array of objects.")
    position = next_token(text, 0)
    if text[position] == "[":
        return object_batches(_checked(elements(text, position, source, alone=True), source), source), ()
    if text[position] != "{":
        raise DataError(f"{source}: expected a JSON array of objects, [{{…}}, {{…}}], or an object in SQuAD's form.")
    articles = articles_position(text, position, source)
    if articles is not None:
        return question_batches(text, articles, source), ()
    _, end = decoded(text, position, source)
    if text.startswith("{", next_token(text, end)):
        note = f"{source}: is no JSON array but one object after another, and is read as JSON lines."
        return object_batches(_checked(in_turn(text, position, source), source), source), (note,)
    raise DataError(
        f"{source}: is one JSON object; expected an array of them, [{{…}}, {{…}}], one after another, or an object in "
        "SQuAD's form. Of a frame of pandas: frame.to_json(path, orient='records')."
    )


def _checked(found: Iterable[tuple[int, Any, int]], source: str) -> Iterator[NumberedRow]:
    return ((number, _checked_object(row, number, source), size) for number, row, size in found)


def mapping_rows(rows: Iterable[Any], source: str) -> Iterator[NumberedRow]:
    """In-memory dicts with their 1-based number.

    Raises:
        DataError: If a row is not a mapping.
    """
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"{source}, row {number}: is of type {type(row).__name__}; expected a dict of column names "
                'and values, like {"text": "…", "label": "…"}.'
            )
        yield number, row, 0


def object_batches(rows: Iterable[NumberedRow], source: str) -> Iterator[pa.RecordBatch]:
    """Record batches of mappings, each with the columns that its own rows have.

    Args:
        rows: `(row number, mapping, size in characters)`.
        source: What messages call the rows.

    Raises:
        DataError: For a bad column name, or values that fit no column.
    """
    for block in blocks(rows):
        numbers = [number for number, _ in block]
        keys = list(dict.fromkeys(chain.from_iterable(row for _, row in block)))
        names = column_names(keys, source)
        arrays = [
            column([row.get(key) for _, row in block], name, numbers, source)
            for key, name in zip(keys, names, strict=True)
        ]
        yield pa.record_batch([*arrays, pa.array(numbers, pa.int64())], names=[*names, ROW])


def column(values: Sequence[Any], name: str, numbers: Sequence[int], source: str) -> pa.Array:
    """Values of one column as the narrowest Arrow type; unlike scalars become text.

    Args:
        values: Python or NumPy scalars, None, lists or dicts.
        name: The column, for messages.
        numbers: The row number of each value.
        source: What messages call the rows.

    Raises:
        DataError: For text that is not Unicode, or lists and dicts beside other values.
    """
    try:
        try:
            array = pa.array(values)
            if pa.types.is_temporal(array.type) and any(isinstance(value, int | float) for value in values):
                array = _texts(values, name, numbers, source)  # Arrow takes a number beside dates for days
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            spans = _named_spans(values)
            array = _texts(values, name, numbers, source) if spans is None else pa.array(spans)
    except UnicodeEncodeError:
        raise _lone_surrogate(values, name, numbers, source) from None
    return plain(array, name, numbers, source)


def plain(array: pa.Array, name: str, numbers: Sequence[int], source: str) -> pa.Array:
    """An array without dictionaries, extensions, bytes or times: text is `large_string`, bytes are read as UTF-8.

    Raises:
        DataError: At bytes that are not UTF-8.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if any(is_text(array.type) for is_text in (pa.types.is_string, pa.types.is_string_view)):
        return array.cast(pa.large_string())
    if any(is_bytes(array.type) for is_bytes in (pa.types.is_binary, pa.types.is_large_binary)):
        try:
            return array.cast(pa.large_string())
        except pa.ArrowInvalid:
            index = next(i for i, value in enumerate(array.to_pylist()) if not _is_utf8(value))
            raise DataError(
                f"{source}, row {numbers[index]}: column {name!r} holds bytes that are not UTF-8; "
                "decode them to text first."
            ) from None
    if pa.types.is_temporal(array.type):
        with contextlib.suppress(pa.ArrowException):  # a time zone that this machine does not know
            return array.cast(pa.large_string())
    if pa.types.is_nested(array.type):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{source}: column {name!r} holds lists with values that Arrow refuses ({error})."
            ) from None
    return array


def _jsonl_rows(path: Path, source: str) -> Iterator[NumberedRow]:
    for number, line in enumerate(lines(path, source, newline="\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{source}, row {number}: is not valid JSON ({error}); expected one whole object per line."
            ) from None
        yield number, _checked_object(row, number, source), len(line)


def _checked_object(row: Any, number: int, source: str) -> dict:
    if not isinstance(row, dict):
        advice = " Give a JSON array the ending .json." if isinstance(row, list) else ""
        raise DataError(
            f"{source}, row {number}: is a JSON {type(row).__name__}; expected an object like "
            f'{{"text": "…", "label": "…"}}.{advice}'
        )
    return row


def _named_spans(values: Sequence[Any]) -> list[list[dict] | None] | None:
    """Lists of `[start, end, label]`, for which Arrow has no type, as lists of dicts; None where there are others."""
    spans = [span for value in values if value is not None for span in (value if isinstance(value, list) else [None])]
    if not all(map(_is_span, spans)):
        return None
    return [
        None if value is None else [dict(zip(("start", "end", "label"), span, strict=True)) for span in value]
        for value in values
    ]


def _is_span(value: Any) -> bool:
    """Whether it is `[start, end, label]`, of places that Arrow's integers hold."""
    if not isinstance(value, list | tuple) or [*map(type, value)] != [int, int, str]:
        return False
    return all(abs(place) < 2**63 for place in value[:2])


def _texts(values: Sequence[Any], name: str, numbers: Sequence[int], source: str) -> pa.Array:
    texts = [_scalar_text(value, name, number, source) for value, number in zip(values, numbers, strict=True)]
    return pa.array(texts, pa.large_string())


def _scalar_text(value: Any, name: str, number: int, source: str) -> str | None:
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, str | int | float | np.generic | datetime.date):
        return str(value)
    if isinstance(value, bytes) and _is_utf8(value):
        return value.decode()
    raise DataError(
        f"{source}, row {number}: column {name!r} holds a value of type {type(value).__name__} where other "
        "rows hold other kinds; expected text, numbers or lists of one kind throughout."
    )


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _lone_surrogate(values: Sequence[Any], name: str, numbers: Sequence[int], source: str) -> DataError:
    for value, number in zip(values, numbers, strict=True):
        if any("\ud800" <= character <= "\udfff" for character in str(value)):
            return DataError(
                f"{source}, row {number}: column {name!r} holds a lone surrogate, half of a character, which "
                "is not Unicode text; remove it or decode the text again from its source."
            )
    return DataError(f"{source}: column {name!r} holds text that is not Unicode.")
