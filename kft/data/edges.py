"""Spans of texts without the spaces at their edges, which belong to no word and so could never be answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kft.data.cells import made_anew, shown
from kft.data.nested import EVENTS, SPANS
from kft.data.table import ROW, Table

SPACES = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"
)
"""What `str.isspace` says, and two characters that cannot be seen: the spaces of `kft.text.characters`."""


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The edges of a part of a text without the spaces at them; of nothing but spaces as they are.

    >>> trimmed("see  Anna \\n", 3, 11), trimmed("a  b", 1, 3)
    ((5, 9), (1, 3))
    """
    part = text[start:end]
    kept = part.strip(SPACES)
    if not kept or len(kept) == len(part) or end > len(text):
        return start, end
    first = start + len(part) - len(part.lstrip(SPACES))
    return first, first + len(kept)


def spans(table: Table) -> Table:
    """The rows with their `spans` trimmed, which a note counts."""
    return _trimmed(table, "spans", SPANS, lambda cell, trim: sorted(map(trim, cell), key=_place))


def events(table: Table) -> Table:
    """The rows with the triggers and arguments of their `events` trimmed, which a note counts."""

    def event(one: Mapping[str, Any], trim: Callable[[Any], Any]) -> dict[str, Any]:
        return {**trim(one), "arguments": sorted(map(trim, one["arguments"]), key=_place)}

    return _trimmed(table, "events", EVENTS, lambda cell, trim: sorted((event(one, trim) for one in cell), key=_place))


def _place(span: Mapping[str, Any]) -> tuple[int, int]:
    return span["start"], span["end"]


def _trimmed(table: Table, name: str, kind: Any, convert: Callable[[Any, Callable[[Any], Any]], Any]) -> Table:
    found: list[str] = []
    total = 0

    def cell(value: Any, text: str, row: int) -> Any:
        def trim(span: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal total
            total += 1
            before = span["start"], span["end"]
            start, end = trimmed(text, *before)
            if (start, end) != before:
                found.append(f"row {row}: the span {shown(text[slice(*before)])}" if not found else "")
            return {**span, "start": start, "end": end}

        return convert(value, trim)

    column = made_anew(table, name, cell, kind, beside=("text", ROW))
    if not found:
        return table
    rows = table.rows.set_column(table.rows.column_names.index(name), name, column)
    return replace(table, rows=rows).with_notes(
        f"{table.source}, {found[0]} has spaces at its edges, which are left out of it ({len(found):,} of {total:,} "
        "spans have some)."
    )
