"""The elements of JSON arrays in a text, decoded one after another, so that they are never all in memory at once."""

import json
from collections.abc import Iterator
from typing import Any

from kft.errors import DataError


def elements(text: str, position: int, source: str, *, alone: bool) -> Iterator[tuple[int, Any, int]]:
    """The elements of an array.

    Args:
        text: The whole file.
        position: Where the `[` stands.
        source: What messages call the file.
        alone: Whether nothing may follow the array.

    Yields:
        `(line, element, size in characters)`.

    Raises:
        DataError: Where the text stops being JSON.
    """
    number, counted = 1, 0
    position = next_token(text, position + 1)
    more = text[position : position + 1] != "]"
    while more:
        number += text.count("\n", counted, position)
        counted = position
        element, position = decoded(text, position, source)
        yield number, element, position - counted
        position = next_token(text, position)
        more = text[position : position + 1] == ","
        if more:
            position = next_token(text, position + 1)
        elif text[position : position + 1] != "]":
            raise _not_json(text, position, source, "a comma or the closing ]")
    if alone and text[position + 1 :].strip():
        raise DataError(f"{source}: text follows the closing ] of the array; expected one JSON array of objects.")


def in_turn(text: str, position: int, source: str) -> Iterator[tuple[int, Any, int]]:
    """The values that stand one after another from a position to the end, as `elements` yields them.

    Raises:
        DataError: Where the text stops being JSON.
    """
    number, counted = 1, 0
    while position < len(text):
        number += text.count("\n", counted, position)
        counted = position
        value, position = decoded(text, position, source)
        yield number, value, position - counted
        position = next_token(text, position)


def members(text: str, position: int, source: str) -> Iterator[tuple[str, int]]:
    """The keys of an object and where the value of each begins; nothing is decoded but what is passed over.

    Args:
        text: The whole file.
        position: Where the `{` stands.
        source: What messages call the file.

    Raises:
        DataError: Where the text stops being JSON.
    """
    position = next_token(text, position + 1)
    more = text[position : position + 1] != "}"
    while more:
        key, position = decoded(text, position, source)
        position = next_token(text, position)
        if not isinstance(key, str) or text[position : position + 1] != ":":
            raise _not_json(text, position, source, "a key and a colon")
        position = next_token(text, position + 1)
        yield key, position
        _, position = decoded(text, position, source)
        position = next_token(text, position)
        more = text[position : position + 1] == ","
        if more:
            position = next_token(text, position + 1)
        elif text[position : position + 1] != "}":
            raise _not_json(text, position, source, "a comma or the closing }")


def next_token(text: str, position: int) -> int:
    """The first position from here that holds no white space."""
    while text[position : position + 1] in (" ", "\t", "\n", "\r"):
        position += 1
    return position


def decoded(text: str, position: int, source: str) -> tuple[Any, int]:
    """The value that begins here, and the position after it.

    Raises:
        DataError: It is not valid JSON.
    """
    try:
        return json.JSONDecoder().raw_decode(text, position)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1 + text.count("\n", 0, position))
        raise DataError(f"{source}, row {line}: is not valid JSON ({error}); repair the file there.") from None


def _not_json(text: str, position: int, source: str, expected: str) -> DataError:
    line = 1 + text.count("\n", 0, position)
    return DataError(f"{source}, row {line}: is not valid JSON; expected {expected} here.")
