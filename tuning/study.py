"""tune(): many fits with different knobs, the best of them kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import keras
import keras_tuner

import kft
from kft import disk, run, run_directory, workflow
from kft.dataset import Dataset
from kft.errors import RecipeError, TrainingError, did_you_mean, printable
from kft.keywords import SharedKnobs
from kft.models import presets
from kft.recipe import COLUMN_KNOBS, Recipe
from kft.run import Run
from tuning import directory, ledger
from tuning import space as spaces
from tuning.ledger import Record
from tuning.space import Range, Space
from tuning.trial import SEARCHES, Plan, Search, shown

BEST = "best.yaml"


@dataclass(frozen=True)
class Study:
    """A finished search.

    Attributes:
        path: Its directory.
        best: The best trial's recipe with the test rows put back, as in best.yaml.
        best_value: The objective of the best trial.
        trials: One record for each trial, as in trials.jsonl, in the order they ran.
    """

    path: Path
    best: Recipe
    best_value: float
    trials: list[Record]

    def best_run(self) -> Run:
        """The best trial's run, whole: it predicts, evaluates and exports."""
        return run.load(self.path / ledger.run_path(ledger.ranked(self.trials)[0]["trial"]))


def tune(
    train: Any,
    *,
    space: Mapping[str, Any] | None = None,
    trials: int = 10,
    search: str = "random",
    objective: str = "auto",
    out: str | Path | None = None,
    seed: int = 0,
    quiet: bool = False,
    **knobs: Unpack[SharedKnobs],
) -> Study:
    """Fits with many combinations of knobs and keeps the best by a validation metric.

    All trials have the same rows and the same validation split; test rows are no part of any. Called again
    with the same arguments and `out`, a search that was stopped or killed goes on, and more `trials` extend a
    finished one.

    Args:
        train: Rows in any form that `kft.fit` takes.
        space: Knob to a list of values `[16, 32]`, a range `{"min": 1e-5, "max": 5e-4, "scale": "log"}`
            (perhaps with "step") or one value. None: those of learning rate, batch size and epochs that
            `knobs` leave open, the rates around the one that `auto` stands for.
        trials: How many fits at most; fewer where the space has fewer combinations.
        search: `random`, or `grid`: every combination in turn, a range without step as some ten values.
        objective: The validation metric to go by; auto: save_best_by, or the task's own.
        out: The study's directory. Default: the next free `runs/tune-<number>`.
        seed: Seed of the search and of each fit.
        quiet: Nothing on the screen.
        **knobs: The fields of `kft.Recipe` that all trials share. Rows given as objects are not in best.yaml.

    Raises:
        RecipeError: A knob, the space, the search or the objective is wrong, or there are no validation rows.
        RunError: `out` holds something else, or a study of another space, objective or data.
        TrainingError: All trials failed.
        Interrupted: SIGINT or SIGTERM came.
        KftError: Of the kind that says what is wrong with data or preset.
    """
    recipe = _recipe(train, {**knobs, "seed": seed})
    drawn = spaces.of(spaces.default(recipe, knobs) if space is None else space, recipe)
    _check_search(search, trials)
    _check_shared(drawn, knobs)
    for preset in drawn["preset"].form() if "preset" in drawn else [recipe.preset]:
        presets.find(preset)
    data = workflow.check(train, seed=seed, **knobs)
    recipe = _decided(recipe, data, _objective(objective, recipe, data))
    spaces.refuse_unused(drawn, recipe)  # now that the task is known
    rows = _rows(recipe, data, {"train": train, "validation": knobs.get("validation", recipe.validation)})
    out = Path(out) if out else run_directory.free_name("tune")
    unseen = Recipe.of(recipe, test=None)
    plan = Plan(out, drawn, search, trials, recipe.save_best_by, recipe=unseen, **rows, quiet=quiet)
    with directory.claim(out, _identity(plan, recipe, data)):
        records = _searched(plan)
        winner = ledger.ranked(records)[0]
        best = Recipe.of(recipe, **winner["knobs"])
        best.write(out / BEST)
    if not quiet:
        _show(plan, records)
    return Study(out, best, winner["value"], records)


# -- what is searched ----------------------------------------------------------------------------------------


def _recipe(train: Any, knobs: Mapping[str, Any]) -> Recipe:
    """The knobs that all trials share; rows given as objects are none."""
    plain: dict[str, Any] = {name: str(v) if isinstance(v, Path) else v for name, v in knobs.items()}
    for name in ("validation", "test"):
        if not isinstance(plain.get(name), str | int | float | None):
            del plain[name]
    return Recipe.of(**plain, train=str(train) if isinstance(train, str | Path) else None)


def _check_search(search: str, trials: int) -> None:
    if search not in SEARCHES:
        hint = did_you_mean(search, SEARCHES)
        raise RecipeError(f"search: found {search!r}, expected {' or '.join(SEARCHES)}.{hint}")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise RecipeError(f"trials: found {trials!r}, expected a whole number above 0.")


def _check_shared(drawn: Space, knobs: Mapping[str, Any]) -> None:
    for name in drawn:
        if name in knobs:
            raise RecipeError(f"{name} is in the space and given as {knobs[name]!r} too. Leave one out.")


def _objective(asked: str, recipe: Recipe, data: Dataset) -> str:
    """The validation metric to go by, checked against those this task has for these rows."""
    if "validation" not in data.parts:
        raise RecipeError(
            f"validation: found {recipe.validation!r}: without validation rows trials cannot be compared. "
            "Give a share of train above 0, or a file."
        )
    return data.best_by(recipe.save_best_by if asked == "auto" else asked)


def _decided(recipe: Recipe, data: Dataset, objective: str) -> Recipe:
    """The recipe with all that was guessed written down, so that it gives the same fit elsewhere."""
    columns = {name: column for name, column in data.columns.items() if name in COLUMN_KNOBS}
    return Recipe.of(recipe, task=data.task.name, **columns, save_best_by=objective, out=None)


def _rows(recipe: Recipe, data: Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of all trials: those given, without a share of train or rows of a benchmark that are for the test."""
    if isinstance(recipe.test, str) or "test" not in data.parts:
        return dict(given)
    return {part: data.as_read(part) for part in ("train", "validation")}


# -- the search ----------------------------------------------------------------------------------------------


def _searched(plan: Plan) -> list[Record]:
    """The records of all trials, after those that were missing have run.

    Raises:
        TrainingError: None of them completed.
    """
    before = ledger.read(plan.out, plan.space, plan.objective)
    ledger.drop_losing_weights(plan.out, before)
    if before and not plan.quiet:
        print(f"{plan.out}: going on after {len(before)} finished trials", file=sys.stderr)
    trials = Search(plan, before)
    try:
        with disk.refusals(plan.out, "The finished trials are intact: make room, then tune again with the same out."):
            trials.search()
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ from None
    if not ledger.ranked(trials.records):
        first, count = trials.records[0]["message"], len(trials.records)
        raise TrainingError(
            f"{plan.out}: all {count} trials failed, the first with: {first} Change the space and the out."
        )
    if len(trials.records) < plan.trials and not plan.quiet:
        print(f"the space has no new combination after {len(trials.records)} trials", file=sys.stderr)
    return trials.records


def _identity(plan: Plan, recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """What must be the same for a study to go on."""
    return {
        "kft": kft.__version__,
        "keras_tuner": keras_tuner.__version__,
        "backend": keras.backend.backend(),
        "search": plan.search,
        "objective": plan.objective,
        "space": spaces.form(plan.space),
        "recipe": recipe.model_dump(mode="json"),
        "data": data.fingerprints(),
    }


def _show(plan: Plan, records: list[Record]) -> None:
    """The completed trials as a table on standard error, best first."""
    from rich.console import Console
    from rich.table import Table

    varied = [name for name, part in plan.space.items() if isinstance(part, Range) or len(part.values) > 1]
    table = Table("trial", *varied, plan.objective, "seconds", title=printable(str(plan.out)), title_justify="left")
    for record in ledger.ranked(records):
        knobs = [printable(shown(record["knobs"][name])) for name in varied]
        table.add_row(str(record["trial"]), *knobs, f"{record['value']:.4f}", f"{record['seconds']:.1f}")
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print(table)
    console.print(f"best: {plan.out / BEST}   run: {plan.out / ledger.ranked(records)[0]['path']}")
