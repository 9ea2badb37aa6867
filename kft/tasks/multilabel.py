"""Multi-label classification: any number of labels, or none, for one text or a pair.

Each label has its own threshold, tuned on the validation rows after training and shipped with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kft.data import classes, task_columns
from kft.data.table import Table
from kft.errors import DataError, did_you_mean
from kft.evaluation import label_sets, metric, worst_rows
from kft.losses import row_losses
from kft.losses.objective import Objective, Term
from kft.recipe import Recipe
from kft.tasks.classify import build_of
from kft.tasks.task import Answers, Evaluator, Examples, Forward, Labels, Problem, Schema, Task, View
from kft.text import decode, tokens

THRESHOLD = 0.5
FEWEST = 5  # validation rows with and without a label, below which its threshold stays at a half


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """The labels of train in the order of code points, each with its threshold."""
    names = sorted({label for row in parts["train"].texts("label") for label in row})
    if not names:
        raise DataError(f"{parts['train'].source}: no row has a label; expected at least one label in some rows.")
    for table in parts.values():
        sets_of(table, names)
    return {"labels": names, "thresholds": [THRESHOLD] * len(names)}


def sets_of(table: Table, names: list[str]) -> np.ndarray:
    """1 for each label that a row has: `(rows, labels)` float32.

    Raises:
        DataError: A label that training never saw.
    """
    ids = {label: i for i, label in enumerate(names)}
    sets = np.zeros((len(table), len(ids)), np.float32)
    for index, row in enumerate(table.texts("label")):
        for label in row:
            if label not in ids:
                raise DataError(
                    f"{table.where(index)}: label {label!r} is unknown in the training data."
                    f"{did_you_mean(label, ids)} Expected some of: {classes.listed_names(names)}."
                )
            sets[index, ids[label]] = 1
    return sets


def objective_of(focal_gamma: float) -> Objective:
    """Binary cross-entropy, or focal loss, of each label."""

    def loss(outputs: Any, targets: Any) -> Any:
        return row_losses.binary_crossentropy(outputs["logits"], targets["labels"], focal_gamma)

    return Objective((Term("labels", loss),))


def evaluator_of(labels: Labels) -> Evaluator:
    """F1 over labels and rows, exact sets, ranking; the sets that are furthest from the truth."""
    names, thresholds = labels["labels"], labels["thresholds"]

    def scored(answers: Answers, table: Table) -> dict[str, Any]:
        return label_sets.scored(answers["scores"], thresholds, sets_of(table, names), names)

    def view(answers: Answers, table: Table) -> View:
        return worst_rows.label_sets(answers["labels"], answers["scores"], table, sets_of(table, names), names)

    def calibrate(answers: Answers, table: Table) -> Labels:
        """The threshold of the best F1 for each label that has five rows of either kind; the others keep theirs."""
        truth = sets_of(table, names)
        tuned = [
            label_sets.best_threshold(scores, is_there)
            if FEWEST <= is_there.sum() <= len(is_there) - FEWEST
            else before
            for scores, is_there, before in zip(answers["scores"].T, truth.T, thresholds, strict=True)
        ]
        return {**labels, "thresholds": tuned}

    right = np.eye(1)
    single = list(metric.scalars(label_sets.scored(right, [THRESHOLD], right, names[:1])))
    return Evaluator(single, ("micro_f1",), of_answers=scored, view=view, calibrate=calibrate)


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of telling which of these labels a text has."""
    names, thresholds = labels["labels"], labels["thresholds"]
    return Problem(
        labels,
        SCHEMA,
        Examples(tokens.encode, lambda table, store: {"labels": sets_of(table, names)}),
        build_of(len(names)),
        objective_of(recipe.focal_gamma),
        Forward(
            lambda outputs, extras, texts: decode.label_sets(outputs["logits"], names, thresholds),
            {"scores": names},
            "classify",
        ),
        evaluator_of(labels),
    )


SCHEMA = Schema(task_columns.COLUMNS["multilabel"])
MULTILABEL = Task("multilabel", SCHEMA, learn, restore)
