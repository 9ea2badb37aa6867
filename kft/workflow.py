"""fit(): the story of a run, from rows to a fine-tuned model, in the order it happens."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kft import dataset, disk, early, identity, job, retained, row_tokens, run, run_directory
from kft.data.store import Store
from kft.dataset import Dataset
from kft.datasets import official
from kft.errors import OutOfMemory, PresetError, RunError, TrainingError, printable
from kft.evaluation import figures, kinds, metric, report
from kft.job import Job
from kft.models import presets, seeding
from kft.recipe import Recipe
from kft.run import Run
from kft.tasks import beside
from kft.text import unknown
from kft.training import checkpoints, devices, history, loop
from kft.training.checkpoints import Position
from kft.training.forecast import Forecast
from kft.training.loop import Outcome


def fit(train: Any, *, quiet: bool = False, **knobs: Any) -> Run:
    """Carries out `kft.fit`, whose arguments it has."""
    recipe, rows = early.split_rows(train, knobs)
    presets.find(recipe.preset)
    with run_directory.claim(Path(recipe.out) if recipe.out else _next_name(recipe)) as run_dir, _own_state(recipe):
        return _carry_out(_begun(recipe, rows, run_dir, quiet), run_dir, None, quiet)


def resume(path: str | Path, *, train: Any = None, quiet: bool = False, **knobs: Any) -> Run:
    """Goes on with a fit that was stopped or killed, from its newest intact checkpoint, as if nothing had happened.

    Args:
        path: The run directory.
        train: The same training rows, where they did not come from a file.
        quiet: Nothing on the screen.
        **knobs: `validation` and `test` rows likewise; any other knob must be as it was.

    Raises:
        RunError: No unfinished run is there, a file of it is damaged, or data, labels, recipe, preset, backend or
            versions differ: names which.
    """
    path = Path(path)
    with run_directory.claim(path, resume=True) as run_dir:
        before = run_directory.read_unfinished(run_dir)
        recipe = run_directory.read_recipe(run_dir)
        _refuse_other_knobs(path, recipe, knobs)
        rows = {
            "train": recipe.train if train is None else train,
            "validation": knobs.get("validation", recipe.validation),
            "test": knobs.get("test", recipe.test),
        }
        newest, problems = checkpoints.newest_intact(run_dir / checkpoints.FOLDER)
        start = checkpoints.read_position(newest) if newest else Position()
        if start.micro_batches > recipe.batch_size:
            raise RunError(
                f"{newest}: micro_batches: found {start.micro_batches}, expected {recipe.batch_size} at most, as there "
                "are rows in a batch. The file is damaged."
            )
        where = f"going on at step {start.step}" + (f", from {newest}" if newest else "")
        if not quiet:
            print("\n".join([*problems, where]), file=sys.stderr)
        with _own_state(recipe):
            return _carry_out(_same(path, recipe, rows, before, start.micro_batches), run_dir, newest, quiet)


def check(train: Any, **knobs: Any) -> Dataset:
    """Carries out `kft.check`."""
    recipe, rows = early.split_rows(train, knobs)
    with _own_state(recipe):
        data = dataset.gather(recipe, rows["train"], rows["validation"], rows["test"])
        return replace(data, notes=(*data.notes, *_unknown(recipe, data)))


def plan(train: Any, **knobs: Any) -> Forecast:
    """Carries out `kft.plan`."""
    recipe, rows = early.split_rows(train, knobs)
    with _own_state(recipe):
        ready = job.prepare(recipe, rows)
        return replace(ready.forecast, notes=ready.data.notes)


# -- the steps, in order -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _own_state(recipe: Recipe) -> Iterator[None]:
    """Random numbers by the recipe's seed, and operations as it asks for them, which end with this block."""
    with seeding.seeded(recipe.seed), devices.deterministic(recipe.deterministic):
        yield


def _unknown(recipe: Recipe, data: Dataset) -> list[str]:
    """How much of the training rows the preset's tokenizer does not know; the weights are not read."""
    if recipe.preset in presets.SCRATCH:
        return []  # its tokenizer comes of these rows
    preset = presets.find(recipe.preset)
    try:
        tokenizer = _tokenizer(preset, _state_of(preset.handle))
    except PresetError as error:
        if Path(preset.handle).is_dir():
            raise
        return [f"unknown tokens: not measured, since the preset could not be fetched: {error}"]
    share = row_tokens.unknown_tokens(data, tokenizer)
    if share is None:
        return []
    told = f"unknown tokens: {share:.1%} of those of a sample of train, by {recipe.preset}"
    return [unknown.warning(recipe.preset, share) or told]


@functools.lru_cache(maxsize=4)
def _tokenizer(preset: presets.Preset, state: tuple[Any, ...]) -> Any:
    """A preset's tokenizer, read once while its files stay as they are: a check is often followed by another."""
    return preset.tokenizer()


def _state_of(handle: str) -> tuple[Any, ...]:
    """Names, sizes and times of the files of a directory; nothing of a hub's handle."""
    files = sorted(path for path in Path(handle).rglob("*") if path.is_file()) if Path(handle).is_dir() else []
    return tuple((str(path), (about := path.stat()).st_size, about.st_mtime_ns) for path in files)


def _begun(recipe: Recipe, rows: Mapping[str, Any], run_dir: Path, quiet: bool) -> Job:
    """A new fit made ready, shown, and its directory begun."""
    ready = job.prepare(recipe, rows)
    if not quiet:
        _show(ready)
    run_directory.begin(run_dir, recipe, ready.identity)
    return ready


def _same(path: Path, recipe: Recipe, rows: Mapping[str, Any], before: Mapping[str, Any], micro_batches: int) -> Job:
    """A fit to be resumed made ready again; refused if it would not be the one that was begun."""
    ready = job.prepare(recipe, rows, micro_batches=micro_batches)
    identity.refuse_changes(path, before, ready.identity)
    return ready


def _carry_out(ready: Job, run_dir: Path, start: Path | None, quiet: bool) -> Run:
    """Trains, saves the preset, scores the saved model, and reports.

    The job must be in no other hands, since it is let go of and built anew where memory does not suffice.
    """
    with disk.refusals(run_dir):
        notes: list[str] = []
        earlier = ready.earlier
        begun = retained.before(earlier, ready.recipe)
        while (outcome := _trained(ready, run_dir, start, notes, quiet)) is None:
            pieces, parts = ready.more_micro_batches(), (ready.recipe, ready.data, ready.trainer.devices, earlier)
            del ready  # so that the old model leaves the device before the new one comes
            gc.collect()
            ready = job.build(*parts, micro_batches=pieces)
            start, _ = checkpoints.newest_intact(run_dir / checkpoints.FOLDER)
            notes[-1] += f"; each batch of {parts[0].batch_size} is now computed in {pieces} micro-batches"
            if not quiet:
                for note in [notes[-1], *(note for note in ready.data.notes if note not in parts[1].notes)]:
                    print(f"note: {printable(note)}", file=sys.stderr)
        ready.save(run_dir)
        retained.keep(earlier, run_dir)

        data = ready.data
        done, tuned = _calibrated(ready, run_dir)
        disk.write_json(run_dir / run_directory.LABELS, done.labels)
        held_back = [name for name in ("validation", "test") if name in data.parts]
        results = {name: done.scored(data.parts[name], ready.stores[name], ready.streams[name]) for name in held_back}
        scores: dict[str, Any] = {name: result[0] for name, result in results.items()}
        found = {name: result[1] for name, result in results.items()}
        for name in held_back:
            read = data.read.get(name, data.read["train"])
            scores[name] = {**scores[name], **official.metrics(read, data.parts[name], found[name], done.labels)}
        if (by := ready.recipe.evaluate_by) is not None:
            for name in held_back:
                values = data.values(name, by)
                scores[name] = {**scores[name], "by": {by: done.scored_by(data.parts[name], by, values, found[name])}}
        cost = {
            "train_s": outcome.position.train_s,
            "examples_per_s": outcome.examples_per_s,
            "peak_memory_mb": run.peak_memory_mb(),
        }
        all_notes = [*data.notes, *outcome.notes]
        if tuned:
            scores["validation"]["tuned_on_these_rows"] = tuned
            all_notes.append(
                f"validation: {' and '.join(tuned)} were tuned on these rows after training, so their metrics are "
                "better than those of new rows; those of test rows are not."
            )
        simpler, missing = _baselines(done, ready)
        all_notes += missing
        kept = retained.after(earlier, begun, done.model) if begun else {}
        extras = {"baselines": simpler, "retained": kept}
        record = {**scores, **{name: value for name, value in extras.items() if value}, **cost}
        disk.write_json(run_dir / run_directory.METRICS, record, TrainingError)
        _report(done, ready, scores, simpler, found, all_notes, cost, retained.facts(kept))
        run_directory.finish(run_dir, {**ready.identity, "notes": all_notes})
    if not quiet:
        for name, values in scores.items():
            print(f"{name}: " + "  ".join(f"{k} {v:.4f}" for k, v in metric.scalars(values).items()), file=sys.stderr)
        for name, told in retained.facts(kept):
            print(f"{name}: {told}", file=sys.stderr)
        print(f"run: {run_dir}   report: {run_dir / run_directory.REPORT}", file=sys.stderr)
    return Run(run_dir)


def _trained(ready: Job, run_dir: Path, start: Path | None, notes: list[str], quiet: bool) -> Outcome | None:
    """Trains from a checkpoint, or from the beginning; None, and a note, where memory does not suffice."""
    try:
        with ready.trainer.devices.scope():
            began = time.monotonic()
            ready.enter(checkpoints.read_position(start).stage if start else 0, notes.append)
            kept_s = time.monotonic() - began
            outcome = loop.train(
                ready.trainer,
                ready.sources,
                run_dir=run_dir,
                validate=ready.validate if "validation" in ready.data.parts else None,
                best_by=ready.data.best_by(ready.recipe.save_best_by),
                start=start,
                notes=notes,
                quiet=quiet,
                begins=[stage.epoch for stage in ready.transfer.stages],
                enter=ready.enter,
            )
            ready.complete()
            position = replace(outcome.position, train_s=outcome.position.train_s + kept_s)
            return replace(outcome, position=position)
    except OutOfMemory as error:
        notes.append(str(error))
        return None


def _calibrated(ready: Job, run_dir: Path) -> tuple[Run, list[str]]:
    """The saved model, with what its task tunes on the validation rows, and the names of what has changed by that."""
    problem = ready.data.problem
    done = Run(run_dir, problem, ready.identity)
    if problem.evaluator.calibrate is None or "validation" not in ready.data.parts:
        return done, []
    table = ready.data.parts["validation"]
    tuned = problem.evaluator.calibrate(done.answers(table, ready.stores["validation"]), table)
    after, before = (beside.parts_of(ready.data.task.name, labels, {}) for labels in (tuned, problem.labels))
    changed = [
        f"{one.prefix}{name}"
        for one, other in zip(after, before, strict=True)
        for name, value in one.labels.items()
        if value != other.labels[name]
    ]
    return Run(run_dir, ready.data.task.restore(tuned, ready.recipe), ready.identity), changed


# -- smaller parts -------------------------------------------------------------------------------------------------


def _next_name(recipe: Recipe) -> Path:
    name = Path(recipe.preset.rstrip("/")).name.replace(":", "-")
    return run_directory.free_name(name if recipe.task == "auto" else f"{recipe.task}-{name}")


def _refuse_other_knobs(path: Path, recipe: Recipe, knobs: Mapping[str, Any]) -> None:
    """A resumed fit keeps its recipe: refuses a knob that is given another value, by name."""
    for name, value in knobs.items():
        if early.is_knob(name, value):
            asked = Recipe.value_of(name, value)
            if asked != getattr(recipe, name):
                raise RunError(
                    f"{path}: {name} was {getattr(recipe, name)!r}, now {asked!r}. Resume with the same, or fit anew."
                )


def _show(ready: Job) -> None:
    for note in ready.data.notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    ready.forecast.show()


def _judged(data: Dataset) -> str | None:
    """The part that a report is on: test, or else validation."""
    return next((name for name in ("test", "validation") if name in data.parts), None)


def _baselines(done: Run, ready: Job) -> tuple[Mapping[str, Any], list[str]]:
    """The metrics of simpler models on the rows that are judged, and notes on them."""
    from kft.evaluation import baselines  # here, as scikit-learn takes a second to import

    judged = _judged(ready.data)
    if judged is None:
        return {}, []
    task_name, parts = ready.data.task.name, ready.data.parts
    counted = None
    if task_name == "pretrain":
        size = ready.model.preprocessor.tokenizer.vocabulary_size()
        counted = baselines.Tokens(_token_ids(ready.stores["train"]), _token_ids(ready.stores[judged]), size)
    metrics: dict[str, Any] = {}
    notes: list[str] = []
    for head in beside.parts_of(task_name, done.labels, parts):
        found = baselines.of(head.task, head.parts, judged, head.labels, seed=ready.recipe.seed, tokens=counted)
        for name, values in found.metrics.items():
            metrics[f"{head.prefix}{name}"] = {f"{head.prefix}{key}": value for key, value in values.items()}
        notes += [f"{head.prefix}{note}" for note in found.notes]
    return metrics, notes


def _token_ids(store: Store) -> np.ndarray:
    """The tokens of a store of texts, one after another, without special ones where they are not predicted."""
    ids = np.asarray(store.features["token_ids"])
    return ids[np.asarray(store.features["word"]) >= 0] if "word" in store.features else ids


def _report(
    done: Run,
    ready: Job,
    scores: Mapping[str, Any],
    simpler: Mapping[str, Any],
    found: Mapping[str, Any],
    notes: list[str],
    cost: Mapping[str, float],
    kept: Sequence[tuple[str, str]],
) -> None:
    judged = _judged(ready.data)
    if judged is None:  # no rows were held back, so there is nothing to report on
        return
    facts = [
        ("task", ready.data.task.name),
        ("preset", ready.recipe.preset),
        *ready.forecast.lines()[:-2],
        ("training", f"{cost['train_s']:.1f} s, {cost['examples_per_s']:.0f} rows/s"),
        ("peak memory", f"{cost['peak_memory_mb']:,.0f} MB"),
        *kept,
        *[("note", note) for note in notes],
    ]
    records = history.read(done.path)
    drawn, worst = done.problem.evaluator.view(found[judged], ready.data.parts[judged])
    report.write(
        done.path / run_directory.REPORT,
        title=done.path.name,
        facts=facts,
        history=records,
        metrics=scores,
        kind=kinds.of(ready.data.task.name, done.labels),
        baselines=simpler,
        figures=[figures.curves(records), *drawn],
        examples=worst if ready.recipe.report_examples else [],
    )
