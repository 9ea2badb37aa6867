"""The protocol of a task: what the columns mean, in a few small functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import keras
import numpy as np

from kft.data.columns import Column
from kft.data.feed import Disguise
from kft.data.store import Aligned, Store
from kft.data.table import Table
from kft.errors import RecipeError
from kft.recipe import Recipe

Vocabulary = dict[str, Any]
"""What a task learnt of its targets and needs to answer, as JSON: the run's labels.json."""


def whole(model: Any, num_texts: int) -> keras.Model:
    """The network of a task model as it is."""
    return keras.Model(model.input, model.output)


def rows(answers: Mapping[str, np.ndarray], vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Answers as one dict of plain Python values a row.

    A number for each class becomes `{label: number}`, another list of numbers a list. Of several strings the empty ones
    are left out, which only fill the list up. Answers called `entities.text` and `entities.start` become one list of
    dicts, as long as there are texts in it; those of `events.arguments.role` lists in such dicts.

    >>> rows({"label": np.array([b"no"]), "scores": np.array([[0.25, 0.75]])}, {"labels": ["yes", "no"]})
    [{'label': 'no', 'scores': {'yes': 0.25, 'no': 0.75}}]
    >>> rows({"labels": np.array([[b"no", b""]])}, {"labels": ["yes", "no"]})
    [{'labels': ['no']}]
    >>> rows({"spans.text": np.array([[b"tea", b""]]), "spans.start": np.array([[4, 0]])}, {})
    [{'spans': [{'text': 'tea', 'start': 4}]}]
    """
    columns: dict[str, list[Any]] = {}
    for name, values in answers.items():
        plain = _plain(values.tolist())
        if name == "scores":
            columns[name] = [dict(zip(vocabulary["labels"], row, strict=True)) for row in plain]
        elif "." not in name and values.ndim == 2 and values.dtype.kind in "SO":
            columns[name] = [[text for text in row if text] for row in plain]
        else:
            columns[name] = plain
    return [_nested(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values whose names share what stands before a dot, as one list of dicts."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        group, dot, member = name.partition(".")
        if dot:
            found.setdefault(group, {})[member] = value
        else:
            found[name] = value
    dotted = {name.partition(".")[0] for name in values if "." in name}
    return {name: _dicts(value) if name in dotted else value for name, value in found.items()}


def _dicts(lists: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Lists of equal length as dicts, up to the first empty string."""
    found = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    return [_nested(one) for one in itertools.takewhile(lambda one: "" not in one.values(), found)]


def _plain(value: Any) -> Any:
    """Bytes in nested lists as text."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode("utf-8") if isinstance(value, bytes) else value


@dataclass(frozen=True)
class Task:
    """One task of the field. `kft.tasks.TASKS` lists them all.

    Attributes:
        name: As users write it.
        columns: What it needs of the rows, with guesses.
        lessons: A table to the rows that the network is trained on, where those are others than it answers.
        vocabulary: (tables of all parts, recipe) to what the targets of train teach, checking those of the others.
        targets: (table, vocabulary, token store) to what the loss compares with: `(rows of the store, …)`, or aligned
            with its tokens; refuses unknown labels.
        features: (preprocessor, text tensors) to the backbone's inputs and what else `answers` needs of the tokens, in
            TF graph code.
        head: (preset, vocabulary, max_length, dtype, seed) to a KerasHub task model.
        loss: (recipe, vocabulary) to a Keras loss on the model's raw outputs that sums the rows by their weights. Those
            of one update of the weights add up to 1, or to what its rows weigh beside all of train.
        answers: (outputs, vocabulary, features that the model does not read, texts) to named answers, one of each for
            every text, in TF graph code; predict and the export call it. None where `respond` is in its place.
        score: (answers as NumPy arrays, table, vocabulary) to metrics; None where `by_losses` says it all.
        metrics: (vocabulary) to the names of the single numbers among them.
        shown: (answers, table, vocabulary) to the figures of the report and its worst rows.
        best_by: The metrics that pick the best weights by default: the first that these rows have.
        served_as: The TF Serving method beside predict that its answers fit, if one does.
        prepare: A clean table to the same with the columns that the task goes on with, where users may give others.
        check: Refuses rows of a prepared table that nothing can be learnt from, where rows to predict may be so.
        weights: (targets, vocabulary, token store) to the weight of each row of the store, `(rows,)` float32; None for
            equal weights.
        counts: (targets, vocabulary, token store) to how many tokens the loss of each row is the mean of, `(rows,)`;
            None where it is not one of tokens, and each row counts once.
        calibrate: (answers to the validation rows, their table, vocabulary) to the vocabulary with what is tuned on
            them, such as thresholds; None where nothing is.
        network: (task model, number of text columns) to the model that trains and is evaluated, from features to raw
            outputs; it shares the task model's layers.
        derived: Text columns that `prepare` may add, whose strings `features` and `answers` get after the others.
        reads: The text columns that predict and the export read, where it is trained on others besides; None for all.
        finish: (task model, outputs for the training rows, their targets) sets what is computed and not trained, such
            as a linear head, before the model is validated and saved; None where there is nothing.
        variants: By `vocabulary["objective"]`, the task that goes on from there; where it has none, this one does.
        arrange: (token store, max_length, where its texts are from, None for those that are not trained on) to the
            store whose rows the network reads; None where they are those that `features` gives.
        disguise: (recipe, preprocessor) to what makes the batches of each epoch from the store's; None where they are
            the same in each.
        respond: (task model, vocabulary) to a function from the strings of each text column to named answers, for tasks
            that one forward pass cannot answer, or whose outputs are too many to hold; on TensorFlow that function is
            graph code, too.
        by_losses: (mean losses over the rows, `loss` and those of `measures`) to metrics; such a task is judged by them
            while it trains, and the outputs are never held.
        measures: Further losses, by name.
        limits: (tables of all parts, vocabulary) to notes on targets that no answer can equal; None where there are
            none.
        remarks: (preprocessor, token store of train, its table, vocabulary) to notes for the user; None where there are
            none.
        learnt: (vocabulary) to those of these fields that depend on it, such as how texts are read; None where none do.
        unserved: (vocabulary) to why such a model is not exported, or None.
    """

    name: str
    columns: Sequence[Column]
    vocabulary: Callable[[Mapping[str, Table], Recipe], Vocabulary]
    targets: Callable[[Table, Vocabulary, Store], np.ndarray | Aligned]
    features: Callable[[Any, Sequence[Any]], dict[str, Any]]
    head: Callable[..., Any]
    loss: Callable[[Recipe, Vocabulary], Any]
    answers: Callable[[Any, Vocabulary, Mapping[str, Any], Sequence[Any]], dict[str, Any]] | None
    score: Callable[[Mapping[str, np.ndarray], Table, Vocabulary], dict[str, Any]] | None
    metrics: Callable[[Vocabulary], Iterable[str]]
    shown: Callable[[Mapping[str, np.ndarray], Table, Vocabulary], tuple[list[Any], list[dict[str, Any]]]]
    best_by: Sequence[str]
    served_as: Literal["classify", "regress"] | None = None
    prepare: Callable[[Table], Table] = lambda table: table
    check: Callable[[Table], None] = lambda table: None
    lessons: Callable[[Table], Table] = lambda table: table
    weights: Callable[[Any, Vocabulary, Store], np.ndarray] | None = None
    counts: Callable[[Any, Vocabulary, Store], np.ndarray] | None = None
    calibrate: Callable[[Mapping[str, np.ndarray], Table, Vocabulary], Vocabulary] | None = None
    network: Callable[[Any, int], keras.Model] = whole
    derived: Sequence[str] = ()
    reads: Sequence[str] | None = None
    finish: Callable[[Any, np.ndarray, Any], None] | None = None
    variants: Mapping[str, Task] = field(default_factory=dict)
    arrange: Callable[[Store, int, str | None], Store] | None = None
    disguise: Callable[[Recipe, Any], Disguise] | None = None
    respond: Callable[[Any, Vocabulary], Callable[[Sequence[Any]], dict[str, Any]]] | None = None
    by_losses: Callable[[Mapping[str, float]], dict[str, float]] | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)
    limits: Callable[[Mapping[str, Table], Vocabulary], list[str]] | None = None
    remarks: Callable[[Any, Store, Table, Vocabulary], list[str]] | None = None
    learnt: Callable[[Vocabulary], Mapping[str, Any]] | None = None
    unserved: Callable[[Vocabulary], str | None] | None = None

    def of(self, vocabulary: Vocabulary) -> Task:
        """The task as it goes on once its vocabulary is known."""
        task = self.variants[vocabulary["objective"]] if self.variants and "objective" in vocabulary else self
        return task if task.learnt is None else replace(task, **task.learnt(vocabulary))

    def row_counts(self, targets: Any, vocabulary: Vocabulary, store: Store) -> np.ndarray:
        """How many tokens, or rows, the loss of each row of a store is the mean of: `(rows,)` float32."""
        found = np.ones(len(store)) if self.counts is None else self.counts(targets, vocabulary, store)
        return np.asarray(found, np.float32)

    def row_weights(self, targets: Any, vocabulary: Vocabulary, store: Store) -> np.ndarray:
        """How much the loss of each row of a store counts: its weight, times what it is the mean of, `(rows,)`."""
        counts = self.row_counts(targets, vocabulary, store)
        return counts if self.weights is None else counts * self.weights(targets, vocabulary, store)

    @property
    def text_columns(self) -> list[str]:
        """The canonical names of its text columns."""
        return [column.name for column in self.columns if column.kind == "text"]

    @property
    def read_columns(self) -> list[str]:
        """Those that `features` gets: the text columns, the texts to be written, and what `prepare` adds."""
        return [*(column.name for column in self.columns if column.kind in ("text", "response")), *self.derived]


CLASSES = ("classify", "fewshot", "joint", "ordinal", "relate")
KNOBS = {
    "label_smoothing": ("classify", "relate"),
    "class_weights": ("classify", "relate"),
    "min_class_rows": CLASSES,
    "pooling": ("embed", "fewshot"),
    "contrastive": ("embed",),
    "packing": ("generate",),
}
"""The knobs that only some tasks have, and which."""


def knobs_of(task_name: str) -> list[str]:
    """Those of `KNOBS` that a task has."""
    return [knob for knob, owners in KNOBS.items() if task_name in owners]


def refuse_other_knobs(recipe: Recipe, task_name: str) -> None:
    """Refuses the knobs that only other tasks have.

    Raises:
        RecipeError: Names the knob.
    """
    for knob, owners in KNOBS.items():
        if task_name not in owners and getattr(recipe, knob) != Recipe.model_fields[knob].default:
            raise RecipeError(f"{knob} is for task {' and '.join(owners)}, not for {task_name}. Leave it out.")
