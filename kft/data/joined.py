"""Lists of words as the texts that they make."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from kft.data.table import Table

IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def with_text(table: Table) -> Table:
    """The same rows with the `text` that their `words` make, and in `starts` where each word begins in it.

    Words stand with a space between them; two ideographs touch, as they do in a text.
    """
    texts, starts = zip(*(_joined(row) for row in table.texts("words")), strict=True)
    rows = table.rows.append_column("text", pa.chunked_array([pa.array(texts, pa.large_string())]))
    rows = rows.append_column("starts", pa.chunked_array([pa.array(starts, pa.large_list(pa.int64()))]))
    return replace(table, rows=rows)


def _joined(row: Sequence[str]) -> tuple[str, list[int]]:
    """The text of some words, and where each begins.

    >>> _joined(["Tea", "in", "北", "京"])
    ('Tea in 北京', [0, 4, 7, 8])
    """
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    for before, word in zip(["", *row], row, strict=False):
        touches = not before or (IDEOGRAPH.match(before[-1]) and IDEOGRAPH.match(word[0]))
        parts += [word] if touches else [" ", word]
        starts.append(length + (0 if touches else 1))
        length = starts[-1] + len(word)
    return "".join(parts), starts
