"""Ordinal classification: classes that are ranks, such as stars or urgency, where a near miss is better than a far one.

The network asks "above this rank?" at each rank, given that it is above the one before; the answers' probabilities are
those of a proper distribution whose ranks stay in order.

Reference:
    Shi, Cao and Raschka, 2021, "Deep neural networks for rank-consistent ordinal regression based on conditional
    probabilities" (CORN), https://arxiv.org/abs/2111.08851
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import task_columns
from kft.data.faults import Faults
from kft.data.table import Table
from kft.data.targets import INTEGER
from kft.evaluation import metrics
from kft.models import heads
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks import classify
from kft.tasks.task import Task, Vocabulary
from kft.text import decode, tokens


def check(table: Table) -> None:
    """Refuses labels that are no whole numbers."""
    faults = Faults(len(table))
    for index, label in enumerate(table.texts("label")):
        if not re.match(INTEGER, label):
            faults.add(
                index,
                f"{table.where(index)}: the label is {label!r}; task ordinal expects whole numbers, such as 1 to 5, "
                "whose order is that of the classes. Number them, or use task=classify.",
            )
    faults.refuse()


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """One logit for each rank but the lowest: is it above the rank before?"""
    return heads.sequence_model(preset, len(vocabulary["labels"]) - 1, **settings)


class ConditionalCrossentropy(keras.losses.Loss):
    """Binary cross-entropy at each rank that a row has reached: is it above, or does it stop here?"""

    def __init__(self) -> None:
        super().__init__(name="conditional_crossentropy", reduction="sum")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        logits = ops.cast(y_pred, "float32")  # (batch, ranks - 1)
        ranks = ops.arange(logits.shape[-1], dtype="int32")
        reached = ops.cast(y_true, "int32")[:, None]
        is_above = ops.cast(reached > ranks, "float32")
        # log(1 + exp(x)) - x * target, for the ranks that the row came to.
        losses = ops.softplus(logits) - logits * is_above
        return ops.sum(losses * ops.cast(reached >= ranks, "float32"), axis=-1)


def loss(recipe: Recipe, vocabulary: Vocabulary) -> ConditionalCrossentropy:
    """The loss of CORN, summed over the ranks."""
    return ConditionalCrossentropy()


def answers(outputs: Any, vocabulary: Vocabulary, extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """`label`, `score` and `scores` as for classes, and `value`, the mean rank."""
    return decode.ranks(outputs, vocabulary["labels"])


def score(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> dict[str, Any]:
    """The metrics of classes, and how far off the ranks are."""
    return metrics.ordinal(found["scores"], classify.targets(table, vocabulary), vocabulary["labels"])


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those of the right answers."""
    labels = vocabulary["labels"][:3]  # two have a metric that more have not
    return list(metrics.scalars(metrics.ordinal(np.eye(len(labels)), range(len(labels)), labels)))


ORDINAL = Task(
    name="ordinal",
    columns=task_columns.COLUMNS["ordinal"],
    check=check,
    vocabulary=classify.vocabulary,
    targets=classify.targets,
    features=tokens.encode,
    head=head,
    loss=loss,
    answers=answers,
    score=score,
    metrics=metric_names,
    shown=classify.worst,
    best_by=("qwk",),
    served_as="classify",
)
