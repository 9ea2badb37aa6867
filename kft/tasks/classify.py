"""Single-label classification of one text, or of a pair (paraphrase, entailment)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from kft.data import classes, task_columns
from kft.data.store import Store
from kft.data.table import Table
from kft.errors import RecipeError, did_you_mean
from kft.evaluation import classification, metric, worst_rows
from kft.losses import row_losses
from kft.losses.objective import Objective, Term, ones
from kft.models import heads
from kft.recipe import Recipe
from kft.tasks.task import Answers, Build, Evaluator, Examples, Forward, Labels, Problem, Schema, Targets, Task, View
from kft.text import decode, tokens


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """The class names of train in a stable order; refuses what no classifier can learn from."""
    names = class_names(parts)
    labels: Labels = {"labels": names}
    if recipe.class_weights is not None:
        labels["class_weights"] = _class_weights(recipe.class_weights, class_ids(parts["train"], names), names)
    return labels


def class_names(parts: Mapping[str, Table]) -> list[str]:
    """The class names of train.

    Raises:
        DataError: Fewer than two, or a label of another part that train lacks.
    """
    names = classes.label_names(parts["train"])
    classes.check_labels(parts["train"], {name: part for name, part in parts.items() if name != "train"}, names)
    return names


def _class_weights(asked: str | dict[str, float], ids: np.ndarray, names: list[str]) -> list[float]:
    if isinstance(asked, str):
        counts = np.bincount(ids, minlength=len(names))
        return (len(ids) / (len(names) * counts)).tolist()
    unknown = [name for name in asked if name not in names]
    if unknown or set(asked) != set(names) or min(asked.values()) < 0:
        hint = did_you_mean(unknown[0], names) if unknown else ""
        raise RecipeError(f"class_weights: found {asked}, expected one weight >= 0 for each of {names}.{hint}")
    return [float(asked[name]) for name in names]


def class_ids(table: Table, names: list[str]) -> np.ndarray:
    """Class ids `(rows,)` int32.

    Raises:
        DataError: A label that training never saw.
    """
    classes.check_known(table, names, "evaluation")
    ids = {name: i for i, name in enumerate(names)}
    return np.array([ids[label] for label in table.texts("label")], np.int32)


def targets_of(names: list[str]) -> Any:
    """The target `label`: class ids."""
    return lambda table, store: {"label": class_ids(table, names)}


def weights_of(by_class: list[float], targets: Targets, store: Store) -> np.ndarray:
    """The weight of each row's class: a class of weight 2 counts as two rows would."""
    return np.asarray(by_class, np.float32)[np.asarray(targets["label"])]


def build_of(num_outputs: int) -> Build:
    """A model of one text or two with so many logits."""
    return Build(
        partial(heads.sequence_model, num_outputs=num_outputs),
        widths={"logits": num_outputs},
        head={"num_outputs": num_outputs, "reads": "row"},
    )


def objective_of(
    label_smoothing: float = 0.0, by_class: list[float] | None = None, focal_gamma: float = 0.0
) -> Objective:
    """Cross-entropy, or focal loss, of the `logits` and the class ids, rows weighing as their classes do."""

    def loss(outputs: Any, targets: Any) -> Any:
        return row_losses.crossentropy(outputs["logits"], targets["label"], label_smoothing, focal_gamma)

    row_weights = ones if by_class is None else partial(weights_of, by_class)
    return Objective((Term("label", loss, row_weights=row_weights),))


def predictor_of(names: list[str]) -> Forward:
    """`label`, `score` and `scores` of each row."""
    return Forward(
        lambda outputs, extras, texts: decode.classes(outputs["logits"], names), {"scores": names}, "classify"
    )


def evaluator_of(names: list[str]) -> Evaluator:
    """Accuracy, F1, MCC and the rest over all rows; confusion, calibration and the worst rows."""

    def scored(answers: Answers, table: Table) -> dict[str, Any]:
        return classification.scored(answers["scores"], class_ids(table, names), names)

    return Evaluator(metric_names(names), ("accuracy",), of_answers=scored, view=view_of(names))


def metric_names(names: list[str]) -> list[str]:
    """The single numbers among the metrics of these classes."""
    few = names[:3]  # two have a metric that more have not
    return list(metric.scalars(classification.scored(np.eye(len(few)), range(len(few)), few)))


def view_of(names: list[str]) -> Any:
    """Confusion and calibration, and the wrong answers given with most confidence."""

    def view(answers: Answers, table: Table) -> View:
        return worst_rows.classified(answers["scores"], table, class_ids(table, names), names)

    return view


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of telling these classes apart."""
    names = labels["labels"]
    return Problem(
        labels,
        SCHEMA,
        Examples(tokens.encode, targets_of(names)),
        build_of(len(names)),
        objective_of(recipe.label_smoothing, labels.get("class_weights"), recipe.focal_gamma),
        predictor_of(names),
        evaluator_of(names),
    )


SCHEMA = Schema(task_columns.COLUMNS["classify"])
CLASSIFY = Task("classify", SCHEMA, learn, restore)
