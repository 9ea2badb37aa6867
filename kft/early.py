"""What can be refused of a fit without TensorFlow, before it is loaded, which takes seconds.

Each check is the function that says the same later, so that a fault has one wording.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kft import run_directory
from kft.data import columns, task_columns
from kft.data.columns import Column
from kft.datasets import registry
from kft.errors import RecipeError, quoted
from kft.models import handles
from kft.readers import formats
from kft.recipe import COLUMN_KNOBS, Recipe

MOST_BYTES = 64 * 2**20
"""The largest file that is read here, since it is read again for the fit."""


def refuse(recipe: Recipe, sources: Mapping[str, Any], *, is_out_a_run: bool = True) -> str:
    """Refuses what is wrong with knobs, paths and columns.

    Args:
        recipe: The knobs.
        sources: `train`, `validation` and `test` as the user gave them; only paths are looked at.
        is_out_a_run: Whether `out` is to be a new run.

    Returns:
        The task; `auto` where it cannot be told without the rows of an object, a large file or TensorFlow.

    Raises:
        KftError: Of the kind that says what is wrong.
    """
    if recipe.out and is_out_a_run:
        run_directory.refuse_occupied(Path(recipe.out))
    handles.local(recipe.preset)
    registry.check_data_dir(recipe.data_dir, [*sources.values()])
    for earlier in recipe.retain:
        refuse_source(earlier.data, "retain", recipe)
        if earlier.run is not None and not handles.is_run(earlier.run):
            raise RecipeError(f"retain: run: found {quoted(earlier.run)}, expected the directory of a finished run.")
    tasks = {
        role: refuse_source(source, role, recipe) for role, source in sources.items() if isinstance(source, str | Path)
    }
    return tasks.get("train", recipe.task)


def refuse_source(source: str | Path, role: str, recipe: Recipe) -> str:
    """Refuses the path of rows that are not there or cannot be read, or whose columns do not fit the recipe.

    Returns:
        The task, which the training rows decide where the recipe does not; `auto` where they are not looked at.

    Raises:
        DataError: As the fit would.
        RecipeError: No benchmark is called so.
    """
    if registry.is_name(source):
        benchmark, _ = registry.find(str(source))
        if role != "train" or recipe.task != "auto":
            return recipe.task
        recipe.refuse_unused(benchmark.task)
        return benchmark.task
    path = formats.checked_path(source, role)
    if path.stat().st_size > MOST_BYTES:
        return recipe.task
    table = formats.read(source, role=role, file_format=formats.format_for(source, recipe.task))
    if role != "train":
        return recipe.task
    given = {name: getattr(recipe, name) for name in COLUMN_KNOBS}
    task = task_columns.decide(table, given)[0] if recipe.task == "auto" else recipe.task
    recipe.refuse_unused(task)
    columns.choose(table, task_columns.COLUMNS[task], given)
    for head in recipe.aux:
        columns.choose(table, [Column(head.name, "label")], {head.name: head.label})
    return task


def split_rows(train: Any, knobs: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe, with paths and shares in it, and the rows themselves where they are given as objects."""
    plain = {name: value for name, value in knobs.items() if is_knob(name, value)}
    if isinstance(train, str | Path):
        plain["train"] = str(train)
    as_text: dict[str, Any] = {name: str(v) if isinstance(v, Path) else v for name, v in plain.items()}
    recipe = Recipe.of(**as_text)
    return recipe, {
        "train": train,
        "validation": recipe.validation if is_knob("validation", knobs.get("validation")) else knobs["validation"],
        "test": recipe.test if is_knob("test", knobs.get("test")) else knobs["test"],
    }


def is_knob(name: str, value: Any) -> bool:
    """Whether a value goes into the recipe, rather than being rows given as an object."""
    return name not in ("validation", "test") or value is None or isinstance(value, str | Path | int | float)
