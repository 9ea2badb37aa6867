"""Lists of words as the texts that they make."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from kft.data.table import Table

IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def with_text(table: Table) -> Table:
    """The same rows with the `text` that their `words` make, and in `marks` where the words are in it.

    Words stand with a space between them; two ideographs touch, as they do in a text. The marks are as many as the
    characters of the text: `B` where a word begins, `I` where it goes on, and spaces.
    """
    texts, marks = zip(*(_joined(row) for row in table.texts("words")), strict=True)
    rows = table.rows
    for name, values in (("text", texts), ("marks", marks)):
        rows = rows.append_column(name, pa.chunked_array([pa.array(values, pa.large_string())]))
    return replace(table, rows=rows)


def _joined(row: Sequence[str]) -> tuple[str, str]:
    """The text of some words, and their marks.

    >>> _joined(["Tea", "in", "北", "京"])
    ('Tea in 北京', 'BII BI BB')
    """
    parts: list[str] = []
    marks: list[str] = []
    for before, word in zip(["", *row], row, strict=False):
        touches = not before or (IDEOGRAPH.match(before[-1]) and IDEOGRAPH.match(word[0]))
        gap = "" if touches else " "
        parts += [gap, word]
        marks += [gap, "B", "I" * (len(word) - 1)]
    return "".join(parts), "".join(marks)
