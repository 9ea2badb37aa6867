"""The Recipe: every knob of a fit in one frozen, validated, serialisable object.

The command line's flags, the YAML file, the tuner's space, what each task refuses and the docs are read off its fields,
so a knob is declared once: in the section of this room that it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml

from kft import disk, documents, knobs
from kft.errors import RecipeError, did_you_mean, printable, quoted
from kft.recipe import forgetting_knobs, model_knobs, row_knobs, task_knobs, training_knobs


class Recipe(  # pydantic takes the fields of the last of these first
    training_knobs.OutputKnobs,
    training_knobs.MachineKnobs,
    training_knobs.SelectionKnobs,
    training_knobs.OptimisationKnobs,
    task_knobs.GenerationKnobs,
    task_knobs.PretrainingKnobs,
    task_knobs.VectorKnobs,
    row_knobs.ClassKnobs,
    row_knobs.ColumnKnobs,
    row_knobs.RowKnobs,
    forgetting_knobs.ForgettingKnobs,
    model_knobs.AdapterKnobs,
    model_knobs.ModelKnobs,
):
    """Every knob of one fit. Frozen; names and values that are wrong, and knobs without use, raise `RecipeError`.

    Build it with `Recipe.of(...)`, read it from a file with `Recipe.read(path)`, write it with `.write(path)`.
    """

    @property
    def adapter_settings(self) -> dict[str, Any]:
        """The knobs of adapters, by name."""
        return {name: getattr(self, name) for name in type(self).model_fields if name.startswith("lora_")}

    @classmethod
    def of(cls, base: Recipe | None = None, **values: Any) -> Recipe:
        """The Recipe with these knobs, on top of `base` if one is given.

        Raises:
            RecipeError: A knob with an unknown name (with the nearest known one), a value out of range, or a knob that
                is set and that the task, preset or other knobs do not use.

        >>> Recipe.of(epochs=2).epochs
        2
        """
        recipe = cls._valid({**(base.model_dump() if base else {}), **values})
        recipe.refuse_unused()
        return recipe

    @classmethod
    def value_of(cls, name: str, value: Any) -> Any:
        """A value as the Recipe holds it, for instance a number that was written as text.

        Raises:
            RecipeError: No knob has this name, or this value.

        >>> Recipe.value_of("task", "token-classification")
        'tag'
        """
        return getattr(cls._valid({name: value}), name)

    @classmethod
    def _valid(cls, values: Mapping[str, Any]) -> Recipe:
        """These knobs with each value checked by itself."""
        for name in values:
            if name not in cls.model_fields:
                raise RecipeError(f"unknown knob {quoted(name)}.{did_you_mean(name[:100], cls.model_fields)}")
        try:
            return cls(**values)
        except pydantic.ValidationError as error:
            raise RecipeError("; ".join(_sentence(problem) for problem in error.errors())) from None

    def refuse_unused(self, task: str | None = None, **decided: Any) -> None:
        """Refuses knobs that are set to another value than their default and that this fit does not use.

        Args:
            task: The task, where `auto` has been decided.
            **decided: Other knobs whose `auto` has been decided.

        Raises:
            RecipeError: Names each knob, its value, and what it is used with.

        """
        values = {**dict(self), "task": task or self.task, **decided}
        unused = knobs.unused(type(self).model_fields, values)
        if not unused:
            return
        cure = "Leave it out." if len(unused) == 1 else "Leave them out."
        if self.task == "auto" and values["task"] != "auto":
            cure = f"{cure[:-1]}, or name another task: the columns are those of {values['task']}."
        if not {*unused}.isdisjoint(COLUMN_KNOBS):
            columns = [name for name in COLUMN_KNOBS if has_knob(values["task"], name)]
            cure += f" The columns of {values['task']}: {', '.join(columns)}."
        raise RecipeError(f"{' '.join(unused.values())} {cure}")

    @classmethod
    def read(cls, path: str | Path, *, is_recorded: bool = False) -> Recipe:
        """Reads a recipe file, YAML or JSON: one mapping of knob names to values.

        Args:
            path: The file.
            is_recorded: Whether it is that of a run, which earlier versions of kft have begun with knobs without use.

        Raises:
            RecipeError: The file is missing or not such a mapping, or a knob in it is wrong.
        """
        values = documents.read(Path(path), RecipeError)
        if not isinstance(values, Mapping):
            raise RecipeError(f"{path}: found {type(values).__name__}, expected a mapping of knobs, as in 'epochs: 3'")
        for name in values:
            if not isinstance(name, str):
                raise RecipeError(f"{path}: found {quoted(name)} as the name of a knob, as in 'epochs: 3'")
        try:
            return cls._valid(values) if is_recorded else cls.of(**values)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from None

    def write(self, path: str | Path) -> None:
        """Writes every knob to `path`, as JSON if it ends in .json and as YAML otherwise."""
        values = self.model_dump(mode="json")
        if str(path).endswith(".json"):
            disk.write_json(path, values)
        else:
            disk.write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


COLUMN_KNOBS = tuple(knobs.by_group(Recipe.model_fields)["Columns"])
"""The knobs that name a column of the rows: what kft calls it."""


def has_knob(task: str, name: str) -> bool:
    """Whether a task has a knob.

    >>> has_knob("classify", "label_smoothing"), has_knob("tag", "label_smoothing"), has_knob("tag", "epochs")
    (True, False, True)
    """
    tasks = knobs.use_of(Recipe.model_fields[name]).tasks
    return not tasks or task in tasks


def _sentence(problem: Any) -> str:
    """One pydantic problem as a sentence: which knob, what was found, what was expected."""
    where = ".".join(str(part) for part in problem["loc"][:1])
    message = problem["msg"].removeprefix("Value error, ")
    if not where:  # the message of a check of several knobs names them
        return message
    return f"{printable(where)}: found {quoted(problem['input'])}: {message}"
