"""A metric as a value: its name, its direction, its meaning, and how it is computed from scores per row.

Everything that is said of a set of answers begins with arrays that have one value (or one row) for each row of the
data. A metric is a function of these arrays over any selection of rows: of all of them, of a slice
(`kft.evaluation.slices`), of resampled ones (`kft.evaluation.intervals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kft.errors import RecipeError, did_you_mean

RowScores = Mapping[str, np.ndarray]
"""Named arrays, each with the rows of the data as its first axis."""


BETTER = {"max": "higher", "min": "lower"}


@dataclass(frozen=True)
class Mean:
    """The mean of one array over the rows.

    Attributes:
        array: Its name.
        weight: The name of the array of weights; None where all rows count alike. Where the weights sum to 0 the mean
            is 0.

    >>> Mean("f1")({"f1": np.array([1.0, 0.0])})
    0.5
    >>> Mean("f1", "has_answer")({"f1": np.array([1.0, 0.0]), "has_answer": np.array([True, False])})
    1.0
    """

    array: str
    weight: str | None = None

    def __call__(self, rows: RowScores) -> float:
        values = np.asarray(rows[self.array], np.float64)
        if self.weight is None:
            return float(values.mean())
        weights = np.asarray(rows[self.weight], np.float64)
        return float((values * weights).sum() / weights.sum()) if weights.any() else 0.0


@dataclass(frozen=True)
class Metric:
    """A number that says how good answers are.

    Attributes:
        name: Its key in metrics.json.
        direction: Whether a larger ("max") or a smaller ("min") value is better.
        meaning: What it is, in a few words for a table.
        headline: Whether it is the one that its kind of answers is judged by.
        aggregate: Its value over all rows that it is given, in float64.
        is_share: Whether it is a share of something, and so written in percent.
        applies: Whether it is defined for these rows; by default it always is.
    """

    name: str
    direction: Literal["max", "min"]
    meaning: str
    headline: bool
    aggregate: Callable[[RowScores], float]
    is_share: bool = False
    applies: Callable[[RowScores], bool] = lambda rows: True

    def written(self, value: float) -> str:
        """A value as people read it.

        >>> Metric("accuracy", "max", "", True, Mean("correct"), is_share=True).written(0.75)
        '75.0%'
        """
        return f"{value:.1%}" if self.is_share else number(value)

    def gain(self, value: float, other: float) -> float:
        """How much better a value is than another: negative where it is worse."""
        return value - other if self.direction == "max" else other - value


@dataclass(frozen=True)
class Kind:
    """What one kind of answers is judged by, and how the judgement reads.

    Attributes:
        name: Of the answers, as `classification`.
        metrics: All single numbers that metrics.json may have of them. One is the headline.
        sentence: (metrics, the rows as in "40 test rows") to the sentence that stands at the top of a report.
        details: (metrics) to the sentences after it.
        support: What the support of a class in `per_class` counts.
    """

    name: str
    metrics: tuple[Metric, ...]
    sentence: Callable[[Mapping[str, Any], str], str]
    details: Callable[[Mapping[str, Any]], list[str]] = lambda values: []
    support: str = "rows"

    @property
    def headline(self) -> Metric:
        """The metric that answers are judged and compared by."""
        (headline,) = (metric for metric in self.metrics if metric.headline)
        return headline

    def find(self, name: str) -> Metric:
        """The metric of this name.

        Raises:
            RecipeError: There is none.
        """
        return named(self.metrics, name)


def named(metrics: Sequence[Metric], name: str) -> Metric:
    """The metric of this name; the prefix `val_`, which Keras gives those of validation rows, may be there or not.

    A name such as `urgency/mae` is that of a further head: where no metric is called so, it is the metric `mae`.

    Raises:
        RecipeError: There is none.
    """
    by_name = {metric.name: metric for metric in metrics}
    plain = name.removeprefix("val_")
    plain = plain if plain in by_name else plain.rpartition("/")[2]
    if plain not in by_name:
        raise RecipeError(
            f"There is no metric {name!r}.{did_you_mean(plain, by_name)} Choose one of: {', '.join(by_name)}."
        )
    return by_name[plain]


def evaluate(metrics: Sequence[Metric], rows: RowScores) -> dict[str, float]:
    """The value of each metric that is defined for the rows."""
    return {metric.name: float(metric.aggregate(rows)) for metric in metrics if metric.applies(rows)}


def num_rows(rows: RowScores) -> int:
    """How many rows there are."""
    return len(next(iter(rows.values())))


@dataclass(frozen=True)
class Selection(Mapping[str, np.ndarray]):
    """Some of the rows, in any order and as often as asked for; each array is taken when it is read.

    Attributes:
        rows: The scores of all rows.
        index: Numbers of rows, or a mask of them.
    """

    rows: RowScores
    index: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        return self.rows[name][self.index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def number(value: float | int) -> str:
    """A number as people read it: three digits after the point where it is small, none where it is huge.

    >>> number(0.90361), number(1234567), number(12345.678), number(0.00002)
    ('0.904', '1,234,567', '12,345.7', '2e-05')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if 0 < abs(value) < 0.001:
        return f"{value:.3g}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.3f}"


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers of a metrics dict that say how good a model is: no tables, no row count.

    >>> scalars({"accuracy": 1, "num_rows": 3, "confusion": [[3]]})
    {'accuracy': 1.0}
    """
    return {
        name: float(value) for name, value in values.items() if isinstance(value, int | float) and name != "num_rows"
    }


def count_of(share: float, total: int) -> str:
    """A share of rows as a count of them.

    >>> count_of(0.75, 4)
    '3 of 4'
    """
    return f"{round(share * total):,} of {total:,}"
