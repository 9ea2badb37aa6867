"""The protocol of a task: what the columns mean, in a few small functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from kft.data.columns import Column
from kft.data.feed import Disguise
from kft.data.store import Aligned, Store
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
        targets: (table, vocabulary, token store) to what the loss compares with: `(rows of the store, …)`, or aligned
            with its tokens; refuses unknown labels.
        features: (preprocessor, text tensors) to the backbone's inputs and what else `answers` needs of the tokens, in
            TF graph code.
        head: (preset, vocabulary, max_length, dtype, seed) to a KerasHub task model.
        loss: (recipe, vocabulary) to a Keras loss on the model's raw outputs that sums the rows by their weights; those
            of a batch add up to 1.
        answers: (outputs, vocabulary, features that the model does not read, texts) to named answers, one of each for
            every text, in TF graph code; predict and the export call it. None where the outputs are too many to hold.
        score: (answers as NumPy arrays, table, vocabulary) to metrics. Without `answers` it is given the mean of the
            loss, called `loss`, and those of `measures`.
        metrics: (vocabulary) to the names of the single numbers among them.
        shown: (answers, table, vocabulary) to the figures of the report and its worst rows.
        best_by: The metrics that pick the best weights by default: the first that these rows have.
        served_as: The TF Serving method beside predict that its answers fit, if one does.
        prepare: A clean table to the same with the columns that the task goes on with, where users may give others.
        weights: (targets, vocabulary, token store) to the weight of each row of the store, `(rows,)` float32; None for
            equal weights.
        calibrate: (answers to the validation rows, their table, vocabulary) to the vocabulary with what is tuned on
            them, such as thresholds; None where nothing is.
        endings: The formats that it reads files in by their endings, where those are not the usual ones.
        variants: By `vocabulary["objective"]`, the task that goes on from there; empty where there is one alone.
        arrange: (token store, max_length, where its texts are from, None for those that are not trained on) to the
            store whose rows the network reads; None where they are those that `features` gives.
        disguise: (recipe, preprocessor) to what makes the batches of each epoch from the store's; None where they are
            the same in each.
        measures: Further losses, by name, whose means over the rows `score` is given where there are no `answers`.
        respond: (task model, vocabulary) to a function from the strings of each text column to named answers, where
            there are no `answers`; on TensorFlow that function is graph code, too.
    """

    name: str
    columns: Sequence[Column]
    vocabulary: Callable[[Mapping[str, Table], Recipe], Vocabulary]
    targets: Callable[[Table, Vocabulary, Store], np.ndarray | Aligned]
    features: Callable[[Any, Sequence[Any]], dict[str, Any]]
    head: Callable[..., Any]
    loss: Callable[[Recipe, Vocabulary], Any]
    answers: Callable[[Any, Vocabulary, Mapping[str, Any], Sequence[Any]], dict[str, Any]] | None
    score: Callable[[Mapping[str, np.ndarray], Table, Vocabulary], dict[str, Any]]
    metrics: Callable[[Vocabulary], Iterable[str]]
    shown: Callable[[Mapping[str, np.ndarray], Table, Vocabulary], tuple[list[Any], list[dict[str, Any]]]]
    best_by: Sequence[str]
    served_as: Literal["classify", "regress"] | None = None
    prepare: Callable[[Table], Table] = lambda table: table
    weights: Callable[[Any, Vocabulary, Store], np.ndarray] | None = None
    calibrate: Callable[[Mapping[str, np.ndarray], Table, Vocabulary], Vocabulary] | None = None
    endings: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Task] = field(default_factory=dict)
    arrange: Callable[[Store, int, str | None], Store] | None = None
    disguise: Callable[[Recipe, Any], Disguise] | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)
    respond: Callable[[Any, Vocabulary], Callable[[Sequence[Any]], dict[str, Any]]] | None = None

    def of(self, vocabulary: Vocabulary) -> Task:
        """The task as it goes on once its vocabulary is known."""
        return self.variants[vocabulary["objective"]] if self.variants else self

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


def rows(answers: Mapping[str, np.ndarray], vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Answers as one dict of plain Python values a row.

    A number for each class becomes `{label: number}`, another list of numbers a list. Of several strings the empty ones
    are left out, which only fill the list up. Answers called `entities.text` and `entities.start` become one list of
    dicts, as long as there are texts in its first column of strings.

    >>> rows({"label": np.array([b"no"]), "scores": np.array([[0.25, 0.75]])}, {"labels": ["yes", "no"]})
    [{'label': 'no', 'scores': {'yes': 0.25, 'no': 0.75}}]
    >>> rows({"labels": np.array([[b"no", b""]])}, {"labels": ["yes", "no"]})
    [{'labels': ['no']}]
    >>> rows({"spans.text": np.array([[b"tea", b""]]), "spans.start": np.array([[4, 0]])}, {})
    [{'spans': [{'text': 'tea', 'start': 4}]}]
    """
    columns: dict[str, list[Any]] = {}
    members: dict[str, dict[str, list[Any]]] = {}
    for name, values in answers.items():
        plain = _plain(values.tolist())
        group, dot, member = name.partition(".")
        if dot:
            members.setdefault(group, {})[member] = plain
            columns.setdefault(group, [])
        elif name == "scores":
            columns[name] = [dict(zip(vocabulary["labels"], row, strict=True)) for row in plain]
        elif values.ndim == 2 and values.dtype.kind in "SO":
            columns[name] = [[text for text in row if text] for row in plain]
        else:
            columns[name] = plain
    for group, found in members.items():
        columns[group] = [_dicts(dict(zip(found, row, strict=True))) for row in zip(*found.values(), strict=True)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _dicts(lists: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Lists of equal length as dicts, up to the first empty string."""
    found = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    return list(itertools.takewhile(lambda one: "" not in one.values(), found))


def _plain(value: Any) -> Any:
    """Bytes in nested lists as text."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode("utf-8") if isinstance(value, bytes) else value
