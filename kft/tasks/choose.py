"""Multiple choice: which of several texts goes with a text (what follows, which answer is right).

Reference:
    Zellers et al., 2018, sec. 5.1, https://arxiv.org/abs/1808.05326; Devlin et al., 2019, sec. 4.4
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pyarrow as pa

from kft.data import task_columns
from kft.data.faults import Faults
from kft.data.store import Store
from kft.data.table import Table
from kft.data.task_columns import CHOICES, MOST_CHOICES
from kft.errors import DataError
from kft.evaluation import metrics, shown
from kft.models import heads
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks import classify
from kft.tasks.task import Task, Vocabulary
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


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
    """The numbers of the choices."""
    names = _given(parts["train"])
    if len(names) < 2:
        raise DataError(
            f"{parts['train'].source}: rows have {len(names)} choices; expected 2 to {MOST_CHOICES}: a column "
            "`choices` of lists, or columns choice1, choice2, …"
        )
    return {"labels": [str(number) for number in range(len(names))]}


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """A model of two texts with a single logit: how well they go together."""
    return heads.sequence_model(preset, 1, **settings)


def network(model: Any, num_texts: int) -> keras.Model:
    """The same for the text with each of its choices: `(batch, choices)` logits."""
    single = keras.Model(model.input, model.output)
    return heads.side_by_side(single, [graph.prefix(number) for number in range(1, num_texts)])


def answers(outputs: Any, vocabulary: Vocabulary, extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """`choice`, its number `label`, its `score`, and the `scores` of all."""
    return graph.answers(outputs, vocabulary["labels"], texts[1:])


def worst(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> tuple[list[Any], list[Any]]:
    """Calibration, and the wrong choices made with most confidence."""
    return shown.chosen(found["scores"], table, targets(table, vocabulary), _given(table))


def targets(table: Table, vocabulary: Vocabulary, store: Store | None = None) -> np.ndarray:
    """The number of the right choice: `(rows,)` int32."""
    return classify.targets(table, vocabulary)


def score(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> dict[str, Any]:
    """Accuracy, and the log loss."""
    scored = metrics.classification(found["scores"], targets(table, vocabulary), vocabulary["labels"])
    return {name: scored[name] for name in ("accuracy", "log_loss", "num_rows")}


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those that `score` gives."""
    return ["accuracy", "log_loss"]


CHOOSE = Task(
    name="choose",
    columns=task_columns.COLUMNS["choose"],
    prepare=prepare,
    vocabulary=vocabulary,
    targets=targets,
    features=graph.encode,
    head=head,
    network=network,
    loss=classify.loss,
    answers=answers,
    score=score,
    metrics=metric_names,
    shown=worst,
    best_by=("accuracy",),
)
