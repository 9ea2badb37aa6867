"""Metrics of parts of the rows: where a model is better, and where it is worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kft.errors import DataError, quoted
from kft.evaluation.metric import Kind, scalars

MOST_VALUES = 1000
"""The most values of a column that rows are told apart by."""


def by_values(values: Sequence[str | None], column: str = "the column") -> dict[str, np.ndarray]:
    """The numbers of the rows of each value of a column, in the order of the values. Rows without one are in none.

    Raises:
        DataError: No row has a value, or there are more values than can be told apart in a table.

    >>> {name: rows.tolist() for name, rows in by_values(["en", "de", None, "en"]).items()}
    {'de': [1], 'en': [0, 3]}
    """
    names = sorted({value for value in values if value is not None})
    if not names:
        raise DataError(f"{column}: no row has a value; expected one at least to score rows by.")
    if len(names) > MOST_VALUES:
        raise DataError(
            f"{column}: found {len(names):,} different values in {len(values):,} rows; expected at most {MOST_VALUES:,}"
            " to score rows by. Name a column of few values, such as a language."
        )
    of_value: dict[str, list[int]] = {name: [] for name in names}
    for row, value in enumerate(values):
        if value is not None:
            of_value[value].append(row)
    return {name: np.array(rows) for name, rows in of_value.items()}


def summary(values: Mapping[str, Mapping[str, Any]], kind: Kind, *, num_without: int) -> dict[str, Any]:
    """What metrics.json has of the values of a column.

    Args:
        values: The metrics of the rows of each value.
        kind: Of the answers: its headline says which value is the worst.
        num_without: Rows without a value.

    Returns:
        `values`, the single numbers of each with its `num_rows`; `metric`, the headline, and over the values for whose
        rows it is defined its `mean`, in which each value counts alike, and the `worst` value.

    >>> from kft.evaluation import classification
    >>> found = {"de": {"accuracy": 0.5, "num_rows": 2}, "en": {"accuracy": 1.0, "num_rows": 8}}
    >>> summary(found, classification.KIND, num_without=0)["worst"]
    'de'
    """
    headline = kind.headline
    known = {name: found[headline.name] for name, found in values.items() if found.get(headline.name) is not None}
    about: dict[str, Any] = {"metric": headline.name}
    if known:
        worst = (min if headline.direction == "max" else max)(known, key=lambda name: known[name])
        about |= {"mean": float(np.mean(list(known.values()))), "worst": worst}
    if num_without:
        about["num_rows_without"] = num_without
    numbers = {name: {**scalars(found), "num_rows": found["num_rows"]} for name, found in values.items()}
    return {**about, "values": numbers}


def sentence(column: str, found: Mapping[str, Any], kind: Kind) -> str:
    """What a summary says, in a sentence.

    >>> from kft.evaluation import classification
    >>> values = {"de": {"accuracy": 0.5, "num_rows": 2}, "en": {"accuracy": 1.0, "num_rows": 8}}
    >>> sentence("language", summary(values, classification.KIND, num_without=0), classification.KIND)
    "By language: accuracy is 75.0% on average over 2 values, and worst for 'de': 50.0% of 2 rows."
    """
    if "worst" not in found:
        return f"By {column}: {found['metric']} is not defined for the rows of any value."
    worst, written = found["values"][found["worst"]], kind.headline.written
    return (
        f"By {column}: {found['metric']} is {written(found['mean'])} on average over {len(found['values'])} values, "
        f"and worst for {quoted(found['worst'])}: {written(worst[found['metric']])} of {worst['num_rows']:,} rows."
    )
