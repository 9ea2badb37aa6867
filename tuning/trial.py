"""Trials: Keras Tuner proposes knobs, and each proposal is one fit in a directory of its own."""

from __future__ import annotations

import gc
import json
import math
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine import base_tuner

from kft import disk, workflow
from kft.errors import Interrupted, RunError, TrainingError
from kft.evaluation import kinds, metric
from kft.recipe import Recipe
from tuning import hparams, ledger
from tuning import space as spaces
from tuning.ledger import Record
from tuning.space import Range, Space

DRAWS_PER_COMBINATION = 40  # the last of a space is missed once in e^40 searches
SEARCHES = {
    "random": keras_tuner.oracles.RandomSearchOracle,
    "grid": keras_tuner.oracles.GridSearchOracle,
}


@dataclass(frozen=True)
class Plan:
    """What all trials of a study share.

    Attributes:
        out: The study's directory.
        space: What the trials draw from.
        search: One of `SEARCHES`.
        trials: How many there are at most.
        objective: The validation metric that ranks them.
        recipe: Every other knob; without test rows, which a search must not see.
        train: The training rows.
        validation: The validation rows, or the share of train to split off.
        quiet: Nothing on the screen.
    """

    out: Path
    space: Space
    search: str
    trials: int
    objective: str
    recipe: Recipe
    train: Any
    validation: Any
    quiet: bool


class Search(base_tuner.BaseTuner):
    """Keras Tuner's search loop around `kft.fit`.

    Its oracles propose the same knobs in the same order for the same seed. So a search that goes on after a
    kill starts over and takes the trials in the ledger for done. The oracle's own files would not do: they
    are written in several steps, and a kill between two repeats a finished trial or leaves half a file.

    Args:
        plan: What the trials share.
        records: The ledger so far.
    """

    def __init__(self, plan: Plan, records: list[Record]):
        directory, name = str(plan.out), "keras_tuner"
        super().__init__(oracle=_oracle(plan), directory=directory, project_name=name, overwrite=True)
        self.plan, self.records = plan, list(records)
        self._scores: Mapping[str, float] = {}
        self._began = 0.0

    def on_trial_begin(self, trial: Any) -> None:
        self._scores, self._began = {}, time.monotonic()

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The objective of a trial, from the ledger if it has run before.

        Raises:
            FatalError: What ends the search; its cause is the error to show. Any other fails the trial.
        """
        knobs, known = knobs_of(self.plan.space, trial.hyperparameters.values), self._known(trial)
        if known is None:
            self._scores = self._fit(_run_path(self.plan.out, trial), knobs)
            return {self.plan.objective: self._scores[self.plan.objective]}
        if known["knobs"] != knobs:
            path, number = self.plan.out / ledger.TRIALS, known["trial"]
            raise keras_tuner.errors.FatalError from RunError(
                f"{path}: trial {number} has {known['knobs']}, expected {knobs}. "
                "Restore the file, or tune into another out."
            )
        if known["status"] == "failed":
            raise keras_tuner.errors.FailedTrialError(known["message"])
        return {self.plan.objective: known["value"]}

    def on_trial_end(self, trial: Any) -> None:
        if self._known(trial) is None:
            self._keep(self._record(trial))
            keras.backend.clear_session()
            gc.collect()
        super().on_trial_end(trial)

    def _known(self, trial: Any) -> Record | None:
        return next((record for record in self.records if record["trial"] == _number(trial)), None)

    def _fit(self, path: Path, knobs: Mapping[str, Any]) -> dict[str, float]:
        """Metrics of the validation rows after one fit, in place of what a killed search left there."""
        shutil.rmtree(path, ignore_errors=True)
        recipe = Recipe.of(self.plan.recipe, **{**knobs, "out": str(path)})
        shared = recipe.model_dump(exclude={"train", "validation"})
        try:
            done = workflow.fit(self.plan.train, validation=self.plan.validation, quiet=True, **shared)
        except Interrupted as error:
            message = f"stopped in {path}; go on with the same call and out={str(self.plan.out)!r}"
            raise keras_tuner.errors.FatalError from Interrupted(error.exit_code - 128, message)
        except RunError as error:
            raise keras_tuner.errors.FatalError from error
        except TrainingError as error:
            if error.__cause__ is None or disk.refusal(error.__cause__) is None:
                raise
            raise keras_tuner.errors.FatalError from error  # a full disk is no fault of the knobs
        return metric.scalars(done.metrics["validation"])

    def _record(self, trial: Any) -> Record:
        path = _run_path(self.plan.out, trial)
        if not self._scores:
            path.mkdir(parents=True, exist_ok=True)
            disk.write_text(path / "failure.txt", trial.message, errors="backslashreplace")
        return {
            "trial": _number(trial),
            "status": "completed" if self._scores else "failed",
            "knobs": knobs_of(self.plan.space, trial.hyperparameters.values),
            "objective": self.plan.objective,
            "value": self._scores.get(self.plan.objective),
            "metrics": dict(self._scores),
            "seconds": round(time.monotonic() - self._began, 3),
            "path": str(path.relative_to(self.plan.out)),
            "message": None if self._scores else _last_line(trial.message),
        }

    def _keep(self, record: Record) -> None:
        """Puts a trial into the ledger; TensorBoard's file comes first, as a trial in it is done."""
        out = self.plan.out
        hparams.write(out, record)
        self.records.append(record)
        ledger.write(out, self.records)
        ledger.drop_losing_weights(out, self.records)
        if not self.plan.quiet:
            print(_line(record, self.records, self.plan.trials), file=sys.stderr)


def knobs_of(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """The Recipe's knobs from Keras Tuner's values; listed ones are JSON there, as it takes no null.

    >>> from tuning.space import Choice
    >>> knobs_of({"early_stopping_patience": Choice((None, 2))}, {"early_stopping_patience": "null"})
    {'early_stopping_patience': None}
    """
    return {name: values[name] if isinstance(part, Range) else json.loads(values[name]) for name, part in space.items()}


def shown(value: Any) -> str:
    """A knob's value, short.

    >>> shown(3.14159e-05), shown(16), shown("full")
    ('3.14e-05', '16', 'full')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _line(record: Record, records: list[Record], trials: int) -> str:
    """A trial on one line: number, knobs, objective, seconds, and the best so far."""
    knobs = [f"{name} {shown(value)}" for name, value in record["knobs"].items()]
    is_failed, seconds = record["status"] == "failed", f"{record['seconds']:.1f} s"
    result = f"failed: {record['message']}" if is_failed else f"{record['objective']} {record['value']:.4f}"
    best = [f"best {found['value']:.4f} (trial {found['trial']})" for found in ledger.ranked(records)[:1]]
    return "  ".join([f"trial {record['trial']}/{trials}", *knobs, result, seconds, *best])


def _oracle(plan: Plan) -> Any:
    oracle = SEARCHES[plan.search](
        objective=keras_tuner.Objective(plan.objective, kinds.direction(plan.objective)),
        max_trials=plan.trials,
        hyperparameters=_hyperparameters(plan.space),
        seed=plan.recipe.seed + 1,  # Keras Tuner takes 0 for no seed
        max_consecutive_failed_trials=plan.trials + 1,
    )
    # The random oracle ends the search once it has drawn 20 combinations in a row that were tried before, which is
    # likely near the end of a small space; there is no public name for that number.
    combinations = spaces.num_combinations(plan.space)
    if math.isfinite(combinations):
        oracle._max_collisions = DRAWS_PER_COMBINATION * int(combinations)
    oracle.verbose = 0
    return oracle


def _hyperparameters(space: Space) -> keras_tuner.HyperParameters:
    declared = keras_tuner.HyperParameters()
    for name, part in space.items():
        if isinstance(part, Range):
            declare = declared.Int if part.is_whole else declared.Float
            declare(name, part.low, part.high, sampling=part.scale)
        else:
            declared.Choice(name, [json.dumps(value) for value in part.values])
    return declared


def _number(trial: Any) -> int:
    """From 1; Keras Tuner counts from 0, in as many digits as the number of trials has."""
    return int(trial.trial_id) + 1


def _run_path(out: Path, trial: Any) -> Path:
    return out / ledger.run_path(_number(trial))


def _last_line(traceback: str) -> str:
    """What went wrong, from the end of a traceback.

    >>> _last_line("Traceback: …\\nkft.errors.TrainingError: step 1: the loss is nan\\n")
    'TrainingError: step 1: the loss is nan'
    """
    return traceback.strip().splitlines()[-1].removeprefix("kft.errors.")
