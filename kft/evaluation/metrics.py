"""Numbers that say how good answers are, over a whole set at once and in float64.

Every value is a plain, finite Python number, so a metrics dict goes to JSON as it is. Where a metric is
undefined the convention of scikit-learn's `zero_division=0` holds: it is 0.0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kft.errors import DataError, RecipeError, did_you_mean

DIRECTIONS = {
    "loss": "min",
    "accuracy": "max",
    "f1": "max",
    "macro_f1": "max",
    "micro_f1": "max",
    "weighted_f1": "max",
    "samples_f1": "max",
    "hamming_loss": "min",
    "lrap": "max",
    "map": "max",
    "qwk": "max",
    "mcc": "max",
    "log_loss": "min",
    "pearson": "max",
    "spearman": "max",
    "r2": "max",
    "mae": "min",
    "token_accuracy": "max",
    "entity_precision": "max",
    "entity_recall": "max",
    "entity_f1": "max",
    "macro_entity_f1": "max",
    "exact_match": "max",
    "intent_accuracy": "max",
    "recall_at_1": "max",
    "recall_at_10": "max",
    "mrr": "max",
    "ndcg_at_10": "max",
    "perplexity": "min",
    "rouge1": "max",
    "rouge2": "max",
    "rougeL": "max",
    "bleu": "max",
    "chrf": "max",
    "rmse": "min",
    "pair_accuracy": "max",
}

MOST_LABELS = 100
"""Labels past which there is no confusion matrix: it grows with their square."""

# A softmax in bfloat16 is off by up to 0.4%; logits are off by far more.
_SUM_TOLERANCE = 0.01


def classification(scores: ArrayLike, targets: ArrayLike, labels: Sequence[str]) -> dict[str, Any]:
    """How well probabilities name the true label of each row.

    The answer of a row is its most probable label, the first one on a tie. The averages of F1 run over
    the labels that occur as truth or as answer, as scikit-learn's defaults do, so a label missing from
    a small set costs nothing. A label that was never answered has precision 0.0, one that never occurs
    has recall 0.0, and MCC is 0.0 when all answers or all truths are the same label. Log loss is in
    nats; a probability of 0 counts as 2.2e-16.

    Args:
        scores: `(rows, labels)` float probabilities, each row summing to 1. Softmax outputs, not logits.
        targets: `(rows,)` int, ids of the true labels in `[0, len(labels))`.
        labels: The names of the labels in the order of their ids, two or more.

    Returns:
        accuracy, macro_f1, micro_f1, weighted_f1, mcc, log_loss, num_rows; `f1` of `labels[1]` when there
        are two labels (as GLUE reports MRPC); `per_class` as `{label: {precision, recall, f1, support}}`;
        `confusion` as rows of counts, one row per true label, one column per answered label; past 100 labels in its
        place `confused`, the most frequent mistakes as `[truth, answer, rows]`.

    Raises:
        DataError: If the shapes disagree, a row does not sum to 1, or a target is not a label id.

    References:
        MCC for many labels: Gorodkin, 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006

    >>> found = classification([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 1, 1], ["no", "yes"])
    >>> found["confusion"]
    [[1, 0], [1, 1]]
    >>> round(found["f1"], 4), round(found["accuracy"], 4)
    (0.6667, 0.6667)
    """
    from sklearn import metrics as sk

    names = [str(label) for label in labels]
    scores, targets = _checked_scores(scores, targets, names)
    answers = scores.argmax(axis=1)
    ids = list(range(len(names)))
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        targets, answers, labels=ids, average=None, zero_division=0.0
    )
    found: dict[str, Any] = {"accuracy": float(sk.accuracy_score(targets, answers))}
    for average in ("macro", "micro", "weighted"):
        found[f"{average}_f1"] = float(sk.f1_score(targets, answers, average=average, zero_division=0.0))
    if len(names) == 2:
        found["f1"] = float(f1[1])
    varies = len(np.union1d(targets, answers)) > 1
    found["mcc"] = float(sk.matthews_corrcoef(targets, answers)) if varies else 0.0
    found["log_loss"] = _log_loss(scores, targets)
    found["num_rows"] = len(targets)
    found["per_class"] = {
        name: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, name in enumerate(names)
    }
    if len(names) <= MOST_LABELS:
        found["confusion"] = sk.confusion_matrix(targets, answers, labels=ids).tolist()
    else:
        found["confused"] = _confused(targets, answers, names)
    return found


def _log_loss(scores: np.ndarray, targets: np.ndarray) -> float:
    """The mean of the negative logarithms of what the true labels were given, clipped as scikit-learn does."""
    smallest = np.finfo(np.float64).eps
    given = np.clip(scores[np.arange(len(targets)), targets], smallest, 1 - smallest)
    return float(-np.log(given).mean())


def _confused(targets: np.ndarray, answers: np.ndarray, names: Sequence[str]) -> list[list[Any]]:
    """`[truth, answer, rows]` of the most frequent mistakes, without a matrix of all pairs."""
    is_wrong = targets != answers
    pairs, counts = np.unique(targets[is_wrong] * len(names) + answers[is_wrong], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_LABELS]
    return [[names[pairs[i] // len(names)], names[pairs[i] % len(names)], int(counts[i])] for i in order]


def ordinal(scores: ArrayLike, targets: ArrayLike, labels: Sequence[str]) -> dict[str, Any]:
    """How well probabilities name the true rank, and how far off they are where they do not.

    Args:
        scores: `(rows, ranks)` float probabilities, each row summing to 1.
        targets: `(rows,)` int, ids of the true ranks.
        labels: The ranks as whole numbers, from low to high.

    Returns:
        What `classification` gives, and `qwk`, Cohen's kappa with quadratic weights over the ids (0.0 where truth and
        answers are all one rank), and `mae`, the mean distance in the numbers of the labels.

    References:
        Cohen, 1968, https://doi.org/10.1037/h0026256
    """
    from sklearn import metrics as sk

    found = classification(scores, targets, labels)
    answers, truth = np.asarray(scores).argmax(axis=1), np.asarray(targets)
    numbers = np.array([float(label) for label in labels])
    varies = len(np.union1d(truth, answers)) > 1
    kappa = sk.cohen_kappa_score(truth, answers, labels=range(len(labels)), weights="quadratic") if varies else 0.0
    return {**found, "qwk": float(kappa), "mae": float(np.abs(numbers[answers] - numbers[truth]).mean())}


def multilabel(
    scores: ArrayLike, thresholds: Sequence[float], targets: ArrayLike, labels: Sequence[str]
) -> dict[str, Any]:
    """How well probabilities name the set of labels of each row.

    Args:
        scores: `(rows, labels)` float, each probability for itself.
        thresholds: The least probability of an answer, for each label.
        targets: `(rows, labels)` 1 where a row has the label, else 0.
        labels: The names of the labels.

    Returns:
        accuracy (rows whose whole set is right), micro_f1, macro_f1 (over all labels, 0 for one that neither occurs nor
        is answered, as scikit-learn has it), weighted_f1, samples_f1 (mean over rows; 1 where
        there is no label and none was answered), hamming_loss, lrap (label ranking average precision), map (mean over
        the labels that occur of the average precision), num_rows, and `per_class` as for `classification`.

    Raises:
        DataError: If the shapes disagree or there are no rows.
    """
    from sklearn import metrics as sk

    scores, truth = np.asarray(scores, np.float64), np.asarray(targets).astype(int)
    if scores.shape != truth.shape or truth.ndim != 2 or not len(truth) or truth.shape[1] != len(labels):
        raise DataError(
            f"Found scores of shape {scores.shape} and targets of shape {truth.shape}; expected (rows, {len(labels)}) "
            "for both with at least one row."
        )
    answers = (scores >= np.asarray(thresholds)).astype(int)
    accuracy, hamming = float((truth == answers).all(axis=1).mean()), float((truth != answers).mean())
    if len(labels) == 1:
        # scikit-learn takes a single column for classes. One that is never right nor answered changes no average.
        truth, answers = (np.pad(bits, ((0, 0), (0, 1))) for bits in (truth, answers))
        scores = np.pad(scores, ((0, 0), (0, 1)), constant_values=-1.0)
    precision, recall, f1, support = sk.precision_recall_fscore_support(truth, answers, average=None, zero_division=0.0)
    occurs = truth.any(axis=0)
    averages = [sk.average_precision_score(truth[:, i], scores[:, i]) for i in np.flatnonzero(occurs)]
    return {
        "accuracy": accuracy,
        "micro_f1": float(sk.f1_score(truth, answers, average="micro", zero_division=0.0)),
        "macro_f1": float(np.mean(f1[: len(labels)])),
        "weighted_f1": float(sk.f1_score(truth, answers, average="weighted", zero_division=0.0)),
        "samples_f1": float(sk.f1_score(truth, answers, average="samples", zero_division=1.0)),
        "hamming_loss": hamming,
        "lrap": float(sk.label_ranking_average_precision_score(truth, scores)),
        "map": float(np.mean(averages)) if averages else 0.0,
        "num_rows": len(truth),
        "per_class": {
            str(label): {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, label in enumerate(labels)
        },
    }


def of_sets(name: str, truth: set[Any], answers: set[Any]) -> dict[str, float]:
    """Precision, recall and F1 of what was found, as `<name>_precision` and so on; 0 where nothing was right."""
    from sklearn import metrics as sk

    either = [*(truth | answers)] or [None]
    given = [[one in found for one in either] for found in (truth, answers)]
    scores = sk.precision_recall_fscore_support(*given, average="binary", zero_division=0.0)
    return {f"{name}_{kind}": float(value) for kind, value in zip(("precision", "recall", "f1"), scores, strict=False)}


def best_threshold(scores: ArrayLike, targets: ArrayLike) -> float:
    """The threshold on probabilities that gives the best F1: half way between two scores, the highest of equals.

    Args:
        scores: `(rows,)` float in [0, 1].
        targets: `(rows,)` 1 for the rows to find, else 0; some of either.

    >>> best_threshold([0.1, 0.4, 0.6, 0.9], [0, 1, 1, 1])
    0.25
    """
    from sklearn import metrics as sk

    precision, recall, cuts = sk.precision_recall_curve(np.asarray(targets), np.asarray(scores, np.float64))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = len(cuts) - 1 - int(np.argmax(f1[:-1][::-1]))
    below = cuts[best - 1] if best else 0.0
    return float((below + cuts[best]) / 2)


def regression(values: ArrayLike, targets: ArrayLike) -> dict[str, Any]:
    """How close predicted numbers come to the true ones.

    Correlations are 0.0 when the predictions or the targets are all the same number (to 12 digits) or
    there is one row. R2 is 0.0 for one row; for equal targets it is 1.0 when every prediction is exact
    and 0.0 otherwise. `mae` and `rmse` are in the unit of the targets.

    Args:
        values: `(rows,)` float, the predictions.
        targets: `(rows,)` float, the truth.

    Returns:
        pearson, spearman, mae, rmse, r2 and num_rows.

    Raises:
        DataError: If the shapes disagree, there are no rows, or a number is not finite.

    >>> regression([1.0, 2.0, 3.0], [1.0, 2.0, 5.0])["rmse"]
    1.1547005383792515
    """
    from scipy import stats
    from sklearn import metrics as sk

    values, targets = _checked_numbers(values, targets)
    varies = not (_constant(values) or _constant(targets))
    return {
        "pearson": float(stats.pearsonr(values, targets).statistic) if varies else 0.0,
        "spearman": float(stats.spearmanr(values, targets).statistic) if varies else 0.0,
        "mae": float(sk.mean_absolute_error(targets, values)),
        "rmse": float(sk.root_mean_squared_error(targets, values)),
        "r2": float(sk.r2_score(targets, values)) if len(values) > 1 else 0.0,
        "num_rows": len(values),
    }


def perplexity(loss: float) -> float:
    """The exponential of a mean loss in nats; that of 700 where it is higher, as e to the power of more is no float.

    >>> perplexity(0.0)
    1.0
    """
    return math.exp(min(loss, 700.0))


def direction(metric_name: str) -> str:
    """Whether a larger ("max") or a smaller ("min") value of a metric is better.

    The prefix `val_`, which Keras puts before metrics of the validation set, may be there or not.

    Raises:
        RecipeError: If there is no metric of that name.

    >>> direction("macro_f1"), direction("val_loss")
    ('max', 'min')
    """
    name = metric_name.removeprefix("val_")
    if name not in DIRECTIONS:
        raise RecipeError(
            f"There is no metric {metric_name!r}.{did_you_mean(name, DIRECTIONS)} "
            f"Choose one of: {', '.join(DIRECTIONS)}."
        )
    return DIRECTIONS[name]


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers of a metrics dict that say how good a model is: no tables, no row count.

    >>> scalars({"accuracy": 1, "num_rows": 3, "confusion": [[3]]})
    {'accuracy': 1.0}
    """
    return {
        name: float(value) for name, value in metrics.items() if isinstance(value, int | float) and name != "num_rows"
    }


def most_confused(matrix: Sequence[Sequence[int]], labels: Sequence[str], count: int) -> list[tuple[str, str, int]]:
    """The `(truth, answer, rows)` of the most frequent mistakes, largest first.

    >>> most_confused([[5, 1], [3, 2]], ["no", "yes"], count=1)
    [('yes', 'no', 3)]
    """
    mistakes = np.array(matrix, dtype=np.int64)
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, mistakes.shape), strict=True)
    return [(str(labels[i]), str(labels[j]), int(mistakes[i, j])) for i, j in pairs if mistakes[i, j] > 0]


def _checked_scores(scores: ArrayLike, targets: ArrayLike, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 with rows summing to 1, and targets as int64; or a DataError."""
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"Found the labels {names}; expected two or more, each named once.")
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if len(targets) == 0 or scores.shape != (*targets.shape, len(names)):
        raise DataError(
            f"Found scores of shape {scores.shape} and targets of shape {targets.shape}; expected "
            f"(rows, {len(names)}) and (rows,) with at least one row. Give one score per label to each row."
        )
    if not np.issubdtype(targets.dtype, np.integer):
        raise DataError(f"Found targets of type {targets.dtype}; expected label ids, which are integers.")
    _refuse_row((targets < 0) | (targets >= len(names)), targets, f"a label id from 0 to {len(names) - 1}")
    sums = scores.sum(axis=1, keepdims=True)
    # Written so that NaN, for which every comparison is false, is refused too.
    usable = (scores >= 0).all(axis=1) & (np.abs(sums[:, 0] - 1) <= _SUM_TOLERANCE)
    _refuse_row(~usable, scores, "probabilities from 0 to 1 that sum to 1 (a softmax, not logits)")
    return scores / sums, targets.astype(np.int64)


def _checked_numbers(values: ArrayLike, targets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two float64 arrays of one length with finite numbers; or a DataError."""
    values, targets = np.asarray(values, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if values.ndim != 1 or values.shape != targets.shape or len(values) == 0:
        raise DataError(
            f"Found predictions of shape {values.shape} and targets of shape {targets.shape}; expected "
            "(rows,) for both with at least one row. Give one predicted number for each row."
        )
    _refuse_row(~np.isfinite(values), values, "a finite prediction")
    _refuse_row(~np.isfinite(targets), targets, "a finite target")
    return values, targets


def _refuse_row(bad: np.ndarray, found: np.ndarray, expected: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"Row {row} (counting from 0) has {found[row].tolist()}; expected {expected}.")


def _constant(numbers: np.ndarray) -> bool:
    return bool(np.ptp(numbers) <= 1e-12 * np.abs(numbers).max())
