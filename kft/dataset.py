"""Rows made ready for a task: read, mapped to columns, cleaned, split, and their targets checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kft import tasks
from kft.data import clean, columns, formats, split
from kft.data.table import Table
from kft.errors import DataError, RecipeError, did_you_mean
from kft.evaluation import metrics
from kft.recipe import Recipe
from kft.tasks.task import Task, Vocabulary


@dataclass(frozen=True)
class Dataset:
    """The rows of one fit.

    Attributes:
        task: What the columns mean.
        columns: Canonical column name to the user's.
        parts: `train`, and `validation` and `test` where there are any.
        vocabulary: What the targets of train teach.
        notes: What the user should know, in the order it was found.
    """

    task: Task
    columns: Mapping[str, str]
    parts: Mapping[str, Table]
    vocabulary: Vocabulary
    notes: tuple[str, ...]

    @property
    def text_columns(self) -> list[str]:
        """The task's text columns that these rows have."""
        return [name for name in self.task.text_columns if name in self.columns]

    def best_by(self, asked: str) -> str:
        """The metric that picks the best weights: `asked`, or the task's own for `"auto"`.

        Raises:
            RecipeError: These rows and this task have no such metric.
        """
        name = self.task.best_by if asked == "auto" else asked.removeprefix("val_")
        known = self.metric_names() if "validation" in self.parts else [name]
        if name not in known:
            raise RecipeError(
                f"metric: found {asked!r}, which {self.task.name} does not have.{did_you_mean(name, known)} "
                f"Expected one of: {', '.join(known)}."
            )
        return name

    def metric_names(self) -> list[str]:
        """The metrics of the validation rows, from scoring outputs of zero: one for each label, or one in all."""
        targets = self.task.targets(self.parts["validation"], self.vocabulary)
        zeros = np.zeros((len(targets), len(self.vocabulary.get("labels", ["value"]))), np.float32)
        answers = {name: value.numpy() for name, value in self.task.answers(zeros, self.vocabulary).items()}
        return ["loss", *metrics.scalars(self.task.score(answers, targets, self.vocabulary))]

    def fingerprints(self) -> dict[str, str]:
        """The sha256 of each part's content."""
        return {name: part.fingerprint() for name, part in self.parts.items()}


def gather(recipe: Recipe, train: Any, validation: Any, test: Any) -> Dataset:
    """Reads and checks all rows of a fit.

    Args:
        recipe: Names the task and the columns.
        train: Rows in any form that `kft.data.formats.read` takes.
        validation: Rows, or the share of train to split off.
        test: Rows, a share, or None.

    Raises:
        DataError: Anything that is wrong with the rows, with file and row.
        RecipeError: An unknown task.
    """
    read = {"train": formats.read(train, role="train")}
    shares: dict[str, Any] = {"validation": validation, "test": test}
    for name, source in shares.items():
        if source is not None and not isinstance(source, int | float):
            read[name] = formats.read(source, role=name)
            shares[name] = None
    given = {"text": recipe.text, "text_pair": recipe.text_pair, "label": recipe.label}
    notes: list[str] = []
    if recipe.task == "auto":
        task, why = tasks.decide(read["train"], given)
        notes.append(f"task: {why}")
    else:
        task = tasks.find(recipe.task)
    chosen = columns.choose(read["train"], task.columns, given)
    wanted = [column for column in task.columns if column.name in chosen]
    tables = {}
    for name, table in read.items():
        used = chosen if name == "train" else columns.choose(table, wanted, chosen)
        tables[name] = clean.clean(columns.canonical(table, used), wanted)
    is_labelled = any(column.kind == "label" for column in wanted)
    divided = split.split(
        tables["train"],
        tables.get("validation", shares["validation"]),
        tables.get("test", shares["test"]),
        text_columns=[column.name for column in wanted if column.kind == "text"],
        label_column="label" if is_labelled else None,
        stratify=is_labelled,
        seed=recipe.seed,
        allow_leaks=recipe.allow_leaks,
    )
    found = {"train": divided.train, "validation": divided.validation, "test": divided.test}
    parts = {name: part for name, part in found.items() if part is not None}
    notes += [note for table in tables.values() for note in table.notes]
    notes += divided.notes
    return Dataset(task, chosen, parts, task.vocabulary(parts, recipe), tuple(dict.fromkeys(notes)))


def unlabelled(rows: Any, task: Task, trained_on: Mapping[str, str]) -> Table:
    """Rows to answer, as a table of the canonical text columns.

    Args:
        rows: A string, or strings, tuples of two strings, dicts or a table of any kind.
        task: The run's task.
        trained_on: Canonical column name to the name in the training rows; either is understood.
    """
    if isinstance(rows, str):
        rows = [rows]
    names = [name for name in task.text_columns if name in trained_on]
    if isinstance(rows, list | tuple) and rows and all(isinstance(row, str | tuple) for row in rows):
        as_tuples = [(row,) if isinstance(row, str) else row for row in rows]
        for number, row in enumerate(as_tuples, 1):
            if len(row) != len(names):
                raise DataError(f"row {number}: found {len(row)} texts, expected {len(names)}: {', '.join(names)}")
        rows = [dict(zip(names, row, strict=True)) for row in as_tuples]
    table = formats.read(rows, role="predict")
    given = {name: trained_on[name] if trained_on[name] in table.names() else None for name in names}
    wanted = [column for column in task.columns if column.name in names]
    return clean.clean(columns.canonical(table, columns.choose(table, wanted, given)), wanted)


def labelled(rows: Any, task: Task, trained_on: Mapping[str, str]) -> Table:
    """Rows to score, as a table of the canonical columns, labels included."""
    table = formats.read(rows, role="evaluate")
    given = {name: used if used in table.names() else None for name, used in trained_on.items()}
    wanted = [column for column in task.columns if column.name in trained_on]
    return clean.clean(columns.canonical(table, columns.choose(table, wanted, given)), wanted)
