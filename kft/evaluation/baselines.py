"""Opponents without a pretrained network: what a model must beat to be worth its weight.

Each answers like a model does and is scored by the same `kft.evaluation.metrics`, so the numbers compare.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion

from kft.errors import DataError
from kft.evaluation import metrics

# Chinese, Japanese, Thai, Lao, Burmese and Khmer put no spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
_UNSPACED_SHARE = 0.1

# Punctuation is a word too, so that "!" counts and the vowel signs of Indic scripts are not lost.
_WORD = r"\w+|[^\w\s]"

_NUM_FOLDS = 3
_DEFAULT_INVERSE_PENALTY = 10.0
_SEARCH_ROWS = 10_000
_MAX_FEATURES = 200_000


def majority(
    train_labels: Sequence[str], test_labels: Sequence[str], *, labels: Sequence[str] | None = None
) -> dict[str, Any]:
    """Metrics of always answering the most frequent training label, with the training shares as scores.

    Args:
        train_labels: The labels learned from.
        test_labels: The labels scored on.
        labels: All labels in the order of a model's ids, so that `f1` speaks of the same label; by default
            every label seen, sorted.

    Returns:
        What `kft.evaluation.metrics.classification` returns.

    Raises:
        DataError: If there are no rows, fewer than two labels, or a label that `labels` does not name.

    >>> majority(["yes", "yes", "no"], ["yes", "no"])["accuracy"]
    0.5
    """
    names, train_ids, test_ids = _label_ids(train_labels, test_labels, labels)
    model = DummyClassifier(strategy="prior").fit(np.zeros((len(train_ids), 1)), train_ids)
    return _scored(model, np.zeros((len(test_ids), 1)), test_ids, names)


def bag_of_words(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    test_texts: Sequence[str],
    test_labels: Sequence[str],
    seed: int,
    *,
    labels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Metrics of logistic regression on TF-IDF of words and word pairs.

    Texts in a script without spaces between words get character 1-3-grams beside the words. The inverse
    penalty `C` is the one of four with the best accuracy over three folds of the training rows (10,000 of
    them at most; labels with fewer than three rows sit the search out, and `C` is 10 when fewer than two
    labels are left).

    Args:
        train_texts: The texts learned from; a row of several texts is joined to one.
        train_labels: Their labels.
        test_texts: The texts scored on.
        test_labels: Their labels.
        seed: Seed of the folds.
        labels: As in `majority`.

    Returns:
        What `kft.evaluation.metrics.classification` returns.

    Raises:
        DataError: As `majority`; or if the training rows have one label only, texts and labels differ in
            number, or no training text has a character to learn from.
    """
    _check_rows(train_texts, train_labels, test_texts, test_labels)
    names, train_ids, test_ids = _label_ids(train_labels, test_labels, labels)
    if len(set(train_ids.tolist())) < 2:
        raise DataError(
            f"Found only the label {names[train_ids[0]]!r} in the training rows; expected two or more. "
            "Add rows with other labels."
        )
    vectorizer, train_features = _vectorized(train_texts)
    inverse_penalty = _best_inverse_penalty(train_features, train_ids, seed)
    model = _logistic(inverse_penalty).fit(train_features, train_ids)
    return _scored(model, vectorizer.transform(test_texts), test_ids, names)


def mean(train_targets: Sequence[float], test_targets: Sequence[float]) -> dict[str, Any]:
    """Metrics of always answering the mean of the training targets, as `metrics.regression` gives them.

    Raises:
        DataError: If there are no rows or a target is not finite.

    >>> mean([1.0, 3.0], [2.0, 4.0])["mae"]
    1.0
    """
    known = _numbers(train_targets)
    model = DummyRegressor().fit(np.zeros((len(known), 1)), known)
    return metrics.regression(model.predict(np.zeros((len(test_targets), 1))), test_targets)


def bag_of_words_regression(
    train_texts: Sequence[str],
    train_targets: Sequence[float],
    test_texts: Sequence[str],
    test_targets: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """Metrics of ridge regression on the features of `bag_of_words`.

    The penalty is the one of five with the smallest squared error over three folds of the training rows
    (10,000 of them at most), or 1 when there are fewer than three rows.

    Returns:
        What `kft.evaluation.metrics.regression` returns.

    Raises:
        DataError: If texts and targets differ in number, a target is not finite, or no training text has
            a character to learn from.
    """
    _check_rows(train_texts, train_targets, test_texts, test_targets)
    known = _numbers(train_targets)
    vectorizer, train_features = _vectorized(train_texts)
    model = Ridge(solver="lsqr")
    if len(known) >= _NUM_FOLDS:
        folds = KFold(_NUM_FOLDS, shuffle=True, random_state=seed)
        grid = {"alpha": [0.1, 0.3, 1.0, 3.0, 10.0]}
        search = GridSearchCV(model, grid, scoring="neg_mean_squared_error", cv=folds, refit=False)
        rows = _search_rows(np.arange(len(known)), seed)
        model.set_params(**search.fit(train_features[rows], known[rows]).best_params_)
    model.fit(train_features, known)
    return metrics.regression(model.predict(vectorizer.transform(test_texts)), test_targets)


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


def _scored(model: Any, test_features: Any, test_ids: np.ndarray, names: list[str]) -> dict[str, Any]:
    """Metrics of a fitted classifier; a label that it never saw has score 0."""
    scores = np.zeros((len(test_ids), len(names)))
    scores[:, model.classes_] = model.predict_proba(test_features)
    return metrics.classification(scores, test_ids, names)


def _logistic(inverse_penalty: float) -> OneVsRestClassifier:
    # One small liblinear problem per label: for 77 labels some ten times faster than one joint problem.
    return OneVsRestClassifier(LogisticRegression(C=inverse_penalty, solver="liblinear"))


def _best_inverse_penalty(features: Any, ids: np.ndarray, seed: int) -> float:
    rows = _search_rows(np.arange(len(ids)), seed)
    rows = rows[np.bincount(ids[rows])[ids[rows]] >= _NUM_FOLDS]
    if len(np.unique(ids[rows])) < 2:
        return _DEFAULT_INVERSE_PENALTY
    folds = StratifiedKFold(_NUM_FOLDS, shuffle=True, random_state=seed)
    grid = {"estimator__C": [1.0, 3.0, 10.0, 30.0]}
    search = GridSearchCV(_logistic(1.0), grid, scoring="accuracy", cv=folds, refit=False)
    return float(search.fit(features[rows], ids[rows]).best_params_["estimator__C"])


def _search_rows(rows: np.ndarray, seed: int) -> np.ndarray:
    """At most `_SEARCH_ROWS` of the rows, so that the search stays quick on large sets."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:_SEARCH_ROWS])


def _vectorized(texts: Sequence[str]) -> tuple[FeatureUnion, Any]:
    """A vectorizer fitted to the texts, and their sparse features `(rows, features)`."""
    together = "".join(texts)
    num_characters = sum(not character.isspace() for character in together)
    if num_characters == 0:
        raise DataError("Found only empty training texts; expected words. Check which column holds the text.")
    shared = {"sublinear_tf": True, "max_features": _MAX_FEATURES}
    parts = [("words", TfidfVectorizer(token_pattern=_WORD, ngram_range=(1, 2), **shared))]
    if len(_UNSPACED.findall(together)) > _UNSPACED_SHARE * num_characters:
        parts.append(("characters", TfidfVectorizer(analyzer="char", ngram_range=(1, 3), **shared)))
    vectorizer = FeatureUnion(parts)
    return vectorizer, vectorizer.fit_transform(texts).tocsr()


def _check_rows(train_texts: Sequence, train_truth: Sequence, test_texts: Sequence, test_truth: Sequence) -> None:
    for name, texts, truth in (("training", train_texts, train_truth), ("test", test_texts, test_truth)):
        if len(texts) != len(truth):
            raise DataError(
                f"Found {len(texts)} {name} texts and {len(truth)} answers to them; expected as many of both."
            )


def _numbers(targets: Sequence[float]) -> np.ndarray:
    numbers = np.asarray(targets, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) == 0 or not np.isfinite(numbers).all():
        raise DataError("Found training targets that are missing or not finite; expected one number per row.")
    return numbers
