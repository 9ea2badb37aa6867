"""How well vectors find the text that belongs to another, among all that could."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

BLOCK_CELLS = 2**24


def ranks(
    queries: ArrayLike, found: ArrayLike, texts: Sequence[str], pairs: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The place of each row's pair among all different pairs, by cosine, and the pair that is nearest.

    Other pairs of the same text, and a pair that is the text itself, are not counted as wrong. A pair that is as near
    as the right one stands before it, so that vectors which are all alike find nothing.

    Args:
        queries: `(rows, width)`, the vectors of the texts, of length 1.
        found: `(rows, width)`, those of their pairs.
        texts: The texts.
        pairs: The texts that belong to them.

    Returns:
        Places from 1, and for each row a row whose pair is nearest: `(rows,)` int each.
    """
    _, first, own = np.unique(np.asarray(pairs, object), return_index=True, return_inverse=True)
    candidates = np.asarray(found, np.float32)[first]
    queries = np.asarray(queries, np.float32)
    right: dict[str, set[int]] = {text: set() for text in texts}
    for text, candidate in zip([*texts, *pairs], [*own, *own], strict=True):
        if text in right:
            right[text].add(int(candidate))
    places, nearest = np.empty(len(queries), int), np.empty(len(queries), int)
    size = max(1, BLOCK_CELLS // len(candidates))
    for start in range(0, len(queries), size):
        block = np.arange(start, min(start + size, len(queries)))
        cosines = queries[block] @ candidates.T  # (block, candidates)
        truth = cosines[np.arange(len(block)), own[block]]
        for row, index in enumerate(block.tolist()):
            cosines[row, list(right[texts[index]] - {own[index]})] = -np.inf
        places[block] = (cosines >= truth[:, None]).sum(axis=1)
        nearest[block] = first[cosines.argmax(axis=1)]
    return places, nearest


def scored(places: ArrayLike) -> dict[str, Any]:
    """Recall, mean reciprocal rank and nDCG of texts that have one right answer each.

    Args:
        places: `(rows,)` int from 1, as from `ranks`.

    Returns:
        `recall_at_1` and `recall_at_10` (the share found at these places or before), `mrr`, `ndcg_at_10`, `num_rows`.

    Reference:
        Järvelin and Kekäläinen, 2002, https://doi.org/10.1145/582415.582418

    >>> found = scored([1, 3, 12])
    >>> round(found["recall_at_10"], 4), round(found["mrr"], 4), found["ndcg_at_10"]
    (0.6667, 0.4722, 0.5)
    """
    places = np.asarray(places)
    return {
        "recall_at_1": float((places <= 1).mean()),
        "recall_at_10": float((places <= 10).mean()),
        "mrr": float((1 / places).mean()),
        "ndcg_at_10": float(np.where(places <= 10, 1 / np.log2(1 + places), 0.0).mean()),
        "num_rows": len(places),
    }
