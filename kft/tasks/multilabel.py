"""Multi-label classification: any number of labels, or none, for one text or a pair.

Each label has its own threshold, tuned on the validation rows after training and shipped with the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import clean, task_columns
from kft.data.store import Store
from kft.data.table import Table
from kft.errors import DataError, did_you_mean
from kft.evaluation import metrics, shown
from kft.models import heads
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.task import Task, Vocabulary
from kft.text import decode, tokens

THRESHOLD = 0.5
FEWEST = 5  # validation rows with and without a label, below which its threshold stays at a half


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
    """The labels of train in the order of code points, each with its threshold."""
    labels = sorted({label for row in parts["train"].texts("label") for label in row})
    if not labels:
        raise DataError(f"{parts['train'].source}: no row has a label; expected at least one label in some rows.")
    learnt: Vocabulary = {"labels": labels, "thresholds": [THRESHOLD] * len(labels)}
    for table in parts.values():
        targets(table, learnt)
    return learnt


def targets(table: Table, vocabulary: Vocabulary, store: Store | None = None) -> np.ndarray:
    """1 for each label that a row has: `(rows, labels)` float32.

    Raises:
        DataError: A label that training never saw.
    """
    ids = {label: i for i, label in enumerate(vocabulary["labels"])}
    found = np.zeros((len(table), len(ids)), np.float32)
    for index, row in enumerate(table.texts("label")):
        for label in row:
            if label not in ids:
                raise DataError(
                    f"{table.where(index)}: label {label!r} is unknown in the training data."
                    f"{did_you_mean(label, ids)} Expected some of: {clean.listed_names(vocabulary['labels'])}."
                )
            found[index, ids[label]] = 1
    return found


class LabelCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of each label's logit, summed over the labels."""

    def __init__(self) -> None:
        super().__init__(name="binary_crossentropy", reduction="sum")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        logits = ops.cast(y_pred, "float32")  # (batch, labels)
        return ops.sum(ops.softplus(logits) - logits * ops.cast(y_true, "float32"), axis=-1)


def loss(recipe: Recipe, vocabulary: Vocabulary) -> LabelCrossentropy:
    """Binary cross-entropy."""
    return LabelCrossentropy()


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """A model with one logit for each label."""
    return heads.sequence_model(preset, len(vocabulary["labels"]), **settings)


def answers(outputs: Any, vocabulary: Vocabulary, extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """`labels` of each row, likeliest first, and `scores`."""
    return decode.label_sets(outputs, vocabulary["labels"], vocabulary["thresholds"])


def score(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> dict[str, Any]:
    """F1 over labels and rows, exact sets, ranking."""
    return metrics.multilabel(
        found["scores"], vocabulary["thresholds"], targets(table, vocabulary), vocabulary["labels"]
    )


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those of the right answers."""
    right = np.eye(1)
    return list(metrics.scalars(metrics.multilabel(right, [THRESHOLD], right, vocabulary["labels"][:1])))


def worst(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> tuple[list[Any], list[Any]]:
    """The sets that are furthest from the truth."""
    return shown.label_sets(found["labels"], found["scores"], table, targets(table, vocabulary), vocabulary["labels"])


def calibrate(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary with the threshold of each label that gives the best F1 on these rows.

    A label with fewer than five rows of either kind keeps its threshold.
    """
    truth = targets(table, vocabulary)
    tuned = [
        metrics.best_threshold(scores, is_there) if FEWEST <= is_there.sum() <= len(is_there) - FEWEST else before
        for scores, is_there, before in zip(found["scores"].T, truth.T, vocabulary["thresholds"], strict=True)
    ]
    return {**vocabulary, "thresholds": tuned}


MULTILABEL = Task(
    name="multilabel",
    columns=task_columns.COLUMNS["multilabel"],
    vocabulary=vocabulary,
    targets=targets,
    features=tokens.encode,
    head=head,
    loss=loss,
    answers=answers,
    score=score,
    metrics=metric_names,
    shown=worst,
    best_by=("micro_f1",),
    served_as="classify",
    calibrate=calibrate,
)
