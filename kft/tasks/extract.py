"""Event extraction: what happens in a text, by the words that say so, and who and what takes part.

One model tags twice: the triggers of events in a text, and the arguments of each in the text with its trigger marked.

References:
    Doddington et al., 2004, "The automatic content extraction (ACE) program", LREC
    Wadden et al., 2019, sec. 3 (how triggers and arguments are scored), https://arxiv.org/abs/1909.03546
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from kft.data import checks, edges, task_columns
from kft.data.nested import SPANS
from kft.data.records import records
from kft.data.table import ROW, Table
from kft.errors import DataError, did_you_mean
from kft.evaluation import extraction, worst_rows
from kft.recipe import Recipe
from kft.tasks import tag
from kft.tasks.task import Answers, Evaluator, Generated, Labels, Problem, Schema, Task, View
from kft.text import events, responses


def prepare(table: Table) -> Table:
    """Checks that triggers and arguments lie within their text."""
    if "events" in table.names():
        table = edges.events(table)
        checks.check_events(table)
    return table


def training_rows(table: Table) -> Table:
    """Each text with its triggers as spans, and for each event the text that marks it with its arguments."""
    texts, spans, rows = [], [], []
    for text, found, row in zip(table.texts("text"), table.texts("events"), table.texts(ROW), strict=True):
        texts.append(text)
        spans.append([_span(event, "trigger", event["type"]) for event in found])
        for event in found:
            trigger = event["start"], event["end"], event["type"]
            texts.append(events.marked(text, *trigger))
            moved = [(one, events.moved((one["start"], one["end"]), *trigger)) for one in event["arguments"]]
            spans.append([{**_span(one, "role", one["label"]), "start": s, "end": e} for one, (s, e) in moved])
        rows += [row] * (len(found) + 1)
    columns = {"text": pa.array(texts, pa.large_string()), "spans": pa.array(spans, SPANS), ROW: pa.array(rows)}
    return replace(table, rows=pa.table(columns))


def _span(part: Mapping[str, Any], sort: str, label: str) -> dict[str, Any]:
    return {"start": part["start"], "end": part["end"], "label": f"{sort}:{label}"}


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """What `tag` learns of triggers and arguments; refuses types and roles that training never saw."""
    train = parts["train"]
    if not any(train.texts("events")):
        raise DataError(f"{train.source}: no row has an event; expected some to learn from.")
    learnt = tag.learn({"train": training_rows(train)}, recipe)
    known = {name[2:] for name in learnt["labels"]}
    for table in parts.values():
        for index, found in enumerate(table.texts("events")):
            for sort, name in _names(found):
                if f"{sort}:{name}" not in known:
                    names = sorted(one.partition(":")[2] for one in known if one.startswith(sort))
                    raise DataError(
                        f"{table.where(index)}: the {'type' if sort == 'trigger' else sort} {name!r} is unknown in the "
                        f"training data.{did_you_mean(name, names)} Expected one of: {', '.join(names)}."
                    )
    return learnt


def _names(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    roles = [("role", one["label"]) for event in found for one in event["arguments"]]
    return [*(("trigger", event["type"]) for event in found), *roles]


def respond(labels: Labels, model: Any) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """A function from texts to their events: the model tags the texts, and then those that mark the triggers."""
    settings = {name: labels[name] for name in ("labels", "missing")} | {"rule": tag.rule_of(labels)}
    return responses.responder(partial(events.answer, **settings), model)


def of_losses(means: Mapping[str, float]) -> dict[str, float]:
    """The mean loss of a word, in texts and in those that mark a trigger."""
    return {"loss": means["tags"]}


def scored(answers: Answers, table: Table) -> dict[str, Any]:
    """Precision, recall and F1 of triggers with their type, and of arguments with their role and the event's type."""
    truth, answered = _gold(table), _answered(answers)
    scores: dict[str, Any] = {}
    for name, members in (("trigger", _triggers), ("argument", _arguments)):
        pair = ({(row, *one) for row, e in enumerate(rows) for one in members(e)} for rows in (truth, answered))
        scores |= extraction.of_sets(name, *pair)
    return {**scores, "num_rows": len(table)}


def _gold(table: Table) -> list[list[dict[str, Any]]]:
    """The true events in the form of answers."""
    return [
        [{**event, "arguments": [{**one, "role": one["label"]} for one in event["arguments"]]} for event in row]
        for row in table.texts("events")
    ]


def _answered(answers: Answers) -> list[list[dict[str, Any]]]:
    return [row["events"] for row in records(answers)]


def _triggers(found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [(event["type"], event["start"], event["end"]) for event in found]


def _arguments(found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [(event["type"], one["role"], one["start"], one["end"]) for event in found for one in event["arguments"]]


def view(answers: Answers, table: Table) -> View:
    """The rows with most triggers and arguments missed or made up."""
    truth, answered = (
        [
            {
                f"{' '.join(names)}: {text[start:end]} ({start})"
                for *names, start, end in [*_triggers(row), *_arguments(row)]
            }
            for text, row in zip(table.texts("text"), rows, strict=True)
        ]
        for rows in (_gold(table), _answered(answers))
    )
    return worst_rows.sets(truth, answered, table)


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of finding events."""
    tagging = tag.restore(labels, recipe)
    examples = replace(
        tagging.examples,
        rows=training_rows,
        notes=lambda parts: tag.notes(labels, {name: training_rows(table) for name, table in parts.items()}),
    )
    return replace(
        tagging,
        schema=SCHEMA,
        examples=examples,
        predictor=Generated(partial(respond, labels)),
        # While it trains nothing is extracted, so that the loss is all there is.
        evaluator=Evaluator((), ("loss",), of_answers=scored, of_losses=of_losses, view=view),
    )


SCHEMA = Schema(task_columns.COLUMNS["extract"], prepare=prepare)
EXTRACT = Task("extract", SCHEMA, learn, restore)
