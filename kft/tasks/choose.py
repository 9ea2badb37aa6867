"""Multiple choice: which of several texts goes with a text (what follows, which answer is right).

Reference:
    Zellers et al., 2018, sec. 5.1, https://arxiv.org/abs/1808.05326; Devlin et al., 2019, sec. 4.4
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import pyarrow as pa

from kft.data import task_columns
from kft.data.faults import Faults
from kft.data.table import Table
from kft.data.task_columns import CHOICES, MOST_CHOICES
from kft.errors import DataError
from kft.evaluation import classification, worst_rows
from kft.models import heads
from kft.recipe import Recipe
from kft.tasks import classify
from kft.tasks.task import Answers, Build, Evaluator, Examples, Forward, Labels, Problem, Schema, Task, View
from kft.text import choices as graph


def prepare(table: Table) -> Table:
    """A list of choices becomes a column for each; labels become the number of the right one, counted from 0.

    Raises:
        DataError: Rows with different numbers of choices, too many, or a label that is none of them.
    """
    if "choices" in table.names():
        lists = table.texts("choices")
        counts = [len(row) for row in lists]
        faults = Faults(len(table))
        for index, count in enumerate(counts):
            if count != counts[0] or count > MOST_CHOICES:
                expected = (
                    f"{min(counts[0], MOST_CHOICES)}, as the first row has"
                    if counts[0] <= MOST_CHOICES
                    else f"{MOST_CHOICES} at most"
                )
                faults.add(index, f"{table.where(index)}: has {count} choices; expected {expected}.")
        faults.refuse()
        rows = table.rows.drop_columns(["choices"])
        for name, column in zip(CHOICES, zip(*lists, strict=True), strict=False):
            rows = rows.append_column(name, pa.chunked_array([pa.array(column, pa.large_string())]))
        table = replace(table, rows=rows)
    return _numbered(table) if "label" in table.names() else table


def _given(table: Table) -> list[str]:
    return [name for name in CHOICES if name in table.names()]


def _numbered(table: Table) -> Table:
    """Labels as numbers of choices. What one is that may be a number or a choice, the others in train say."""
    names = _given(table)
    known = [str(number) for number in range(len(names))]
    labels, texts = table.texts("label"), [table.texts(name) for name in names]
    rows = list(zip(labels, *texts, strict=True))
    reading = {**table.readings.get("label", {})}
    if "by_number" not in reading:
        is_number = [label in known for label in labels]
        is_choice = [label in row for label, *row in rows]
        reading["by_number"] = is_number.count(True) >= is_choice.count(True)
    faults, found = Faults(len(table)), []
    for index, (label, *row) in enumerate(rows):
        if label not in known and label not in row:
            faults.add(
                index,
                f"{table.where(index)}: the label is {label!r}; expected the number of a choice, counted from 0: "
                f"{', '.join(known)}, or the choice itself.",
            )
            continue
        is_read_as_number = label in known and (reading["by_number"] or label not in row)
        found.append(label if is_read_as_number else str(row.index(label)))
    faults.refuse()
    column = pa.chunked_array([pa.array(found, pa.large_string())])
    numbered = table.rows.set_column(table.rows.column_names.index("label"), "label", column)
    return replace(table, rows=numbered, readings={**table.readings, "label": reading})


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """The numbers of the choices."""
    names = _given(parts["train"])
    if len(names) < 2:
        raise DataError(
            f"{parts['train'].source}: rows have {len(names)} choices; expected 2 to {MOST_CHOICES}: a column "
            "`choices` of lists, or columns choice1, choice2, …"
        )
    return {"labels": [str(number) for number in range(len(names))]}


def network(model: Any, num_texts: int) -> keras.Model:
    """How well a text goes with each of its choices, from a model of two texts: `logits` `(batch, choices)`."""
    single = keras.Model(model.input, model.output)
    prefixes = [graph.prefix(number) for number in range(1, num_texts)]
    whole = heads.side_by_side(single, dict(zip(prefixes, prefixes, strict=True)))
    return keras.Model(
        whole.input, {"logits": keras.layers.Concatenate(name="side_by_side")(list(whole.output.values()))}
    )


def evaluator_of(names: list[str]) -> Evaluator:
    """Accuracy and the log loss; calibration, and the wrong choices made with most confidence."""

    def scored(answers: Answers, table: Table) -> dict[str, Any]:
        every = classification.scored(answers["scores"], classify.class_ids(table, names), names)
        return {name: every[name] for name in ("accuracy", "log_loss", "num_rows")}

    def view(answers: Answers, table: Table) -> View:
        return worst_rows.chosen(answers["scores"], table, classify.class_ids(table, names), _given(table))

    return Evaluator(["accuracy", "log_loss"], ("accuracy",), of_answers=scored, view=view)


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of telling the right choice."""
    names = labels["labels"]
    return Problem(
        labels,
        SCHEMA,
        Examples(graph.encode, classify.targets_of(names)),
        Build(partial(heads.sequence_model, num_outputs=1), network, {"logits": len(names)}),
        classify.objective_of(),
        # `choice`, its number `label`, its `score`, and the `scores` of all.
        Forward(lambda outputs, extras, texts: graph.answers(outputs["logits"], names, texts[1:]), {"scores": names}),
        evaluator_of(names),
    )


SCHEMA = Schema(task_columns.COLUMNS["choose"], prepare=prepare)
CHOOSE = Task("choose", SCHEMA, learn, restore)
