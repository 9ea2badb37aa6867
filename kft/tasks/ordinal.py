"""Ordinal classification: classes that are ranks, such as stars or urgency, where a near miss is better than a far one.

The network asks "above this rank?" at each rank, given that it is above the one before; the answers' probabilities are
those of a proper distribution whose ranks stay in order.

Reference:
    Shi, Cao and Raschka, 2021, "Deep neural networks for rank-consistent ordinal regression based on conditional
    probabilities" (CORN), https://arxiv.org/abs/2111.08851
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from kft.data import task_columns
from kft.data.faults import Faults
from kft.data.table import Table
from kft.data.targets import INTEGER
from kft.evaluation import metric, ordinal_classes
from kft.losses import row_losses
from kft.losses.objective import Objective, Term
from kft.recipe import Recipe
from kft.tasks import classify
from kft.tasks.task import Answers, Evaluator, Examples, Forward, Labels, Problem, Schema, Task
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


def loss(outputs: Any, targets: Any) -> Any:
    """The loss of CORN, summed over the ranks."""
    return row_losses.conditional_crossentropy(outputs["logits"], targets["label"])


def evaluator_of(names: list[str]) -> Evaluator:
    """The metrics of classes, and how far off the ranks are."""

    def scored(answers: Answers, table: Table) -> dict[str, Any]:
        return ordinal_classes.scored(answers["scores"], classify.class_ids(table, names), names)

    few = names[:3]  # two have a metric that more have not
    single = list(metric.scalars(ordinal_classes.scored(np.eye(len(few)), range(len(few)), few)))
    return Evaluator(single, ("qwk",), of_answers=scored, view=classify.view_of(names))


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of telling a rank: one logit for each but the lowest, is it above the rank before?"""
    names = labels["labels"]
    return Problem(
        labels,
        SCHEMA,
        Examples(tokens.encode, classify.targets_of(names)),
        classify.build_of(len(names) - 1),
        Objective((Term("rank", loss),)),
        # `label`, `score` and `scores` as for classes, and `value`, the mean rank.
        Forward(lambda outputs, extras, texts: decode.ranks(outputs["logits"], names), {"scores": names}, "classify"),
        evaluator_of(names),
    )


SCHEMA = Schema(task_columns.COLUMNS["ordinal"], check=check)
ORDINAL = Task("ordinal", SCHEMA, classify.learn, restore)
