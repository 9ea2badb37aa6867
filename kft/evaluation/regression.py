"""Metrics of numbers: how close they come to the true ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kft.errors import DataError
from kft.evaluation.classification import refuse_row
from kft.evaluation.metric import Kind, Mean, Metric, RowScores, evaluate, number


def row_scores(answers: ArrayLike, targets: ArrayLike) -> dict[str, np.ndarray]:
    """`truth`, `answer` and `error` (the absolute difference) of each row, float64.

    Args:
        answers: `(rows,)` float, the predictions.
        targets: `(rows,)` float, the truth.

    Raises:
        DataError: If the shapes disagree, there are no rows, or a number is not finite.
    """
    answer, truth = np.asarray(answers, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if answer.ndim != 1 or answer.shape != truth.shape or len(answer) == 0:
        raise DataError(
            f"Found predictions of shape {answer.shape} and targets of shape {truth.shape}; expected "
            "(rows,) for both with at least one row. Give one predicted number for each row."
        )
    refuse_row(~np.isfinite(answer), answer, "a finite prediction")
    refuse_row(~np.isfinite(truth), truth, "a finite target")
    return {"truth": truth, "answer": answer, "error": np.abs(answer - truth)}


def scored(answers: ArrayLike, targets: ArrayLike) -> dict[str, Any]:
    """How close predicted numbers come to the true ones.

    Correlations are 0.0 when the predictions or the targets are all the same number (to 12 digits) or
    there is one row. R2 is 0.0 for one row; for equal targets it is 1.0 when every prediction is exact
    and 0.0 otherwise. `mae` and `rmse` are in the unit of the targets.

    Args:
        answers: As in `row_scores`.
        targets: As in `row_scores`.

    Returns:
        pearson, spearman, mae, rmse, r2 and num_rows.

    Raises:
        DataError: As `row_scores`.

    >>> scored([1.0, 2.0, 3.0], [1.0, 2.0, 5.0])["rmse"]
    1.1547005383792515
    """
    rows = row_scores(answers, targets)
    return {**evaluate(METRICS, rows), "num_rows": len(rows["truth"])}


def _pearson(rows: RowScores) -> float:
    from scipy import stats

    return float(stats.pearsonr(rows["answer"], rows["truth"]).statistic) if _varies(rows) else 0.0


def _spearman(rows: RowScores) -> float:
    from scipy import stats

    return float(stats.spearmanr(rows["answer"], rows["truth"]).statistic) if _varies(rows) else 0.0


def _varies(rows: RowScores) -> bool:
    """Whether neither truth nor answers are all one number."""
    return not any(np.ptp(rows[name]) <= 1e-12 * np.abs(rows[name]).max() for name in ("answer", "truth"))


def _rmse(rows: RowScores) -> float:
    return float(np.sqrt(((rows["truth"] - rows["answer"]) ** 2).mean()))


def _r2(rows: RowScores) -> float:
    truth = rows["truth"]
    if len(truth) < 2:
        return 0.0
    errors = float(((truth - rows["answer"]) ** 2).sum())
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1 - errors / spread if spread else float(errors == 0)


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    return f"Off by {number(values['mae'])} on average over {values['num_rows']:,} {rows}."


def _details(values: Mapping[str, Any]) -> list[str]:
    return [
        f"Predictions and truth correlate by {number(values['pearson'])} (Pearson) and "
        f"{number(values['spearman'])} (Spearman); R² is {number(values['r2'])}."
    ]


def _similarity_sentence(values: Mapping[str, Any], rows: str) -> str:
    return (
        f"Cosines and true similarities rank pairs alike by {number(values['spearman'])} (Spearman's correlation) over "
        f"{values['num_rows']:,} {rows}."
    )


METRICS = (
    Metric("pearson", "max", "linear correlation of predictions and truth", False, _pearson),
    Metric("spearman", "max", "correlation of the ranks of predictions and truth", False, _spearman),
    Metric("mae", "min", "mean absolute error, in the unit of the target", True, Mean("error")),
    Metric("rmse", "min", "root of the mean squared error, in the unit of the target", False, _rmse),
    Metric("r2", "max", "share of the variance of the target that is explained", False, _r2),
)
KIND = Kind("regression", METRICS, _sentence, _details)
SIMILARITY_METRICS = tuple(dataclasses.replace(metric, headline=metric.name == "spearman") for metric in METRICS)
SIMILARITY = Kind("similarity", SIMILARITY_METRICS, _similarity_sentence, _details)
