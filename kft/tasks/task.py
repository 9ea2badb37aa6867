"""The protocol of a task: what the columns mean, in a few small functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kft.data.columns import Column
from kft.data.table import Table
from kft.errors import RecipeError
from kft.recipe import Recipe

Vocabulary = dict[str, Any]
"""What a task learnt of its targets and needs to answer, as JSON: the run's labels.json."""


@dataclass(frozen=True)
class Task:
    """One task of the field. `kft.tasks.TASKS` lists them all.

    Attributes:
        name: As users write it.
        columns: What it needs of the rows, with guesses.
        vocabulary: (tables of all parts, recipe) to what the targets of train teach, checking those of the others.
        targets: (table, vocabulary) to the `(rows, …)` array that the loss compares with; refuses unknown labels.
        features: (preprocessor, text tensors) to the backbone's inputs, in TF graph code.
        width: (vocabulary) to the numbers that the network gives for each row.
        head: (preset, vocabulary, max_length, dtype, seed) to a KerasHub task model.
        loss: (recipe, vocabulary) to a Keras loss on the model's raw outputs that sums the rows by their weights; those
            of a batch add up to 1.
        answers: (outputs, vocabulary) to named answers, in TF graph code; predict and the export call it.
        score: (answers as NumPy arrays, targets, vocabulary) to metrics.
        best_by: The metric that picks the best weights by default.
        served_as: The TF Serving method beside predict that its answers fit.
        weights: (targets, vocabulary) to the weight of each row, `(rows,)` float32; None for equal weights.
        calibrate: (answers to the validation rows, their targets, vocabulary) to the vocabulary with what is tuned on
            them, such as thresholds; None where nothing is.
    """

    name: str
    columns: Sequence[Column]
    vocabulary: Callable[[Mapping[str, Table], Recipe], Vocabulary]
    targets: Callable[[Table, Vocabulary], np.ndarray]
    features: Callable[[Any, Sequence[Any]], dict[str, Any]]
    width: Callable[[Vocabulary], int]
    head: Callable[..., Any]
    loss: Callable[[Recipe, Vocabulary], Any]
    answers: Callable[[Any, Vocabulary], dict[str, Any]]
    score: Callable[[dict[str, np.ndarray], np.ndarray, Vocabulary], dict[str, Any]]
    best_by: str
    served_as: Literal["classify", "regress"]
    weights: Callable[[np.ndarray, Vocabulary], np.ndarray] | None = None
    calibrate: Callable[[dict[str, np.ndarray], np.ndarray, Vocabulary], Vocabulary] | None = None

    @property
    def text_columns(self) -> list[str]:
        """The canonical names of its text columns."""
        return [column.name for column in self.columns if column.kind == "text"]


def refuse_class_knobs(recipe: Recipe, task_name: str) -> None:
    """Refuses the knobs that only the task `classify` has.

    Raises:
        RecipeError: Names the knob.
    """
    for knob in ("label_smoothing", "class_weights"):
        if getattr(recipe, knob):
            raise RecipeError(f"{knob} is for task classify, not for {task_name}. Leave it out.")


def rows(answers: dict[str, np.ndarray], vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Answers as one dict of plain Python values a row.

    A number for each class becomes `{label: number}`; several strings become a list without the empty ones, which only
    fill it up.

    >>> rows({"label": np.array([b"no"]), "scores": np.array([[0.25, 0.75]])}, {"labels": ["yes", "no"]})
    [{'label': 'no', 'scores': {'yes': 0.25, 'no': 0.75}}]
    >>> rows({"labels": np.array([[b"no", b""]])}, {"labels": ["yes", "no"]})
    [{'labels': ['no']}]
    """
    labels = vocabulary.get("labels", [])
    columns: dict[str, list[Any]] = {}
    for name, values in answers.items():
        if values.ndim == 2 and values.dtype.kind in "SO":
            columns[name] = [[text.decode("utf-8") for text in row if text] for row in values.tolist()]
        elif values.ndim == 2:
            columns[name] = [dict(zip(labels, row, strict=True)) for row in values.tolist()]
        else:
            columns[name] = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values.tolist()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
