"""Rows that cannot be used though others of their table can: refused with their number, or dropped with a note."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from kft.data.table import Table
from kft.errors import DataError

BadRowsRule = Literal["refuse", "drop"]


class BadRows(DataError):
    """Rows that one check refuses, all of them at once, so that they can be dropped in one step.

    Args:
        problem: What is wrong with the first of them, with its place, and how many there are.
        rows: Their indices in the table that was checked.
        advice: What to do, where rows are not dropped.
    """

    def __init__(self, problem: str, rows: Sequence[int] | np.ndarray, advice: str = ""):
        super().__init__(problem + advice)
        self.problem = problem
        self.rows = np.asarray(rows, np.int64)


class Faults:
    """Collects the rows that a check refuses, row by row.

    Args:
        total: The number of rows that are checked.
    """

    def __init__(self, total: int):
        self.total = total
        self.rows: list[int] = []
        self.first = ""

    def add(self, index: int, problem: object) -> None:
        """Marks a row; the message of the first one is kept."""
        self.first = self.first or str(problem)
        self.rows.append(index)

    def refuse(self) -> None:
        """Refuses the rows that were marked, if there are any.

        Raises:
            BadRows: Names the first, and counts them where there are several.
        """
        if self.rows:
            more = f" {len(self.rows):,} of {self.total:,} rows have such a fault." if len(self.rows) > 1 else ""
            raise BadRows(self.first + more, self.rows)


def usable(table: Table, convert: Callable[[Table], Table], rule: BadRowsRule, advice: str = "") -> Table:
    """What `convert` makes of the rows that it can use.

    Args:
        table: The rows.
        convert: Checks and converts them; must raise `BadRows` with indices into the table that it was given.
        rule: `refuse` the table, or `drop` such rows and say so in notes.
        advice: Ends the message of a refusal.

    Raises:
        DataError: Some rows cannot be used and the rule is `refuse`, or none can.
    """
    total = len(table)
    while True:
        try:
            return convert(table)
        except BadRows as error:
            if rule == "refuse":
                raise DataError(f"{error}{advice}") from None
            kept = np.setdiff1d(np.arange(len(table)), error.rows)
            if not len(kept):
                raise DataError(f"{error} No row is left after such rows are dropped (bad_rows=drop).") from None
            note = f"{table.source}: {len(error.rows):,} of {total:,} rows are dropped: {error.problem}"
            table = table.take(kept).with_notes(note)
