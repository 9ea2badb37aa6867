"""Further heads beside a task's own: each learns another column of the same rows, on the same backbone.

A composition of two problems that share no code of their tasks: any two whose logits come of linear heads and that read
the same features are one problem with outputs, targets, terms, answers and metrics of both. What belongs to a further
head has the head's name and `/` before its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras

from kft.data.columns import Column
from kft.data.records import of_head
from kft.data.store import Store
from kft.data.table import Table
from kft.errors import RecipeError
from kft.losses.objective import Objective, Term
from kft.models import multi_head
from kft.recipe import Recipe
from kft.task_names import MAIN, Aux
from kft.tasks.task import Answers, Build, Evaluator, Forward, Labels, Problem, Schema, Targets, Task, View, as_it_is

LABEL = "label"
"""The column that each of these tasks learns."""


def with_heads(task: Task, others: Mapping[str, Task]) -> Task:
    """A task that learns those of further heads besides.

    Args:
        task: The one that the rows are for.
        others: By the name of its head, what each of the others learns.

    Raises:
        RecipeError: A task that makes its columns out of others, which the rows of another task may not have.
    """
    if not others:
        return task
    for name, other in others.items():
        if other.schema.prepare is not as_it_is or other.schema.derived or task.schema.derived:
            raise RecipeError(f"aux: head {name!r} is of task {other.name}, which cannot stand beside {task.name}.")

    def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
        own = task.learn(seen_by_all(parts, None), recipe)
        heads = {
            name: {"task": other.name, "labels": other.learn(seen_by_all(parts, name), _of_others(recipe))}
            for name, other in others.items()
        }
        return {**own, "aux": heads}

    def restore(labels: Labels, recipe: Recipe) -> Problem:
        own = task.restore({name: value for name, value in labels.items() if name != "aux"}, recipe)
        heads = {name: others[name].restore(head["labels"], _of_others(recipe)) for name, head in labels["aux"].items()}
        return _composed(labels, schema, own, heads, {head.name: head for head in recipe.aux})

    schema = _schema(task, others)
    return Task(task.name, schema, learn, restore)


def column_of(name: str) -> str:
    """The canonical name of the column that a head learns."""
    return f"{name}_{LABEL}"


@dataclass(frozen=True)
class Part:
    """What one head of a fit learns.

    Attributes:
        prefix: What stands before its metrics; empty for the task's own head.
        task: The name of its task.
        labels: Its label spec.
        parts: The rows as it sees them.
    """

    prefix: str
    task: str
    labels: Labels
    parts: Mapping[str, Table]


def parts_of(task: str, labels: Labels, parts: Mapping[str, Table]) -> list[Part]:
    """What each head learns, the task's own first."""
    own = {name: value for name, value in labels.items() if name != "aux"}
    further = [
        Part(f"{name}/", head["task"], head["labels"], seen_by_all(parts, name))
        for name, head in labels.get("aux", {}).items()
    ]
    return [Part("", task, own, seen_by_all(parts, None)), *further]


def seen_by(table: Table, name: str | None) -> Table:
    """The rows with the one column of targets that a head learns, named as its task does; None: the task's own."""
    of_others = [one for one in table.names() if one.endswith(f"_{LABEL}") and one != column_of(name or "")]
    rows, readings = table.rows.drop_columns(of_others), dict(table.readings)
    if name is None:
        return replace(table, rows=rows)
    rows = rows.drop_columns([LABEL])
    rows = rows.rename_columns([LABEL if one == column_of(name) else one for one in rows.column_names])
    readings[LABEL] = readings.get(column_of(name))
    return replace(table, rows=rows, readings=readings, labels=())


def seen_by_all(parts: Mapping[str, Table], name: str | None) -> dict[str, Table]:
    """`seen_by` of each part."""
    return {part: seen_by(table, name) for part, table in parts.items()}


def _of_others(recipe: Recipe) -> Recipe:
    """The recipe without what is said of the classes of the task's own head."""
    return recipe.model_copy(update={"class_weights": None, "label_smoothing": 0.0, "focal_gamma": 0.0})


def _schema(task: Task, others: Mapping[str, Task]) -> Schema:
    columns = list(task.schema.columns)
    for name, other in others.items():
        (target,) = (column for column in other.schema.columns if not column.is_input)
        columns.append(Column(column_of(name), target.kind, guesses=()))

    def check(table: Table) -> None:
        task.schema.check(seen_by(table, None))
        for name, other in others.items():
            other.schema.check(seen_by(table, name))

    return replace(task.schema, columns=columns, check=check)


# -- one problem of several ------------------------------------------------------------------------------------------


def _composed(
    labels: Labels, schema: Schema, own: Problem, heads: Mapping[str, Problem], settings: Mapping[str, Aux]
) -> Problem:
    """The problem of the task and of the further heads."""
    for name, other in heads.items():
        if own.build.head is None or other.build.head is None or own.examples.features is not other.examples.features:
            raise RecipeError(f"aux: head {name!r} does not read what the task reads, so they cannot share a backbone.")
    terms = list(own.objective.terms)
    for name, other in heads.items():
        terms += [_term_of(name, term, settings[name].weight) for term in other.objective.terms]
    return Problem(
        labels,
        schema,
        replace(own.examples, targets=partial(_targets, own, heads), notes=partial(_notes, own, heads)),
        _build(own, heads),
        Objective(tuple(terms)),
        _predictor(own.predictor, {name: other.predictor for name, other in heads.items()}),
        _evaluator(labels, own.evaluator, {name: other.evaluator for name, other in heads.items()}),
    )


def _named(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}/{one}": value for one, value in values.items()}


def _targets(own: Problem, heads: Mapping[str, Problem], table: Table, store: Store) -> Targets:
    targets = dict(own.examples.targets(seen_by(table, None), store))
    for name, other in heads.items():
        targets |= _named(name, other.examples.targets(seen_by(table, name), store))
    return targets


def _notes(own: Problem, heads: Mapping[str, Problem], parts: Mapping[str, Table]) -> list[str]:
    notes = list(own.examples.notes(seen_by_all(parts, None)))
    for name, other in heads.items():
        notes += [f"head {name}: {note}" for note in other.examples.notes(seen_by_all(parts, name))]
    return notes


def _term_of(name: str, term: Term, weight: float) -> Term:
    """The term of a head among those of others."""

    def of_head_alone(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda values, other: function(of_head(values, name), other)

    own: Any = term.weight
    return replace(
        term,
        name=f"{name}/{term.name}",
        loss=lambda outputs, targets: term.loss(of_head(outputs, name), of_head(targets, name)),
        weight=(lambda num_updates: weight * own(num_updates)) if callable(own) else weight * own,
        count=of_head_alone(term.count),
        row_weights=of_head_alone(term.row_weights),
    )


def _build(own: Problem, heads: Mapping[str, Problem]) -> Build:
    given = {MAIN: own.build.head, **{name: other.build.head for name, other in heads.items()}}
    specs = {name: head for name, head in given.items() if head is not None}

    def network(model: Any, num_texts: int) -> keras.Model:
        outputs = {name if name == MAIN else f"{name}/logits": output for name, output in model.output.items()}
        return keras.Model(model.input, {"logits": outputs.pop(MAIN), **outputs})

    widths = {**own.build.widths}
    for name, other in heads.items():
        widths |= _named(name, other.build.widths)
    return Build(partial(multi_head.multi_head_model, specs=specs), network, widths)


def _predictor(own: Any, heads: Mapping[str, Any]) -> Forward:
    def answers(outputs: Mapping[str, Any], extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
        found = dict(own.answers(outputs, extras, texts))
        for name, other in heads.items():
            found |= _named(name, other.answers(of_head(outputs, name), extras, texts))
        return found

    names = {**own.names}
    for name, other in heads.items():
        names |= _named(name, other.names)
    return replace(own, answers=answers, names=names)


def _evaluator(labels: Labels, own: Evaluator, heads: Mapping[str, Evaluator]) -> Evaluator:
    def of_answers(answers: Answers, table: Table) -> dict[str, Any]:
        found = dict(own.of_answers(answers, seen_by(table, None)))
        for name, other in heads.items():
            of_other = other.of_answers(of_head(answers, name), seen_by(table, name))
            found |= _named(name, {one: value for one, value in of_other.items() if one != "num_rows"})
        return found

    def view(answers: Answers, table: Table) -> View:
        figures, rows = own.view(answers, seen_by(table, None))
        figures, rows = list(figures), list(rows)
        for name, other in heads.items():
            more, others = other.view(of_head(answers, name), seen_by(table, name))
            figures += [replace(figure, title=f"{name}: {figure.title}") for figure in more]
            rows += [{**row, "why": f"{name}: {row['why']}"} for row in others]
        return figures, rows

    def calibrate(answers: Answers, table: Table) -> Labels:
        tuned = dict(labels)
        if own.calibrate is not None:
            tuned |= own.calibrate(answers, seen_by(table, None))
        heads_tuned = {name: dict(head) for name, head in labels["aux"].items()}
        for name, other in heads.items():
            if other.calibrate is not None:
                heads_tuned[name]["labels"] = other.calibrate(of_head(answers, name), seen_by(table, name))
        return {**tuned, "aux": heads_tuned}

    metrics = [*own.metrics, *(f"{name}/{one}" for name, other in heads.items() for one in other.metrics)]
    is_tuned = any(evaluator.calibrate is not None for evaluator in (own, *heads.values()))
    return Evaluator(metrics, own.best_by, of_answers=of_answers, view=view, calibrate=calibrate if is_tuned else None)
