"""The space a search draws from: knobs of the Recipe, each with a list of values or a range.

One small form serves Python, YAML and, through `parse`, the shell:

    learning_rate: {min: 1e-5, max: 5e-4, scale: log}
    batch_size: [16, 32]
    epochs: 3
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from kft import knobs
from kft.errors import RecipeError, did_you_mean
from kft.recipe import COLUMN_KNOBS, Recipe
from kft.transfer import strategies

# Around the rates that `learning_rate="auto"` stands for: 1e-5 to 3e-4 by the size of the model, 1e-3 for a head alone.
LEARNING_RATES = {"full": (1e-5, 5e-4), "features": (1e-4, 1e-2), "small": (1e-4, 5e-3)}

# What all trials share: with other rows, another split or another measure they could not be compared.
ROWS = ("train", "validation", "test", *COLUMN_KNOBS, "allow_leaks")
SHARED = frozenset((*ROWS, "task", "out", "save_best_by", "seed"))
RANGE_KEYS = ("min", "max", "scale", "step")
SCALES = ("linear", "log")
MAX_VALUES = 1_000

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})((?::[^:]*)*)")


@dataclass(frozen=True)
class Choice:
    """A knob with a few values to try.

    Attributes:
        values: As the Recipe holds them.
    """

    values: tuple[Any, ...]

    def form(self) -> list[Any]:
        """The values as they are written in Python and YAML."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A numeric knob between two values.

    Attributes:
        low: The smallest value.
        high: The largest value, which belongs to the range.
        scale: `log` draws each factor alike, `linear` each difference.
        is_whole: Whether the knob is a whole number.
    """

    low: float
    high: float
    scale: Literal["linear", "log"]
    is_whole: bool

    def form(self) -> dict[str, Any]:
        """The range as it is written in Python and YAML."""
        return {"min": self.low, "max": self.high, "scale": self.scale}


Space = dict[str, Choice | Range]


def default(recipe: Recipe, given: Collection[str]) -> dict[str, Any]:
    """The form of the space where none is given: what `given` leaves open of learning rate, batch size and epochs.

    >>> default(Recipe(transfer="features"), ["batch_size"])
    {'learning_rate': {'min': 0.0001, 'max': 0.01, 'scale': 'log'}, 'epochs': [2, 3, 4]}
    """
    kind = "small" if strategies.is_small(recipe.transfer) else recipe.transfer
    low, high = LEARNING_RATES[kind if kind in LEARNING_RATES else "full"]
    rates = {"min": low, "max": high, "scale": "log"}
    every = {"learning_rate": rates, "batch_size": [16, 32], "epochs": [2, 3, 4]}
    if recipe.max_steps is not None:  # which ends training, whatever epochs says
        del every["epochs"]
    return {name: form for name, form in every.items() if name not in given}


def num_combinations(space: Space) -> float:
    """How many different trials there are; infinite where a number is drawn from an open range."""
    sizes = [
        len(part.values) if isinstance(part, Choice) else part.high - part.low + 1 if part.is_whole else math.inf
        for part in space.values()
    ]
    return math.prod(sizes)


def parse(*texts: str) -> dict[str, Any]:
    """The form of a space from the way it is written in a shell, one text for each knob.

    A list is `knob=value,value`, a range `knob=low..high`, then `:log` and `:step=number` as wished.

    Raises:
        RecipeError: A text is not of this form, or two are about one knob. `of` checks names and values.

    >>> parse("learning_rate=1e-5..5e-4:log")
    {'learning_rate': {'min': 1e-05, 'max': 0.0005, 'scale': 'log'}}
    >>> parse("batch_size=16,32", "epochs=2..4", "transfer=full")
    {'batch_size': [16, 32], 'epochs': {'min': 2, 'max': 4}, 'transfer': ['full']}
    >>> parse("weight_decay=0..0.1:step=0.05")
    {'weight_decay': {'min': 0, 'max': 0.1, 'step': 0.05}}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not (name and equals and values) or any(not value.strip() for value in values.split(",")):
            raise RecipeError(
                f"space: found {text!r}, expected knob=value,value or knob=low..high[:log][:step=number], "
                "as in learning_rate=1e-5..5e-4:log"
            )
        if name in found:
            raise RecipeError(f"space: {name} is there twice. Write it once: {name}=value,value")
        limits = _RANGE.fullmatch(values)
        listed = [_value(value) for value in values.split(",")]
        found[name] = _parsed_range(*limits.groups()) if limits else listed
    return found


def of(given: Mapping[str, Any], base: Recipe) -> Space:
    """The space of this form, every listed value and every end of a range checked by the Recipe.

    Args:
        given: Knob to a list of values, to a range `{"min", "max"}` with `scale` as wished, or to one value that
            stays fixed. A range with a `step`, on a log scale a factor, is the list of values from min to max.
        base: The knobs around it.

    Raises:
        RecipeError: An unknown knob, one that all trials must share, a value the knob cannot have, one that some
            trial would not use, or epochs beside max_steps.

    >>> of({"epochs": [1, 2], "learning_rate": "1e-4"}, Recipe())
    {'epochs': Choice(values=(1, 2)), 'learning_rate': Choice(values=(0.0001,))}
    """
    if not isinstance(given, Mapping) or not given:
        raise RecipeError(f"space: found {given!r}, expected knobs, as in {{'batch_size': [16, 32]}}")
    space: Space = {}
    for name, form in given.items():
        if name not in Recipe.model_fields:
            raise RecipeError(f"space: unknown knob {name!r}.{did_you_mean(name, Recipe.model_fields)}")
        if name in SHARED:
            raise RecipeError(f"space: {name} is the same for all trials. Give it beside the space.")
        if isinstance(form, Mapping) and (_number_type(name) or set(form) & {"min", "max"}):
            space[name] = _range(name, form)
        else:
            space[name] = _choice(name, form if isinstance(form, list | tuple) else [form])
    refuse_unused(space, base)
    if "epochs" in space and (base.max_steps is not None or "max_steps" in space):
        raise RecipeError(
            "space: epochs is searched, but max_steps ends training whatever epochs says. Leave one of them out."
        )
    return space


def refuse_unused(space: Space, base: Recipe) -> None:
    """Refuses knobs, of the space and around it, that the trials do not use, or only those of some other value.

    Raises:
        RecipeError: Names the knob and what it is used with.
    """
    fields, around = Recipe.model_fields, dict(base)
    for name, declared in fields.items():
        drawn, use = space.get(name), knobs.use_of(declared)
        values = drawn.values if isinstance(drawn, Choice) else [around[name]]
        if not isinstance(drawn, Range) and all(value == declared.default for value in values):
            continue
        for other in (*sorted(use.depends_on), "task"):
            part = space.get(other)
            for value in part.values if isinstance(part, Choice) else [around[other]]:
                why = use.why_unused({**around, **_first(space), other: value})
                if why is not None:
                    cure = "Search them apart" if part is not None else "Leave it out"
                    raise RecipeError(f"space: {name} {why}. {cure}.")


def _first(space: Space) -> dict[str, Any]:
    """A value of each knob of the space that is listed."""
    return {name: part.values[0] for name, part in space.items() if isinstance(part, Choice)}


def form(space: Space) -> dict[str, Any]:
    """The form of a space that `of` reads back, in plain JSON values."""
    return {name: part.form() for name, part in space.items()}


def _parsed_range(low: str, high: str, options: str) -> dict[str, Any]:
    limits: dict[str, Any] = {"min": _value(low), "max": _value(high)}
    for option in filter(None, options.split(":")):
        key, equals, value = option.partition("=")
        limits |= {key.strip(): _value(value)} if equals else {"scale": option.strip()}
    return limits


def _value(text: str) -> Any:
    """A value as YAML reads it, and numbers such as 1e-5, which YAML 1.1 takes for text."""
    text = text.strip()
    if re.fullmatch(_NUMBER, text):
        return float(text) if re.search(r"[.eE]", text) else int(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"space: found {text!r}, expected a number, a word, true, false or null") from None


def _choice(name: str, values: list[Any] | tuple[Any, ...]) -> Choice:
    known = tuple(_as_knob(name, value) for value in values)
    if not known:
        raise RecipeError(f"space: {name} has no value. Give at least one, as in {name}: [value, value]")
    repeated = [value for position, value in enumerate(known) if value in known[:position]]
    if repeated:
        raise RecipeError(f"space: {name} lists {repeated[0]!r} twice. List each value once.")
    return Choice(known)


def _range(name: str, limits: Mapping[str, Any]) -> Choice | Range:
    for key in limits:
        if key not in RANGE_KEYS:
            hint = did_you_mean(key, RANGE_KEYS)
            raise RecipeError(f"space: {name} has {key!r}; a range has {', '.join(RANGE_KEYS)}.{hint}")
    number_type = _number_type(name)
    if number_type is None:
        raise RecipeError(f"space: {name} has no range, as it is not a number. List its values.")
    if "min" not in limits or "max" not in limits:
        raise RecipeError(f"space: {name} has {dict(limits)}; a range needs both min and max.")
    low, high = (_as_knob(name, limits[key]) for key in ("min", "max"))
    scale, step = limits.get("scale", "linear"), limits.get("step")
    if not all(isinstance(end, int | float) for end in (low, high)) or not low < high:
        raise RecipeError(f"space: {name} runs from {low!r} to {high!r}; expected a number and a larger one.")
    if scale not in SCALES:
        hint = did_you_mean(scale, SCALES)
        raise RecipeError(f"space: {name} has the scale {scale!r}; expected {' or '.join(SCALES)}.{hint}")
    if scale == "log" and low <= 0:
        raise RecipeError(f"space: {name} starts at {low!r}; a log scale starts above 0.")
    if step is None:
        return Range(low, high, scale, number_type is int)
    _check_step(name, step, scale, number_type)
    return _choice(name, _stepped(name, low, high, step, scale, number_type))


def _stepped(name: str, low: float, high: float, step: float, scale: str, number_type: type) -> list[Any]:
    """The values from low to high, both among them.

    Raises:
        RecipeError: The steps do not lead to high, or there are too many.
    """
    count = (math.log(high / low) / math.log(step) if scale == "log" else (high - low) / step) + 1
    if count > MAX_VALUES:
        raise RecipeError(
            f"space: {name} has {count:,.0f} values, expected {MAX_VALUES:,} at most. Choose a larger step."
        )
    # Twelve digits, so that three steps of 0.1 are 0.3.
    values = [float(f"{low * step**i if scale == 'log' else low + i * step:.12g}") for i in range(int(count + 1.5))]
    if not any(math.isclose(value, high, rel_tol=1e-9) for value in values):
        below = max(value for value in values if value < high)
        above = min(value for value in values if value > high)
        raise RecipeError(
            f"space: {name} runs from {low!r} to {high!r}, which the step {step!r} does not reach. "
            f"Let it end at {number_type(below)!r} or {number_type(above)!r}."
        )
    return [number_type(value) for value in values if value < high and not math.isclose(value, high)] + [high]


def _check_step(name: str, step: Any, scale: str, number_type: type) -> None:
    least = 1 if scale == "log" else 0
    kinds = (int,) if number_type is int else (int, float)
    if isinstance(step, bool) or not isinstance(step, kinds) or not step > least:
        expected = f"{'a whole' if number_type is int else 'a'} number above {least}"
        raise RecipeError(f"space: {name} has the step {step!r}; on a {scale} scale expected {expected}.")


def _as_knob(name: str, value: Any) -> Any:
    """The value as the Recipe holds it, for instance a number that YAML read as text."""
    try:
        return Recipe.value_of(name, value)
    except RecipeError as error:
        raise RecipeError(f"space: {error}") from None


def _number_type(name: str) -> type | None:
    """int or float where the knob is a number, perhaps beside words such as auto."""
    annotation = Recipe.model_fields[name].annotation
    kinds = typing.get_args(annotation) or (annotation,)
    return next((kind for kind in kinds if kind in (int, float)), None)
