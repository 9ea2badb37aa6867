"""How far metrics may be off by the choice of rows: confidence intervals, and tests of two models on the same rows.

A model that is right in 90 of 100 rows may be right in 84 or in 95 of the next 100. An interval says so; whether one
model is better than another is a question about their differences row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kft.errors import DataError
from kft.evaluation.metric import Mean, Metric, RowScores, Selection, num_rows

_BLOCK_CELLS = 2**22


@dataclass(frozen=True)
class Interval:
    """A value with the interval that it lies in.

    Attributes:
        value: Over the rows themselves.
        low: The lower end.
        high: The upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The difference of two models on the same rows.

    Attributes:
        difference: The value of the first less that of the second.
        low: The lower end of its interval.
        high: The upper end.
        p_value: How likely a difference as large as this, in either direction, is between models that are equally good.
    """

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap(
    metric: Metric, rows: RowScores, *, num_resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The percentile bootstrap interval of a metric: the rows are drawn with replacement, as many as there are.

    It supposes that the rows are independent draws of what the model will meet. Several windows, or questions, of one
    text are not. With fewer than about 30 rows the interval is too narrow.

    Args:
        metric: What is computed of each resample.
        rows: The scores of all rows.
        num_resamples: How many resamples are drawn.
        confidence: The share of resamples whose value lies within the interval.
        seed: Of the draws.

    Raises:
        DataError: There are no rows.

    References:
        Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", ch. 13; for test sets of texts Koehn, 2004,
        https://aclanthology.org/W04-3250

    >>> correct = {"correct": np.arange(100) < 90}
    >>> interval = bootstrap(Metric("accuracy", "max", "", True, Mean("correct")), correct)
    >>> interval.value, round(interval.low, 2), round(interval.high, 2)
    (0.9, 0.84, 0.96)
    """
    _require_rows(rows)
    resampled = np.concatenate(
        [_of_resamples(metric, rows, index) for index in _resamples(num_rows(rows), num_resamples, seed)]
    )
    low, high = _ends(resampled, confidence)
    return Interval(float(metric.aggregate(rows)), low, high)


def paired(
    metric: Metric,
    rows: RowScores,
    others: RowScores,
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Whether two models differ on the same rows: an interval of their difference, and a test by randomisation.

    For the interval both are computed of the same resampled rows. For the test each row's two results are swapped or
    not, at random, which changes nothing where the models are equally good; the p value is the share of these
    assignments whose difference is as large as the true one, counting the true one.

    Args:
        metric: What is computed of both.
        rows: The scores of the first model, row by row.
        others: Those of the second, of the same rows in the same order.
        num_resamples: How many resamples, and how many assignments, are drawn.
        confidence: As in `bootstrap`.
        seed: Of the draws.

    Raises:
        DataError: The rows are not as many, there are none, or their arrays differ in name or shape.

    References:
        Noreen, 1989, "Computer-Intensive Methods for Testing Hypotheses"; Yeh, 2000, https://aclanthology.org/C00-2137;
        Dror et al., 2018, https://aclanthology.org/P18-1128
    """
    _require_rows(rows)
    shapes, other_shapes = ({name: np.shape(array) for name, array in one.items()} for one in (rows, others))
    if shapes != other_shapes:
        raise DataError(f"Found row scores of shapes {shapes} and {other_shapes}; expected the same rows of both.")
    total = num_rows(rows)
    differences = np.concatenate(
        [
            _of_resamples(metric, rows, index) - _of_resamples(metric, others, index)
            for index in _resamples(total, num_resamples, seed)
        ]
    )
    low, high = _ends(differences, confidence)
    difference = float(metric.aggregate(rows)) - float(metric.aggregate(others))
    both = {name: np.concatenate([rows[name], others[name]]) for name in rows}
    swapped = np.concatenate(
        [
            _of_resamples(metric, both, np.where(is_swapped, here + total, here))
            - _of_resamples(metric, both, np.where(is_swapped, here, here + total))
            for is_swapped in _blocks(total, num_resamples, lambda random, size: random.random(size) < 0.5, seed)
            for here in [np.arange(total)]
        ]
    )
    # Of equal differences one may come out a last digit smaller, since the sums are taken in another order.
    as_large = int((np.abs(swapped) >= abs(difference) - 1e-12).sum())
    return Comparison(difference, low, high, (as_large + 1) / (num_resamples + 1))


def _of_resamples(metric: Metric, rows: RowScores, index: np.ndarray) -> np.ndarray:
    """The metric of each resample: `(resamples,)`.

    Args:
        metric: What is computed.
        rows: The scores of all rows.
        index: `(resamples, rows)` int.
    """
    if not isinstance(metric.aggregate, Mean):
        return np.array([metric.aggregate(Selection(rows, one)) for one in index])
    values = np.asarray(rows[metric.aggregate.array], np.float64)
    if metric.aggregate.weight is None:
        return values[index].mean(axis=1)
    weights = np.asarray(rows[metric.aggregate.weight], np.float64)
    sums = weights[index].sum(axis=1)
    return np.divide((values * weights)[index].sum(axis=1), sums, out=np.zeros(len(index)), where=sums > 0)


def _resamples(total: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """Rows drawn with replacement, `(resamples, rows)` at a time."""
    return _blocks(total, count, lambda random, size: random.integers(0, total, size), seed)


def _blocks(
    total: int, count: int, draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray], seed: int
) -> Iterator[np.ndarray]:
    """`count` draws of one value for each row, in blocks that memory holds whatever the number of rows."""
    random, size = np.random.default_rng(seed), max(1, _BLOCK_CELLS // total)
    for start in range(0, count, size):
        yield draw(random, (min(size, count - start), total))


def _ends(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _require_rows(rows: RowScores) -> None:
    if not rows or not num_rows(rows):
        raise DataError("Found no rows; expected one at least to say how far a metric may be off.")
