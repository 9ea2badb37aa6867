"""Relation classification: how two marked parts of a text belong together.

The network reads the marks as `@` around the first part and `#` around the second, which every tokenizer knows.

Reference:
    Zhou and Chen, 2022, "An improved baseline for sentence-level relation extraction", sec. 3 (entity marker, punct),
    https://arxiv.org/abs/2102.01373
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from kft.data import checks, edges, task_columns
from kft.data.faults import Faults
from kft.data.table import Table
from kft.recipe import Recipe
from kft.tasks import classify
from kft.tasks.task import Labels, Problem, Schema, Task
from kft.text import marks
from kft.text.marks import SIGNS


def prepare(table: Table) -> Table:
    """Marks the parts that `spans` names e1 and e2 in the text, as in `<e1>Tea</e1> comes from <e2>China</e2>`.

    Raises:
        BadRows: Texts without both marks, or spans that are not one e1 and one e2.
    """
    if "spans" in table.names():
        table = edges.spans(table)
        checks.check_spans(table)
        rows = zip(table.texts("text"), table.texts("spans"), strict=True)
        faults, texts = Faults(len(table)), []
        for index, (text, spans) in enumerate(rows):
            try:
                texts.append(_marked(text, spans))
            except ValueError as error:
                faults.add(index, f"{table.where(index)}: {error}")
        faults.refuse()
        column = pa.chunked_array([pa.array(texts, pa.large_string())])
        rest = table.rows.drop_columns(["spans"])
        table = replace(table, rows=rest.set_column(rest.column_names.index("text"), "text", column))
    faults = Faults(len(table))
    for index, text in enumerate(table.texts("text")):
        lacking = [mark for mark in SIGNS if text.count(f"<{mark}>") != 1 or text.count(f"</{mark}>") != 1]
        if lacking:
            faults.add(
                index,
                f"{table.where(index)}: the text has no single <{lacking[0]}>…</{lacking[0]}>; expected "
                "both parts marked, as in '<e1>Tea</e1> comes from <e2>China</e2>', or spans labelled e1 and e2.",
            )
    faults.refuse()
    return table


def _marked(text: str, spans: list[dict[str, Any]]) -> str:
    if sorted(span["label"] for span in spans) != list(SIGNS):
        found = ", ".join(span["label"] for span in spans) or "none"
        raise ValueError(f"found spans {found}; expected one labelled e1 and one labelled e2.")
    for span in sorted(spans, key=lambda span: -span["start"]):
        start, end, mark = span["start"], span["end"], span["label"]
        text = f"{text[:start]}<{mark}>{text[start:end]}</{mark}>{text[end:]}"
    return text


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """Classification of texts whose marks are read."""
    problem = classify.restore(labels, recipe)
    return replace(
        problem,
        schema=SCHEMA,
        examples=replace(problem.examples, features=marks.encode),
        evaluator=replace(problem.evaluator, best_by=("macro_f1",)),
    )


SCHEMA = Schema(task_columns.COLUMNS["relate"], prepare=prepare)
RELATE = Task("relate", SCHEMA, classify.learn, restore)
