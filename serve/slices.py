"""Requests of many rows, answered in slices of rows of like length.

A model pads the rows of a call to the longest among them: one long row would make a thousand short ones long.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from serve.contract import Refused
from serve.limits import row_lengths

Arrays = Mapping[str, np.ndarray]

SLICE_ROWS = 64
SLICE_BYTES = 64 * 2**10


def call(model: Callable[[Arrays], Arrays], arrays: Arrays) -> Arrays:
    """The outputs of a model whose answer to a row does not depend on the other rows, in the order of the rows.

    Outputs `(rows, …)` of several slices are filled up to the widest, with 0 or empty strings.

    Raises:
        Refused: If an output does not have a row for each row.
    """
    lengths = row_lengths(arrays)
    slices = [] if lengths is None else cut(lengths)
    if len(slices) < 2:
        return model(arrays)
    parts = []
    for rows in slices:
        outputs = model({name: array[rows] for name, array in arrays.items()})
        wrong = {name: found.shape for name, found in outputs.items() if found.shape[:1] != (len(rows),)}
        if wrong:
            raise Refused(f"Outputs of {len(rows)} rows have the shapes {wrong}. Send at most {SLICE_ROWS} rows.")
        parts.append(outputs)
    place = np.argsort(np.concatenate(slices))
    return {name: _joined([part[name] for part in parts])[place] for name in parts[0]}


def cut(lengths: np.ndarray) -> list[np.ndarray]:
    """Row numbers by slice, the shortest rows first: at most 64 rows, and rows times the longest at most 64 KiB.

    >>> [rows.tolist() for rows in cut(np.array([9, 70_000, 7]))]
    [[2, 0], [1]]
    """
    order = np.argsort(lengths, kind="stable")
    slices, start = [], 0
    for end, row in enumerate(order):
        num_rows = end + 1 - start
        if num_rows > 1 and (num_rows > SLICE_ROWS or num_rows * lengths[row] > SLICE_BYTES):
            slices.append(order[start:end])
            start = end
    return [*slices, order[start:]] if len(order) else []


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    widest = np.max([array.shape[1:] for array in arrays], axis=0)
    fill: Any = b"" if arrays[0].dtype.kind in "SO" else 0
    gaps = [[(0, 0), *((0, wide - has) for wide, has in zip(widest, a.shape[1:], strict=True))] for a in arrays]
    return np.concatenate([np.pad(a, gap, constant_values=fill) for a, gap in zip(arrays, gaps, strict=True)])
