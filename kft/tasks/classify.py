"""Single-label classification of one text, or of a pair (paraphrase, entailment)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import clean, task_columns
from kft.data.store import Store
from kft.data.table import Table
from kft.errors import RecipeError, did_you_mean
from kft.evaluation import metrics, shown
from kft.models import heads
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.task import Task, Vocabulary
from kft.text import decode, tokens


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
    """The class names of train in a stable order; refuses what no classifier can learn from."""
    names = clean.label_names(parts["train"])
    clean.check_labels(parts["train"], {name: part for name, part in parts.items() if name != "train"}, names)
    learnt: Vocabulary = {"labels": names}
    if recipe.class_weights is not None:
        learnt["class_weights"] = _class_weights(recipe.class_weights, targets(parts["train"], learnt), names)
    return learnt


def _class_weights(asked: str | dict[str, float], ids: np.ndarray, names: list[str]) -> list[float]:
    if isinstance(asked, str):
        counts = np.bincount(ids, minlength=len(names))
        return (len(ids) / (len(names) * counts)).tolist()
    unknown = [name for name in asked if name not in names]
    if unknown or set(asked) != set(names) or min(asked.values()) < 0:
        hint = did_you_mean(unknown[0], names) if unknown else ""
        raise RecipeError(f"class_weights: found {asked}, expected one weight >= 0 for each of {names}.{hint}")
    return [float(asked[name]) for name in names]


def targets(table: Table, vocabulary: Vocabulary, store: Store | None = None) -> np.ndarray:
    """Class ids `(rows,)` int32.

    Raises:
        DataError: A label that training never saw.
    """
    clean.check_known(table, vocabulary["labels"], "evaluation")
    ids = {name: i for i, name in enumerate(vocabulary["labels"])}
    return np.array([ids[label] for label in table.texts("label")], np.int32)


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """A classifier of one text or two."""
    return heads.sequence_model(preset, len(vocabulary["labels"]), **settings)


class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits against class ids, with label smoothing.

    Args:
        label_smoothing: Share of each target spread evenly over all classes.

    Reference:
        Szegedy et al., 2016, sec. 7, https://arxiv.org/abs/1512.00567
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__(name="crossentropy", reduction="sum")
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        logits = ops.cast(y_pred, "float32")  # (batch, classes)
        log_probs = ops.log_softmax(logits, axis=-1)
        targets = ops.one_hot(ops.cast(y_true, "int32"), logits.shape[-1])
        targets = targets * (1.0 - self.label_smoothing) + self.label_smoothing / logits.shape[-1]
        return -ops.sum(targets * log_probs, axis=-1)


def loss(recipe: Recipe, vocabulary: Vocabulary) -> SmoothedCrossentropy:
    """Cross-entropy as the recipe asks for it."""
    return SmoothedCrossentropy(recipe.label_smoothing)


def weights(ids: np.ndarray, vocabulary: Vocabulary, store: Store | None = None) -> np.ndarray:
    """The weight of each row's class: a class of weight 2 counts as two rows would."""
    by_class = vocabulary.get("class_weights") or [1.0] * len(vocabulary["labels"])
    return np.asarray(by_class, np.float32)[ids]


def answers(outputs: Any, vocabulary: Vocabulary, extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """`label`, `score` and `scores` of each row."""
    return decode.classes(outputs, vocabulary["labels"])


def score(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> dict[str, Any]:
    """Accuracy, F1, MCC and the rest over all rows."""
    return metrics.classification(found["scores"], targets(table, vocabulary), vocabulary["labels"])


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those of the right answers."""
    labels = vocabulary["labels"][:3]  # two have a metric that more have not
    return list(metrics.scalars(metrics.classification(np.eye(len(labels)), range(len(labels)), labels)))


def worst(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> tuple[list[Any], list[Any]]:
    """Confusion and calibration, and the wrong answers given with most confidence."""
    return shown.classified(found["scores"], table, targets(table, vocabulary), vocabulary["labels"])


CLASSIFY = Task(
    name="classify",
    columns=task_columns.COLUMNS["classify"],
    vocabulary=vocabulary,
    targets=targets,
    features=tokens.encode,
    head=head,
    loss=loss,
    answers=answers,
    score=score,
    metrics=metric_names,
    shown=worst,
    best_by=("accuracy",),
    served_as="classify",
    weights=weights,
)
