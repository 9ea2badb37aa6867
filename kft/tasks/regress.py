"""Regression: a number for one text, or for a pair (similarity).

The model learns standard scores, so that one learning rate suits ratings from 1 to 5 and prices in thousands alike;
answers are back in the unit of the training targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kft.data import task_columns
from kft.data.table import Table
from kft.errors import DataError
from kft.evaluation import metric, regression, worst_rows
from kft.losses import row_losses
from kft.losses.objective import Objective, Term
from kft.recipe import Recipe
from kft.tasks.classify import build_of
from kft.tasks.task import Evaluator, Examples, Forward, Labels, Problem, Schema, Task
from kft.text import decode, tokens


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """Mean and standard deviation of train's numbers."""
    values = parts["train"].rows["label"].to_numpy().astype(np.float64)
    deviation = float(values.std())
    if deviation == 0:
        raise DataError(
            f"{parts['train'].source}: all {len(values)} targets are {values[0]:g}; expected different numbers."
        )
    return {"mean": float(values.mean()), "deviation": deviation}


def numbers(table: Table) -> np.ndarray:
    """The numbers of the rows in the user's unit: `(rows,)` float32."""
    return table.rows["label"].to_numpy().astype(np.float32)


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of telling a number."""
    scale = labels["mean"], labels["deviation"]

    def loss(outputs: Any, targets: Any) -> Any:
        return row_losses.squared_error(outputs["logits"], targets["number"], *scale)

    return Problem(
        labels,
        SCHEMA,
        Examples(tokens.encode, lambda table, store: {"number": numbers(table)}),
        build_of(1),
        Objective((Term("number", loss),)),
        Forward(lambda outputs, extras, texts: decode.values(outputs["logits"], *scale), signature="regress"),
        Evaluator(
            list(metric.scalars(regression.scored([0.0, 1.0], [0.0, 1.0]))),
            ("pearson",),
            of_answers=lambda answers, table: regression.scored(answers["value"], numbers(table)),
            view=lambda answers, table: worst_rows.regressed(answers["value"], table, numbers(table)),
        ),
    )


SCHEMA = Schema(task_columns.COLUMNS["regress"])
REGRESS = Task("regress", SCHEMA, learn, restore)
