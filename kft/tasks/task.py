"""Tasks and problems: what users name, and what it becomes once it is bound to rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import numpy as np

from kft.data.columns import Column
from kft.data.store import Aligned, Store
from kft.data.streams import Collator, unchanged
from kft.data.table import Table
from kft.losses.objective import Objective
from kft.models.multi_head import HeadSpec
from kft.recipe import Recipe

Labels = dict[str, Any]
"""The label spec: what a task learns of the targets of train and needs to answer, as JSON; the run's labels.json."""
Answers = Mapping[str, np.ndarray]
"""By name, `(rows, …)`."""
Targets = Mapping[str, np.ndarray | Aligned]
"""By name, `(rows of the store, …)`, or aligned with its tokens."""
View = tuple[list[Any], list[dict[str, Any]]]
"""What a report shows of answers: figures, and the rows with the worst of them."""


def as_it_is(table: Table) -> Table:
    """The same rows."""
    return table


@dataclass(frozen=True)
class Schema:
    """What a task needs of the rows.

    Attributes:
        columns: Its columns, with names to guess.
        prepare: A clean table to the same with the columns that the task goes on with, where users may give others.
        check: Refuses rows of a prepared table that nothing can be learnt from, where rows to predict may be so.
        derived: Text columns that `prepare` may add, which are read after the others.
        answered: The text columns that predict and the export read, where it is trained on others besides; None for
            all of them.
    """

    columns: Sequence[Column]
    prepare: Callable[[Table], Table] = as_it_is
    check: Callable[[Table], Any] = as_it_is
    derived: Sequence[str] = ()
    answered: Sequence[str] | None = None

    @property
    def text_columns(self) -> list[str]:
        """The canonical names of its text columns."""
        return [column.name for column in self.columns if column.kind == "text"]

    @property
    def trained_columns(self) -> list[str]:
        """Those that become tokens: the text columns, the texts to be written, and what `prepare` adds."""
        return [*(column.name for column in self.columns if column.kind in ("text", "response")), *self.derived]

    def answered_columns(self, trained: Sequence[str]) -> list[str]:
        """Of the columns that a model was trained on, those that it answers by."""
        return [name for name in trained if self.answered is None or name in self.answered]


def not_packed(store: Store, max_length: int, source: str | None) -> Store:
    """The rows of the store as they are."""
    return store


def never_anew(preprocessor: Any) -> Collator:
    """Batches are the same in each epoch."""
    return unchanged


def no_notes(*given: Any) -> list[str]:
    """Nothing to say."""
    return []


@dataclass(frozen=True)
class Examples:
    """How rows become what a network trains on.

    Attributes:
        features: (preprocessor, text tensors) to the backbone's inputs and what else answers need of the tokens, in TF
            graph code.
        targets: (table, token store) to named targets; refuses labels that training never saw.
        rows: A table to the rows that the network is trained on, where those are others than it answers.
        pack: (token store, max_length, where its texts are from, None for those that are not trained on) to the store
            whose rows the network reads.
        collate: (preprocessor) to what makes the batches of each epoch from the store's.
        notes: (tables of all parts) to notes on targets that no answer can equal.
        token_notes: (preprocessor, token store of train, its table) to notes for the user.
    """

    features: Callable[[Any, Sequence[Any]], dict[str, Any]]
    targets: Callable[[Table, Store], Targets]
    rows: Callable[[Table], Table] = as_it_is
    pack: Callable[[Store, int, str | None], Store] = not_packed
    collate: Callable[[Any], Collator] = never_anew
    notes: Callable[[Mapping[str, Table]], list[str]] = no_notes
    token_notes: Callable[[Any, Store, Table], list[str]] = no_notes

    @property
    def is_packed(self) -> bool:
        """Whether the rows of the store are cut or joined to others before they are read."""
        return self.pack is not not_packed


def logits_of(model: Any, num_texts: int) -> keras.Model:
    """The network of a task model with a single output, named `logits`."""
    return keras.Model(model.input, {"logits": model.output})


@dataclass(frozen=True)
class Build:
    """How a preset becomes a model with named outputs.

    Attributes:
        model: (preset, max_length, dtype, seed as keywords) to a KerasHub task model.
        network: (task model, number of text columns) to the model that trains, from token features to named outputs,
            by way of the task model's layers.
        widths: The last dimension of those outputs whose labels decide it: what a saved model has to agree with.
        head: What gives its only output, `logits`, where that is a linear head, which may stand beside others on one
            backbone; else None.
    """

    model: Callable[..., Any]
    network: Callable[[Any, int], keras.Model] = logits_of
    widths: Mapping[str, int] = field(default_factory=dict)
    head: HeadSpec | None = None


@dataclass(frozen=True)
class Forward:
    """A predictor of one forward pass.

    Attributes:
        answers: (named outputs, features that the network does not read, texts) to named answers, one of each for every
            text, in TF graph code: windows of a text are merged here.
        names: By answer, what the numbers of a row stand for, as the classes of `scores`.
        signature: The TF Serving method beside predict that its answers fit, if one does.
        unserved: Why such a model is not exported, or None.
    """

    answers: Callable[[Mapping[str, Any], Mapping[str, Any], Sequence[Any]], dict[str, Any]]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    signature: Literal["classify", "regress"] | None = None
    unserved: str | None = None


@dataclass(frozen=True)
class Generated:
    """A predictor of several passes, or of outputs that are too many to hold.

    Attributes:
        respond: (task model) to a function from the strings of each text column to named answers; on TensorFlow that
            function is graph code, too.
        unserved: Why such a model is not exported, or None.
        names: As of `Forward`.
        signature: As of `Forward`.
    """

    respond: Callable[[Any], Callable[[Sequence[Any]], dict[str, Any]]]
    unserved: str | None = None
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    signature: Literal["classify", "regress"] | None = None


Predictor = Forward | Generated


def no_metrics(*given: Any) -> dict[str, Any]:
    """None."""
    return {}


def nothing_to_view(answers: Answers, table: Table) -> View:
    """The report has the curves alone."""
    return [], []


RowValue = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Evaluator:
    """How answers are judged.

    Attributes:
        metrics: The names of the single numbers that judge a model while it trains, beside the loss.
        best_by: Those that pick the best weights by default: the first that these rows have.
        of_answers: (answers, table) to metrics.
        of_losses: (by name, the weighted mean over the rows of each term's loss and of `values`) to metrics. A task
            that has it is judged by it while it trains, and its outputs are never held.
        values: Further numbers of each row, by name: (outputs, targets) to `(rows,)`.
        view: (answers, table) to what the report shows.
        calibrate: (answers to the validation rows, their table) to the label spec with what is tuned on them, such as
            thresholds; None where nothing is.
    """

    metrics: Sequence[str]
    best_by: Sequence[str]
    of_answers: Callable[[Answers, Table], dict[str, Any]] = no_metrics
    of_losses: Callable[[Mapping[str, float]], dict[str, Any]] = no_metrics
    values: Mapping[str, RowValue] = field(default_factory=dict)
    view: Callable[[Answers, Table], View] = nothing_to_view
    calibrate: Callable[[Answers, Table], Labels] | None = None

    @property
    def has_answers(self) -> bool:
        """Whether answers say more than the losses."""
        return self.of_answers is not no_metrics

    @property
    def is_by_losses(self) -> bool:
        """Whether a model is judged by its losses while it trains."""
        return self.of_losses is not no_metrics


@dataclass(frozen=True)
class Problem:
    """A task bound to rows: it closes over its label spec, so that no function is handed it again.

    Attributes:
        labels: The label spec.
        schema: How rows are read for it.
        examples: How they become what the network trains on.
        build: How a preset becomes a model with named outputs.
        objective: What is minimised.
        predictor: How the model answers.
        evaluator: How its answers are judged.
    """

    labels: Labels
    schema: Schema
    examples: Examples
    build: Build
    objective: Objective
    predictor: Predictor
    evaluator: Evaluator


@dataclass(frozen=True)
class Task:
    """One task of the field. `kft.tasks.TASKS` lists them all.

    Attributes:
        name: As users write it.
        schema: What it needs of the rows.
        learn: (tables of all parts, recipe) to the label spec that the targets of train give; refuses what cannot be
            learnt, and labels of other parts that train lacks.
        restore: (label spec, recipe) to the problem; with the files of a run it is the one that was trained.
    """

    name: str
    schema: Schema
    learn: Callable[[Mapping[str, Table], Recipe], Labels]
    restore: Callable[[Labels, Recipe], Problem]

    def bind(self, parts: Mapping[str, Table], recipe: Recipe) -> Problem:
        """The task bound to these rows."""
        return self.restore(self.learn(parts, recipe), recipe)
