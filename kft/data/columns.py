"""Which column of a table is which: names given by the user, or guessed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from kft.data.table import GROUP, ROW, Table
from kft.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Column:
    """A column that a task needs.

    Attributes:
        name: What kft calls it, whatever the table does.
        kind: What its cells hold. Inputs are `text`, `addition` (a text, perhaps empty, that is joined to another),
            `words` (a list of them), `marks` (labelled parts of a text), `choices` (a list of texts) and `messages`
            (the turns of a conversation); targets are `label` (a class),
            `labels` (any number of them), `number`, `tags` (one for each word), `spans` (labelled parts of a text),
            `events` (a trigger and arguments each), `answers` (parts of a context) and `response` (a text).
        required: Whether the task cannot do without it.
        guesses: Names to look for when the user gives none; case does not matter.
        instead_of: The column that this one is another form of: where it is found the other is not looked for, unless
            the user gave that one.
        within: The column that holds this one too: where it is found this one is not looked for.
        beside: A column and a name: this one is looked for only where that column is of that name.
        repeats: What is done where a text of this column stands in several rows: they stay on one side of a split
            (`together`), or it is said where they do not (`noted`). None: nothing, as such texts are short or few.
    """

    name: str
    kind: Literal[
        "text",
        "addition",
        "words",
        "marks",
        "choices",
        "messages",
        "label",
        "labels",
        "number",
        "tags",
        "spans",
        "answers",
        "events",
        "response",
    ]
    required: bool = True
    guesses: tuple[str, ...] = ()
    instead_of: str | None = None
    within: str | None = None
    beside: tuple[str, str] | None = None
    repeats: Literal["together", "noted"] | None = None

    @property
    def is_input(self) -> bool:
        """Whether the network reads it; else it is a target, which rows to predict lack."""
        return self.kind in ("text", "addition", "words", "marks", "choices", "messages")


def choose(
    table: Table,
    wanted: Sequence[Column],
    given: Mapping[str, str | None],
    *,
    label_required: bool = True,
) -> dict[str, str]:
    """Finds the table's column for each wanted one.

    Args:
        table: The rows as read.
        wanted: The columns of the task.
        given: The user's choice for each canonical name; absent or None where there is none.
        label_required: Whether the targets must be there. False for prediction.

    Returns:
        The table's column name for each canonical name; without columns that are optional and absent.

    Raises:
        DataError: If a given name or a required column is not in the table, or two names meet in one column.
    """
    chosen: dict[str, str] = {}
    for column in wanted:
        name = given.get(column.name)
        if name is not None:
            _check_given(table, column, name, chosen)
            chosen[column.name] = name
    # Other forms first: where one is found, what it stands for is not looked for.
    for column in sorted(wanted, key=lambda column: (column.instead_of is None, column.beside is not None)):
        is_replaced = any(other.instead_of == column.name and other.name in chosen for other in wanted)
        is_replaced = is_replaced or column.within in chosen
        if column.beside is not None and chosen.get(column.beside[0], "").casefold() != column.beside[1]:
            continue
        if column.name in chosen or is_replaced or column.instead_of in chosen:
            continue
        guess = _guess(table, column, set(chosen.values()))
        if guess is not None:
            chosen[column.name] = guess
        elif column.required and (label_required or column.is_input):
            raise _not_found(table, column)
    return {column.name: chosen[column.name] for column in wanted if column.name in chosen}


def canonical(table: Table, chosen: Mapping[str, str], split_by: str | None = None) -> Table:
    """The chosen columns alone, under their canonical names, with the row numbers.

    Args:
        table: The rows as read.
        chosen: The table's column name for each canonical name, as from `choose`.
        split_by: A further column, that becomes `GROUP` as text: what rows are kept together by.

    Raises:
        DataError: The table has no column `split_by`, or it holds lists.
    """
    rows = table.rows.select([*chosen.values(), ROW]).rename_columns([*chosen, ROW])
    if split_by is not None:
        if split_by not in table.names():
            raise DataError(
                f"{table.source}: has no column {split_by!r}, given as split_by."
                f"{did_you_mean(split_by, table.names())} {_found(table)}"
            )
        group = table.rows[split_by]
        if pa.types.is_nested(group.type):
            raise DataError(
                f"{table.source}: column {split_by!r}, given as split_by, holds {group.type}; expected text."
            )
        rows = rows.append_column(GROUP, group.cast(pa.large_string()))
    return replace(table, rows=rows)


def values_of(table: Table, read: Table, column: str, used: Mapping[str, str]) -> list[str | None]:
    """The value of a further column of each row, as text; None where a row has none.

    Args:
        table: The rows, made of some of those of `read`.
        read: The table as it was read, with all columns of its source.
        column: The column's name there.
        used: Canonical column name to the name in the source: what the task reads or learns.

    Raises:
        DataError: There is no such column, the task reads or learns it, or it holds lists.
    """
    if column not in read.names():
        raise DataError(
            f"{read.source}: has no column {column!r} to score rows by.{did_you_mean(column, read.names())} "
            f"{_found(read)}"
        )
    for name, own in used.items():
        if own == column:
            raise DataError(
                f"{read.source}: column {column!r} is the {name} of the task; expected a column that is neither read "
                "nor learnt, such as a language."
            )
    values = read.rows[column]
    if pa.types.is_nested(values.type):
        raise DataError(f"{read.source}: column {column!r} holds {values.type}; expected text to score rows by.")
    places = pc.index_in(table.rows[ROW], value_set=read.rows[ROW])
    texts = [None if value is None else str(value) for value in values.take(places).to_pylist()]
    return [text or None for text in texts]


def left_out(table: Table, used: Iterable[str | None], most: int = 10) -> list[str]:
    """A note that names the columns of a table that are not used, if there are any.

    Args:
        table: The rows as read.
        used: The table's names of the columns that are; None stands for none.
        most: How many are named.
    """
    names = [name for name in table.names() if name not in set(used)]
    if not names:
        return []
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return [f"{table.source}: columns that are not used: {', '.join(map(_short, names[:most]))}{more}."]


def _check_given(table: Table, column: Column, name: str, chosen: Mapping[str, str]) -> None:
    if name not in table.names():
        raise DataError(
            f"{table.source}: has no column {name!r}, given as {column.name}."
            f"{did_you_mean(name, table.names())} {_found(table)}"
        )
    for other, taken in chosen.items():
        if taken == name:
            raise DataError(
                f"{table.source}: column {name!r} is given as both {other} and {column.name}; "
                f"give each its own. {_found(table)}"
            )


def _guess(table: Table, column: Column, taken: set[str]) -> str | None:
    free = {name.casefold(): name for name in reversed(table.names()) if name not in taken}
    return next((free[guess.casefold()] for guess in column.guesses if guess.casefold() in free), None)


def _not_found(table: Table, column: Column) -> DataError:
    flag = column.name.replace("_", "-")
    looked_for = f" (looked for {', '.join(column.guesses)})" if column.guesses else ""
    return DataError(
        f"{table.source}: cannot tell which column is the {column.name}{looked_for}. {_found(table)} "
        f'Say which: --{flag} COLUMN, or {column.name}="COLUMN" in Python; '
        "if the first line is data, add a header line with column names."
    )


def _found(table: Table) -> str:
    return f"Columns found: {', '.join(_short(name) for name in table.names())}."


def _short(name: str, width: int = 40) -> str:
    return repr(name if len(name) <= width else name[: width - 1] + "…")
