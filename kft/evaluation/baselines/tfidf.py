"""Texts as TF-IDF of their words, and logistic regression on it."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion

from kft.errors import DataError

# Chinese, Japanese, Thai, Lao, Burmese and Khmer put no spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
_UNSPACED_SHARE = 0.1

# Punctuation is a word too, so that "!" counts and the vowel signs of Indic scripts are not lost.
_WORD = r"\w+|[^\w\s]"

NUM_FOLDS = 3
DEFAULT_INVERSE_PENALTY = 10.0
_SEARCH_SIZE = 10_000
_MAX_FEATURES = 200_000


def vectorized(texts: Sequence[str]) -> tuple[FeatureUnion, Any]:
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


def logistic(inverse_penalty: float, seed: int) -> OneVsRestClassifier:
    """Logistic regression, one label against the rest."""
    # One small problem per label, in the dual, whose size is the number of rows: for 77 labels some 30 times faster
    # than one joint problem.
    dual = LogisticRegression(C=inverse_penalty, solver="liblinear", dual=True, max_iter=30, random_state=seed)
    return OneVsRestClassifier(dual)


@contextmanager
def unconverged() -> Iterator[None]:
    """Without the warnings of a solver that stops early, which costs an opponent nothing that counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # A label that all rows have, or none, is answered as a constant.
        warnings.filterwarnings("ignore", message=r"Label .* is present in all training examples")
        warnings.filterwarnings("ignore", message=r"Label not .* is present in all training examples")
        yield


def best_inverse_penalty(features: Any, ids: np.ndarray, seed: int) -> float:
    """The `C` of four with the best accuracy over three folds; 10 where a search would take long, or cannot be."""
    rows = np.flatnonzero(np.bincount(ids)[ids] >= NUM_FOLDS)
    num_labels = len(np.unique(ids[rows]))
    if num_labels < 2 or len(rows) * num_labels >= _SEARCH_SIZE:
        return DEFAULT_INVERSE_PENALTY
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    grid = {"estimator__C": [1.0, 3.0, 10.0, 30.0]}
    search = GridSearchCV(logistic(1.0, seed), grid, scoring="accuracy", cv=folds, refit=False)
    with unconverged():
        return float(search.fit(features[rows], ids[rows]).best_params_["estimator__C"])
