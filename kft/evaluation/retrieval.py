"""How well vectors find the text that belongs to another, among all that could."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kft.evaluation.metric import Kind, Mean, Metric, evaluate, number

BLOCK_CELLS = 2**24


def ranks(
    queries: ArrayLike, vectors: ArrayLike, texts: Sequence[str], pairs: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The place of each row's pair among all different pairs, by cosine, and the pair that is nearest.

    Other pairs of the same text, and a pair that is the text itself, are not counted as wrong. A pair that is as near
    as the right one stands before it, so that vectors which are all alike find nothing.

    Args:
        queries: `(rows, width)`, the vectors of the texts, of length 1.
        vectors: `(rows, width)`, those of their pairs.
        texts: The texts.
        pairs: The texts that belong to them.

    Returns:
        Places from 1, and for each row a row whose pair is nearest: `(rows,)` int each.
    """
    left, right = np.asarray(queries, np.float32), np.asarray(vectors, np.float32)
    return ranks_by(lambda rows, candidates: left[rows] @ right[candidates].T, texts, pairs)


def ranks_by(
    similarities: Callable[[np.ndarray, np.ndarray], np.ndarray],
    texts: Sequence[str],
    pairs: Sequence[str],
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`ranks` by any similarity.

    Args:
        similarities: (rows, candidates), numbers of rows each, to the similarity of these texts and those pairs,
            `(rows, candidates)`.
        texts: The texts.
        pairs: The texts that belong to them.
        rows: Those whose texts are asked with; by default all. The candidates are the pairs of all rows in any case.

    Returns:
        Places from 1, and for each of these rows a row whose pair is nearest.
    """
    _, first, own = np.unique(np.asarray(pairs, object), return_index=True, return_inverse=True)
    belongs: dict[str, set[int]] = {text: set() for text in texts}
    for text, candidate in zip([*texts, *pairs], [*own, *own], strict=True):
        if text in belongs:
            belongs[text].add(int(candidate))
    asked = np.arange(len(texts)) if rows is None else np.asarray(rows)
    places, nearest = np.empty(len(asked), int), np.empty(len(asked), int)
    size = max(1, BLOCK_CELLS // len(first))
    for start in range(0, len(asked), size):
        block = asked[start : start + size]
        cosines = similarities(block, first)  # (block, candidates)
        truth = cosines[np.arange(len(block)), own[block]]
        for row, index in enumerate(block.tolist()):
            cosines[row, list(belongs[texts[index]] - {own[index]})] = -np.inf
        places[start : start + len(block)] = (cosines >= truth[:, None]).sum(axis=1)
        nearest[start : start + len(block)] = first[cosines.argmax(axis=1)]
    return places, nearest


def row_scores(places: ArrayLike) -> dict[str, np.ndarray]:
    """`rank` of each row's pair, and what each metric gives for it.

    Args:
        places: `(rows,)` int from 1, as from `ranks`.
    """
    rank = np.asarray(places)
    return {
        "rank": rank,
        "first": rank <= 1,
        "first_ten": rank <= 10,
        "reciprocal_rank": 1 / rank,
        "gain": np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0),
    }


def scored(places: ArrayLike) -> dict[str, Any]:
    """Recall, mean reciprocal rank and nDCG of texts that have one right answer each.

    Args:
        places: `(rows,)` int from 1, as from `ranks`.

    Returns:
        `recall_at_1` and `recall_at_10` (the share found at these places or before), `mrr`, `ndcg_at_10`, `num_rows`.

    Reference:
        Järvelin and Kekäläinen, 2002, https://doi.org/10.1145/582415.582418

    >>> three = scored([1, 3, 12])
    >>> round(three["recall_at_10"], 4), round(three["mrr"], 4), three["ndcg_at_10"]
    (0.6667, 0.4722, 0.5)
    """
    rows = row_scores(places)
    return {**evaluate(METRICS, rows), "num_rows": len(rows["rank"])}


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    return (
        f"Mean reciprocal rank {number(values['mrr'])} over {values['num_rows']:,} {rows}: the text that belongs comes "
        f"first in {values['recall_at_1']:.1%} of them, and among the first ten in {values['recall_at_10']:.1%}."
    )


METRICS = (
    Metric("recall_at_1", "max", "share of rows whose pair comes first", False, Mean("first"), is_share=True),
    Metric(
        "recall_at_10",
        "max",
        "share of rows with the pair among the first ten",
        False,
        Mean("first_ten"),
        is_share=True,
    ),
    Metric("mrr", "max", "mean of 1 / rank of the pair; 1 where it always comes first", True, Mean("reciprocal_rank")),
    Metric("ndcg_at_10", "max", "mean of 1 / log2(1 + rank) of the pair, 0 past the tenth", False, Mean("gain")),
)
KIND = Kind("retrieval", METRICS, _sentence)
