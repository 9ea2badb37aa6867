"""Baselines that learn from words: the most frequent class, logistic regression and ridge regression on TF-IDF.

Each answers like a model does and is scored by the same functions, so the numbers compare.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold

from kft.errors import DataError
from kft.evaluation import classification, label_sets, regression
from kft.evaluation.baselines.tfidf import (
    DEFAULT_INVERSE_PENALTY,
    NUM_FOLDS,
    best_inverse_penalty,
    logistic,
    unconverged,
    vectorized,
)

Scored = Callable[[np.ndarray, np.ndarray, Sequence[str]], dict[str, Any]]
"""(probabilities, ids of the true labels, labels) to metrics."""

_SEARCH_ROWS = 2_000


def majority(
    train_labels: Sequence[str],
    test_labels: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    scored: Scored = classification.scored,
) -> dict[str, Any]:
    """Metrics of always answering the most frequent training label, with the training shares as scores.

    Args:
        train_labels: The labels learned from.
        test_labels: The labels scored on.
        labels: All labels in the order of a model's ids, so that `f1` speaks of the same label; by default
            every label seen, sorted.
        scored: The metrics of probabilities; those of ranks for ordinal classes.

    Returns:
        What `scored` returns.

    Raises:
        DataError: If there are no rows, fewer than two labels, or a label that `labels` does not name.

    >>> majority(["yes", "yes", "no"], ["yes", "no"])["accuracy"]
    0.5
    """
    names, train_ids, test_ids = _label_ids(train_labels, test_labels, labels)
    shares = np.bincount(train_ids, minlength=len(names)) / len(train_ids)
    return scored(np.tile(shares, (len(test_ids), 1)), test_ids, names)


def bag_of_words(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    test_texts: Sequence[str],
    test_labels: Sequence[str],
    seed: int,
    *,
    labels: Sequence[str] | None = None,
    scored: Scored = classification.scored,
) -> dict[str, Any]:
    """Metrics of logistic regression on TF-IDF of words and word pairs.

    Texts in a script without spaces between words get character 1-3-grams beside the words. The inverse
    penalty `C` is the one of four with the best accuracy over three folds of the training rows; labels with
    fewer than three rows sit the search out. It is 10 when fewer than two labels are left, or where a search
    would take long: from 10,000 rows times labels on.

    Args:
        train_texts: The texts learned from; a row of several texts is joined to one.
        train_labels: Their labels.
        test_texts: The texts scored on.
        test_labels: Their labels.
        seed: Seed of the folds.
        labels: As in `majority`.
        scored: As in `majority`.

    Returns:
        What `scored` returns.

    Raises:
        DataError: As `majority`; or if the training rows have one label only, texts and labels differ in
            number, or no training text has a character to learn from.
    """
    _check_rows(train_texts, train_labels, test_texts, test_labels)
    names, train_ids, test_ids = _label_ids(train_labels, test_labels, labels)
    return scored(bag_of_words_scores(train_texts, train_ids, test_texts, names, seed), test_ids, names)


def bag_of_words_scores(
    train_texts: Sequence[str], train_ids: np.ndarray, test_texts: Sequence[str], labels: Sequence[str], seed: int
) -> np.ndarray:
    """The probabilities that `bag_of_words` gives each label, `(rows, labels)`; of one that it never saw 0.

    Args:
        train_texts: The texts learned from.
        train_ids: `(rows,)` the ids of their labels.
        test_texts: The texts to answer.
        labels: The names of the labels.
        seed: Seed of the folds.

    Raises:
        DataError: If the training rows have one label only, or no training text has a character to learn from.
    """
    if len(set(train_ids.tolist())) < 2:
        raise DataError(
            f"Found only the label {labels[train_ids[0]]!r} in the training rows; expected two or more. "
            "Add rows with other labels."
        )
    vectorizer, features = vectorized(train_texts)
    with unconverged():
        model = logistic(best_inverse_penalty(features, train_ids, seed), seed).fit(features, train_ids)
    scores = np.zeros((len(test_texts), len(labels)))
    scores[:, model.classes_] = model.predict_proba(vectorizer.transform(test_texts))
    return scores


def most_frequent_label(train_sets: np.ndarray, test_sets: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Metrics of always answering the label that most rows have, with the training shares as scores.

    Args:
        train_sets: `(rows, labels)` 1 where a row has the label.
        test_sets: Likewise.
        labels: The names of the labels.

    >>> most_frequent_label(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]), ["late", "rude"])["micro_f1"]
    0.5
    """
    shares = np.asarray(train_sets, np.float64).mean(axis=0)
    scores = np.tile(shares, (len(test_sets), 1))
    thresholds = np.where(np.arange(len(labels)) == shares.argmax(), 0.0, 2.0)
    return label_sets.scored(scores, thresholds.tolist(), test_sets, labels)


def bag_of_words_sets(
    train_texts: Sequence[str],
    train_sets: np.ndarray,
    test_texts: Sequence[str],
    test_sets: np.ndarray,
    seed: int,
    *,
    labels: Sequence[str],
    tuning: tuple[Sequence[str], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Metrics of a logistic regression for each label on the features of `bag_of_words`, with `C` of 10.

    Args:
        train_texts: The texts learned from.
        train_sets: `(rows, labels)` 1 where a row has the label.
        test_texts: The texts scored on.
        test_sets: Their labels likewise.
        seed: Of the solver.
        labels: The names of the labels.
        tuning: Texts and labels that the threshold of each label is tuned on; without them it is a half.

    Returns:
        What `kft.evaluation.label_sets.scored` returns.

    Raises:
        DataError: As `bag_of_words`.
    """
    _check_rows(train_texts, train_sets, test_texts, test_sets)
    vectorizer, features = vectorized(train_texts)
    with unconverged():
        # An estimator of several columns takes a single one for classes.
        padded = np.pad(np.asarray(train_sets, int), ((0, 0), (0, 1)))
        model = logistic(DEFAULT_INVERSE_PENALTY, seed).fit(features, padded)

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        return model.predict_proba(vectorizer.transform(texts))[:, : len(labels)]

    thresholds = [0.5] * len(labels)
    if tuning is not None:
        texts, truth = tuning
        scores = probabilities(texts)
        for i in range(len(labels)):
            if 0 < truth[:, i].sum() < len(truth):
                thresholds[i] = label_sets.best_threshold(scores[:, i], truth[:, i])
    return label_sets.scored(probabilities(test_texts), thresholds, test_sets, labels)


def mean(train_targets: ArrayLike, test_targets: ArrayLike) -> dict[str, Any]:
    """Metrics of always answering the mean of the training targets, as `regression.scored` gives them.

    Raises:
        DataError: If there are no rows or a target is not finite.

    >>> mean([1.0, 3.0], [2.0, 4.0])["mae"]
    1.0
    """
    known = _numbers(train_targets)
    return regression.scored(np.full(len(np.asarray(test_targets)), known.mean()), test_targets)


def bag_of_words_regression(
    train_texts: Sequence[str],
    train_targets: ArrayLike,
    test_texts: Sequence[str],
    test_targets: ArrayLike,
    seed: int,
) -> dict[str, Any]:
    """Metrics of ridge regression on the features of `bag_of_words`.

    The penalty is the one of five with the smallest squared error over three folds of the training rows
    (2,000 of them at most), or 1 when there are fewer than three rows.

    Returns:
        What `kft.evaluation.regression.scored` returns.

    Raises:
        DataError: If texts and targets differ in number, a target is not finite, or no training text has
            a character to learn from.
    """
    _check_rows(train_texts, train_targets, test_texts, test_targets)
    known = _numbers(train_targets)
    vectorizer, train_features = vectorized(train_texts)
    model = Ridge(solver="lsqr")
    if len(known) >= NUM_FOLDS:
        folds = KFold(NUM_FOLDS, shuffle=True, random_state=seed)
        grid = {"alpha": [0.1, 0.3, 1.0, 3.0, 10.0]}
        search = GridSearchCV(model, grid, scoring="neg_mean_squared_error", cv=folds, refit=False)
        rows = _search_rows(np.arange(len(known)), seed)
        model.set_params(**search.fit(train_features[rows], known[rows]).best_params_)
    model.fit(train_features, known)
    return regression.scored(model.predict(vectorizer.transform(test_texts)), test_targets)


def _label_ids(
    train_labels: Sequence[str], test_labels: Sequence[str], labels: Sequence[str] | None
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The names of the labels, and the ids of the training and the test labels."""
    train, test = [str(label) for label in train_labels], [str(label) for label in test_labels]
    names = sorted({*train, *test}) if labels is None else [str(label) for label in labels]
    if not train or not test:
        raise DataError(f"Found {len(train)} training and {len(test)} test rows; expected some of each.")
    if unknown := sorted({*train, *test} - set(names)):
        raise DataError(f"Found the labels {unknown}; expected only {names}. Name every label in `labels`.")
    ids = {name: i for i, name in enumerate(names)}
    return names, np.array([ids[label] for label in train]), np.array([ids[label] for label in test])


def _search_rows(rows: np.ndarray, seed: int) -> np.ndarray:
    """At most `_SEARCH_ROWS` of the rows, so that the search stays quick on large sets."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:_SEARCH_ROWS])


def _check_rows(train_texts: Sequence, train_truth: Any, test_texts: Sequence, test_truth: Any) -> None:
    for name, texts, truth in (("training", train_texts, train_truth), ("test", test_texts, test_truth)):
        if len(texts) != len(truth):
            raise DataError(
                f"Found {len(texts)} {name} texts and {len(truth)} answers to them; expected as many of both."
            )


def _numbers(targets: ArrayLike) -> np.ndarray:
    numbers = np.asarray(targets, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) == 0 or not np.isfinite(numbers).all():
        raise DataError("Found training targets that are missing or not finite; expected one number per row.")
    return numbers
