"""Rows as 64-bit numbers: equal texts have equal numbers on every machine."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from kft.data.mapped import BLOCK_ROWS
from kft.data.table import Table


def as_written(text: str) -> str:
    """The text itself."""
    return text


def normalised(text: str) -> str:
    """The text without what seldom tells texts apart: case, and the amount of white space.

    >>> normalised("  Fine\\tDAY ")
    'fine day'
    """
    return " ".join(text.casefold().split())


def row_hashes(table: Table, columns: Sequence[str], form: Callable[[str], str] = as_written) -> np.ndarray:
    """One 64-bit BLAKE2b hash for each row, over all `columns` together.

    Two different rows among `n` share a hash with a probability near `n**2 / 2**65`: 3e-6 for ten million.

    Args:
        table: A table whose `columns` hold text, numbers or lists of these without nulls.
        columns: The columns that are hashed, in this order.
        form: What is done to each value, as text, before.

    Returns:
        `(rows,)` uint64.
    """
    hashes = np.empty(len(table), np.uint64)
    position = 0
    for batch in table.rows.select(list(columns)).to_batches(max_chunksize=BLOCK_ROWS):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            texts = [form(str(value)) for value in values]
            key = "".join(f"{len(text)}:{text}" for text in texts).encode()
            hashes[position] = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
            position += 1
    return hashes
