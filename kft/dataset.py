"""Rows made ready for a task: read, mapped to columns, cleaned, split, and their targets checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kft import tasks
from kft.data import classes, clean, columns, faults, split, task_columns
from kft.data.columns import Column
from kft.data.table import GROUP, ROW, Table
from kft.datasets import loading, registry
from kft.errors import RecipeError, did_you_mean
from kft.evaluation import slices
from kft.readers import formats, inputs
from kft.recipe import COLUMN_KNOBS, Recipe, has_knob
from kft.tasks import beside
from kft.tasks.task import Labels, Problem, Schema, Task

DEFAULT_SHARE = Recipe.model_fields["validation"].default
DROP_ADVICE = " To leave such rows out: bad_rows=drop (--bad-rows drop)."


@dataclass(frozen=True)
class Dataset:
    """The rows of one fit.

    Attributes:
        task: What the user named.
        problem: The task bound to these rows.
        columns: Canonical column name to the user's.
        parts: `train`, and `validation` and `test` where there are any.
        notes: What the user should know, in the order it was found.
        read: The tables that the parts are made of, as they were read.
    """

    task: Task
    problem: Problem
    columns: Mapping[str, str]
    parts: Mapping[str, Table]
    notes: tuple[str, ...]
    read: Mapping[str, Table]

    @property
    def readings(self) -> dict[str, Any]:
        """How columns are read, as inferred from the training rows; by it rows are read that are scored later."""
        return dict(self.parts["train"].readings)

    def as_read(self, part: str) -> Table:
        """The rows of a part as they were read, with all columns of their source."""
        table = self.read.get(part, self.read["train"])
        return table.take(np.flatnonzero(np.isin(table.rows[ROW].to_numpy(), self.parts[part].rows[ROW].to_numpy())))

    def values(self, part: str, column: str) -> list[str | None]:
        """The value of a further column of each row of a part, as `columns.values_of` gives it."""
        return columns.values_of(self.parts[part], self.read.get(part, self.read["train"]), column, self.columns)

    @property
    def labels(self) -> Labels:
        """What the targets of train teach."""
        return self.problem.labels

    @property
    def vocabulary(self) -> Labels:
        """The former name of `labels`."""
        return self.labels

    @cached_property
    def training_rows(self) -> dict[str, Table]:
        """The rows of each part in the form that the network is trained on."""
        return {name: self.problem.examples.rows(part) for name, part in self.parts.items()}

    @property
    def text_columns(self) -> list[str]:
        """The columns of these rows whose tokens are trained on."""
        return [name for name in self.task.schema.trained_columns if name in self.parts["train"].names()]

    def best_by(self, asked: str) -> str:
        """The metric that picks the best weights: `asked`, or the task's own for `"auto"`.

        Raises:
            RecipeError: These rows and this task have no such metric.
        """
        metrics = ["loss", *self.problem.evaluator.metrics]
        name = asked.removeprefix("val_")
        if asked == "auto":
            name = next(metric for metric in self.problem.evaluator.best_by if metric in metrics)
        known = metrics if "validation" in self.parts else [name]
        if name not in known:
            raise RecipeError(
                f"metric: found {asked!r}, which {self.task.name} does not have.{did_you_mean(name, known)} "
                f"Expected one of: {', '.join(known)}."
            )
        return name

    def fingerprints(self) -> dict[str, str]:
        """The sha256 of each part's content."""
        return {name: part.fingerprint() for name, part in self.parts.items()}


def gather(recipe: Recipe, train: Any, validation: Any, test: Any) -> Dataset:
    """Reads and checks all rows of a fit.

    Args:
        recipe: Names the task and the columns.
        train: Rows in any form that `kft.readers.formats.read` takes, or the name of a benchmark.
        validation: Likewise, or the share of train to split off.
        test: Likewise, a share, or None.

    Raises:
        DataError: Anything that is wrong with the rows, with file and row.
        RecipeError: An unknown task or benchmark.
    """
    shares: dict[str, Any] = {"validation": validation, "test": test}
    notes: list[str] = []
    named = registry.is_name(train)
    if named:
        shares, notes = _benchmark_sources(train, shares)
    registry.check_data_dir(recipe.data_dir, [train, *shares.values()])
    read = {"train": _read(train, "train", recipe.data_dir, recipe.task)}
    # Official parts stay as they are, so that scores can be compared; rows of the user's own must not leak into them.
    is_benchmark = named and registry.is_name(shares["test"])
    for name, source in shares.items():
        if source is not None and not isinstance(source, int | float):
            read[name] = _read(source, name, recipe.data_dir, recipe.task)
            shares[name] = None
    given = {name: getattr(recipe, name) for name in COLUMN_KNOBS}
    heads = {head.name: head.task for head in recipe.aux}
    best_by: Sequence[str] | None = None
    if named and recipe.task in ("auto", registry.find(train)[0].task):
        benchmark, _ = registry.find(train)
        task, best_by = tasks.find(benchmark.task, heads), benchmark.metrics
    elif recipe.task == "auto":
        name, why = task_columns.decide(read["train"], given)
        task = tasks.find(name, heads)
        notes.append(f"task: {why}")
    else:
        task = tasks.find(recipe.task, heads)
    recipe.refuse_unused(task.name)
    given |= {beside.column_of(head.name): head.label for head in recipe.aux}
    chosen = columns.choose(read["train"], task.schema.columns, given)
    kept = registry.find(train)[0].kept if named else ()
    notes += columns.left_out(read["train"], [*chosen.values(), *kept, recipe.split_by, recipe.evaluate_by])
    wanted = [column for column in task.schema.columns if column.name in chosen]
    tables: dict[str, Table] = {}
    for name, table in read.items():
        used = chosen if name == "train" else columns.choose(table, wanted, chosen)
        # What is inferred from the values of the training rows holds for the other parts.
        readings = tables["train"].readings if tables else None
        raw = columns.canonical(table, used, recipe.split_by)
        tables[name] = faults.usable(raw, _ready(task.schema, wanted, readings), recipe.bad_rows, DROP_ADVICE)
    is_labelled = any(column.kind == "label" and column.name == beside.LABEL for column in wanted)
    if is_labelled and has_knob(task.name, "min_class_rows"):
        classes.check_repeated(tables["train"], chosen["label"], is_guess=recipe.task == "auto" and not recipe.label)
        rare = classes.rare_classes(tables["train"], recipe.min_class_rows)
        tables = {name: classes.without_rare(table, rare, recipe.min_class_rows) for name, table in tables.items()}
    of_texts = [
        column for column in task.schema.columns if column.kind == "text" and column.name in tables["train"].names()
    ]
    divided = split.split(
        tables["train"],
        tables.get("validation", shares["validation"]),
        tables.get("test", shares["test"]),
        text_columns=[column.name for column in of_texts],
        label_column="label" if is_labelled else None,
        stratify=is_labelled,
        seed=recipe.seed,
        allow_leaks=recipe.allow_leaks or is_benchmark,
        together=[column.name for column in of_texts if column.repeats == "together"] if len(of_texts) > 1 else [],
        noted=[column.name for column in of_texts if column.repeats == "noted"],
        split_by=recipe.split_by,
        further_classes=[c.name for c in wanted if c.kind == "label" and c.name != beside.LABEL],
    )
    found = {"train": divided.train, "validation": divided.validation, "test": divided.test}
    parts = {name: part.without(GROUP) for name, part in found.items() if part is not None}
    notes += [note for table in tables.values() for note in table.notes]
    notes += divided.notes
    if is_labelled and has_knob(task.name, "min_class_rows"):
        notes += classes.single_row_notes(parts["train"])
    if recipe.evaluate_by is not None:
        _check_evaluated(recipe.evaluate_by, parts, read, chosen)
    problem = task.bind(parts, recipe)
    if best_by is not None:
        problem = replace(problem, evaluator=replace(problem.evaluator, best_by=best_by))
    notes += problem.examples.notes(parts)
    return Dataset(task, problem, chosen, parts, tuple(dict.fromkeys(notes)), read)


def _ready(
    schema: Schema, wanted: Sequence[Column], readings: Mapping[str, Any] | None = None, *, has_targets: bool = True
) -> Callable[[Table], Table]:
    """From a canonical table to one that the task goes on with."""

    def ready(table: Table) -> Table:
        table = schema.prepare(clean.clean(table, wanted, readings))
        if has_targets:
            schema.check(table)
        return table

    return ready


def _benchmark_sources(name: str, shares: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The sources of validation and test rows, the benchmark's own where nothing else is asked for, and notes."""
    benchmark, _ = registry.find(name)
    sources, notes = dict(shares), [f"{name}: {benchmark.note}."] if benchmark.note else []
    is_default = isinstance(validation := sources["validation"], float) and validation == DEFAULT_SHARE
    if is_default and "validation" in benchmark.parts:
        sources["validation"] = name
    if sources["test"] is None and "test" in benchmark.parts:
        sources["test"] = name
    if "test" not in benchmark.parts:
        notes.append(f"{name}: the official test rows have no labels and are not used.")
    return sources, notes


def _read(source: Any, role: str, data_dir: str | Path | None, task_name: str) -> Table:
    """The rows of a source; of a benchmark the part that is meant for this role."""
    if not registry.is_name(source):
        return formats.read(source, role=role, file_format=formats.format_for(source, task_name))
    if role == "evaluate":
        role = "test" if "test" in registry.find(source)[0].parts else "validation"
    return loading.read(source, role, data_dir)


def unlabelled(
    rows: Any, task_name: str, schema: Schema, trained_on: Mapping[str, str], texts: Sequence[str]
) -> Table | None:
    """Rows to answer, as a table of the canonical text columns.

    Args:
        rows: A string, or strings, tuples of two strings, dicts or a table of any kind, see `kft.readers.inputs`.
        task_name: Of the run's task.
        schema: How rows are read for it.
        trained_on: Canonical column name to the name in the training rows; either is understood.
        texts: The text columns that the model reads.

    Returns:
        The table; None where there are no rows.
    """
    rows = inputs.rows(rows, texts)
    if rows is None:
        return None
    table = formats.read(rows, role="predict", file_format=formats.format_for(rows, task_name))
    given = {name: used if used in table.names() else None for name, used in trained_on.items()}
    unread = set(schema.text_columns) - set(texts)
    known = {*trained_on, *texts} - unread
    # Marks only say what stands in a text, in whichever way it was marked when the model was trained.
    wanted = [c for c in schema.columns if c.is_input and ({c.name, c.instead_of} & known or c.kind == "marks")]
    raw = columns.canonical(table, columns.choose(table, wanted, given))
    return faults.usable(raw, _ready(schema, wanted, has_targets=False), "refuse")


def _check_evaluated(
    column: str, parts: Mapping[str, Table], read: Mapping[str, Table], used: Mapping[str, str]
) -> None:
    """Refuses `evaluate_by` where no rows are held back, or they lack that column."""
    held_back = [name for name in ("validation", "test") if name in parts]
    if not held_back:
        raise RecipeError(f"evaluate_by: found {column!r}, but no rows are held back. Give validation or test rows.")
    for name in held_back:
        slices.by_values(columns.values_of(parts[name], read.get(name, read["train"]), column, used), column)


def labelled(
    rows: Any,
    task_name: str,
    schema: Schema,
    trained_on: Mapping[str, str],
    data_dir: str | Path | None = None,
    readings: Mapping[str, Any] | None = None,
) -> tuple[Table, Table]:
    """Rows to score, as a table of the canonical columns, labels included, and the table as it was read.

    Of a benchmark they are the test rows if those have labels, else the validation rows.

    Args:
        rows: In any form that `gather` takes.
        task_name: Of the run's task.
        schema: How rows are read for it.
        trained_on: Canonical column name to the name in the training rows; either is understood.
        data_dir: The directory of a benchmark's files.
        readings: How columns are read, as the training rows had it; None of a run that has not recorded it.
    """
    table = _read(rows, "evaluate", data_dir, task_name)
    given = {name: used if used in table.names() else None for name, used in trained_on.items()}
    wanted = [column for column in schema.columns if column.name in trained_on]
    raw = columns.canonical(table, columns.choose(table, wanted, given))
    return faults.usable(raw, _ready(schema, wanted, readings), "refuse"), table
