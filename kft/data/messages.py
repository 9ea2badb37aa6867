"""Conversations, turn by turn, and the responses that are learnt, as the one type that the rest relies on."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kft.data.cells import made_anew, parsed, shown
from kft.data.table import Table
from kft.data.targets import refuse_missing
from kft.errors import DataError, did_you_mean
from kft.text.prompts import ROLES

MESSAGES = pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.large_string())]))
A_TURN = '{"role": "user", "content": "…"}'
BLANK = r"^[\s\pZ\x{85}]*$"


def messages_column(table: Table, name: str) -> pa.ChunkedArray:
    """The turns of each conversation: lists of `{"role", "content"}`, or JSON of them.

    Returns:
        `(rows,)` large_list of `struct<role: large_string, content: large_string>` without nulls or blank contents.

    Raises:
        DataError: At the first cell that is no list of turns, and the first turn with an unknown role or no content.
    """
    return made_anew(table, name, _messages, MESSAGES)


def _messages(cell: Any) -> list[dict[str, str]]:
    turns = parsed(cell, f"[{A_TURN}]")
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"found {shown(cell)}; expected the turns of a conversation, [{A_TURN}].")
    return [_turn(turn, place) for place, turn in enumerate(turns, 1)]


def _turn(turn: Any, place: int) -> dict[str, str]:
    if not isinstance(turn, dict) or "role" not in turn:
        raise ValueError(f"turn {place} is {shown(turn)}; expected {A_TURN}.")
    role, content = turn["role"], turn.get("content")
    if role not in ROLES:
        raise ValueError(
            f"turn {place} has the role {shown(role)}.{did_you_mean(role, ROLES)} Expected one of: {', '.join(ROLES)}."
        )
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"turn {place}, the {role}'s, has the content {shown(content)}; expected text.")
    return {"role": role, "content": content}


def response_column(table: Table, name: str) -> pa.ChunkedArray:
    """Texts that are learnt to be written.

    Returns:
        `(rows,)` large_string without nulls or blank texts.

    Raises:
        DataError: At the first that is missing or blank, and for columns of lists.
    """
    column = table.rows[name]
    if pa.types.is_nested(column.type):
        raise DataError(f"{table.where(0)}: column {name!r} holds {column.type}; expected one text per row.")
    texts = column.cast(pa.large_string())
    refuse_missing(table, name, pc.or_kleene(pc.is_null(texts), pc.match_substring_regex(texts, BLANK)))
    return texts
