"""fit(): the story of a run, from rows to a fine-tuned model, in the order it happens."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.losses.loss import unscale_loss_for_distribution

import kft
from kft import dataset, run, summary
from kft.data import tokenise
from kft.data.store import Store
from kft.dataset import Dataset
from kft.errors import RecipeError, RunError
from kft.evaluation import metrics
from kft.models import presets
from kft.recipe import Recipe
from kft.run import Run
from kft.text.tokens import Encoder
from kft.training import callbacks, checkpoints, devices, loop
from kft.training.forecast import Forecast, memory_mb_of, parameters, seconds_of
from kft.training.loop import Trainer
from kft.transfer import plan as transfer_plan


def fit(train: Any, *, quiet: bool = False, **knobs: Any) -> Run:
    """Fine-tunes a pretrained model on rows of text.

    Args:
        train: A file (.csv .tsv .jsonl .json .parquet), a pandas or pyarrow table, a list of dicts, a Hugging Face
            dataset, a `tf.data.Dataset`, or the name of a benchmark such as `glue:sst2`.
        quiet: Nothing on the screen.
        **knobs: The fields of `kft.Recipe` by name. `validation` and `test` may also be rows, as `train`.

    Returns:
        The finished run, with its metrics.

    Raises:
        KftError: Of the kind that says what is wrong: recipe, data, preset, run directory, devices, training.
    """
    recipe, rows = _split_rows(train, knobs)
    presets.find(recipe.preset)
    with run.claim(Path(recipe.out) if recipe.out else _next_name(recipe)) as run_dir:
        job = _ready(recipe, rows)
        if not quiet:
            _show(job)
        _begin(run_dir, job)
        return _carry_out(job, run_dir, None, quiet)


def resume(path: str | Path, *, train: Any = None, quiet: bool = False, **knobs: Any) -> Run:
    """Goes on with a fit that was stopped or killed, from its newest intact checkpoint, as if nothing had happened.

    Args:
        path: The run directory.
        train: The same training rows, where they did not come from a file.
        quiet: Nothing on the screen.
        **knobs: `validation` and `test` rows likewise; any other knob must be as it was.

    Raises:
        RunError: No unfinished run is there, or data, labels, recipe, preset, backend or versions differ: names which.
    """
    path = Path(path)
    with run.claim(path, resume=True) as run_dir:
        before = run.read_json(run_dir / run.MANIFEST)
        if before.get("finished"):
            raise RunError(f"{path}: this fit has finished. Open it with kft.load({str(path)!r}).")
        recipe = Recipe.read(run_dir / run.RECIPE)
        for name, value in knobs.items():
            asked = getattr(Recipe.of(recipe, **{name: value if _is_knob(name, value) else None}), name)
            if _is_knob(name, value) and asked != getattr(recipe, name):
                raise RunError(
                    f"{path}: {name} was {getattr(recipe, name)!r}, now {asked!r}. Resume with the same, or fit anew."
                )
        rows = {
            "train": recipe.train if train is None else train,
            "validation": knobs.get("validation", recipe.validation),
            "test": knobs.get("test", recipe.test),
        }
        job = _ready(recipe, rows)
        _refuse_changes(path, before, _identity(job))
        newest, problems = checkpoints.newest_intact(run_dir / "checkpoints")
        start = checkpoints.restore(newest, job.trainer.network, job.trainer.network.optimizer) if newest else None
        for line in [
            *problems,
            f"going on at step {start.step if start else 0}" + (f", from {newest}" if newest else ""),
        ]:
            if not quiet:
                print(line, file=sys.stderr)
        if start is None:
            (run_dir / "history.jsonl").unlink(missing_ok=True)
        return _carry_out(job, run_dir, start, quiet)


def check(train: Any, **knobs: Any) -> Dataset:
    """Reads, maps, cleans and splits the rows of a fit without training, and returns what a fit would see.

    Raises:
        KftError: As `fit` would, before any training.
    """
    recipe, rows = _split_rows(train, knobs)
    return dataset.gather(recipe, rows["train"], rows["validation"], rows["test"])


def plan(train: Any, **knobs: Any) -> Forecast:
    """What a fit with these knobs would do and cost: rows, lengths, steps, parameters, devices, time and memory."""
    recipe, rows = _split_rows(train, knobs)
    return _ready(recipe, rows).forecast


# -- the steps, in order -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """Everything a fit needs before its first step."""

    recipe: Recipe
    data: Dataset
    model: Any
    stores: Mapping[str, Store]
    trainer: Trainer
    loss: Any
    forecast: Forecast

    def targets(self, part: str) -> np.ndarray:
        """The targets of a part: `(rows, …)`."""
        return self.data.task.targets(self.data.parts[part], self.data.vocabulary)


def _ready(recipe: Recipe, rows: Mapping[str, Any]) -> Job:
    """Rows to tokens, preset to model: all that can be refused is refused here, before anything is written."""
    # Devices come first: TensorFlow and JAX split a CPU into several only before their first tensor.
    chosen = devices.choose(recipe.distribute, recipe.precision)
    data = dataset.gather(recipe, rows["train"], rows["validation"], rows["test"])
    data.best_by(recipe.save_best_by)
    if recipe.deterministic:
        keras.utils.set_random_seed(recipe.seed)
        devices.make_deterministic()
    preset = presets.find(recipe.preset)
    with chosen.scope():
        model = data.task.head(
            preset, data.vocabulary, max_length=tokenise.LONGEST, dtype=chosen.precision, seed=recipe.seed
        )
        transfer_plan.apply(model, recipe.transfer)
        model.preprocessor.sequence_length = _max_length(recipe, data, model)
        stores = _tokens(data, model)
        planned = loop.plan(stores["train"], recipe, chosen, epoch=0)
        peak, head_peak = _learning_rates(recipe, model)
        loss = data.task.loss(recipe, data.vocabulary)
        factors = {variable.path: head_peak / peak for variable in transfer_plan.head_variables(model)}
        trainer = loop.prepare(model, loss, recipe, chosen, peak=peak, factors=factors, batches_per_epoch=len(planned))
    max_length, lengths = model.preprocessor.sequence_length, stores["train"].lengths
    forecast = Forecast(
        rows={name: len(part) for name, part in data.parts.items()},
        median_length=int(np.median(lengths)),
        longest=int(lengths.max()),
        max_length=max_length,
        num_cut=int((lengths >= max_length).sum()),
        steps=loop.total_steps(recipe, len(planned)),
        **dict(zip(("trained", "frozen"), parameters(model), strict=True)),
        devices=str(chosen),
        learning_rate=peak,
        head_learning_rate=head_peak,
        seconds=seconds_of(model, planned, loop.total_steps(recipe, len(planned)) / len(planned)),
        memory_mb=run.peak_memory_mb() + memory_mb_of(model, planned),
    )
    return Job(recipe, data, model, stores, trainer, loss, forecast)


def _learning_rates(recipe: Recipe, model: Any) -> tuple[float, float]:
    """Peak learning rates of backbone and head, as asked for or by the documented rules."""
    peak, head_peak = recipe.learning_rate, recipe.head_learning_rate
    if peak == "auto":
        peak = transfer_plan.learning_rate(presets.count_parameters(model.backbone), recipe.transfer)
    if head_peak == "auto":
        head_peak = transfer_plan.head_learning_rate(float(peak))
    return float(peak), float(head_peak)


def _max_length(recipe: Recipe, data: Dataset, model: Any) -> int:
    """The asked length if the backbone has as many positions, or the one that covers the rows."""
    positions = presets.max_positions(model.backbone)
    if recipe.max_length == "auto":
        limit = min(tokenise.LONGEST, positions or tokenise.LONGEST)
        return tokenise.length_that_covers(
            data.parts["train"], data.text_columns, model.preprocessor, data.task.features, limit
        )
    if positions and recipe.max_length > positions:
        raise RecipeError(
            f"max_length: found {recipe.max_length}, but {recipe.preset} has {positions} positions. "
            f"Ask for at most {positions}."
        )
    return recipe.max_length


def _tokens(data: Dataset, model: Any) -> dict[str, Store]:
    encoder = Encoder(model.preprocessor, len(data.text_columns), data.task.features)
    key = tokenise.fingerprint(model.preprocessor)
    return {name: tokenise.tokenise(part, data.text_columns, encoder, key) for name, part in data.parts.items()}


def _begin(run_dir: Path, job: Job) -> None:
    """Writes what a resumed fit has to find, the manifest last."""
    job.recipe.write(run_dir / run.RECIPE)
    run.write_json(run_dir / run.LABELS, job.data.vocabulary)
    run.write_json(run_dir / run.MANIFEST, {**_identity(job), "finished": False})


def _carry_out(job: Job, run_dir: Path, start: checkpoints.Position | None, quiet: bool) -> Run:
    """Trains, saves the preset, scores the saved model, and reports."""
    task, recipe = job.data.task, job.recipe

    def validate() -> dict[str, float]:
        outputs = loop.outputs(
            job.trainer.network, job.stores["validation"], job.trainer.devices, recipe.batch_size * 2
        )
        targets = job.targets("validation")
        found = {name: value.numpy() for name, value in task.answers(outputs, job.data.vocabulary).items()}
        scores = metrics.scalars(task.score(found, targets, job.data.vocabulary))
        # Keras divides every loss by the number of replicas while their scope is open.
        val_loss = float(keras.ops.convert_to_numpy(unscale_loss_for_distribution(job.loss(targets, outputs))))
        return {"val_loss": val_loss, **{f"val_{name}": value for name, value in scores.items()}}

    with job.trainer.devices.scope():
        outcome = loop.train(
            job.trainer,
            job.stores["train"],
            job.targets("train"),
            run_dir=run_dir,
            validate=validate if "validation" in job.data.parts else None,
            best_by=job.data.best_by(recipe.save_best_by),
            start=start,
            quiet=quiet,
        )
        job.model.save_to_preset(str(run_dir / run.PRESET))

    done = Run(run_dir, job.data.task, job.data.vocabulary)
    found = {name: done.answers(job.stores[name]) for name in ("validation", "test") if name in job.data.parts}
    scores = {name: task.score(answers, job.targets(name), job.data.vocabulary) for name, answers in found.items()}
    cost = {
        "train_s": outcome.train_s,
        "examples_per_s": outcome.examples_per_s,
        "peak_memory_mb": run.peak_memory_mb(),
    }
    run.write_json(run_dir / run.METRICS, {**scores, **cost})
    _report(run_dir, job, scores, found, [*job.data.notes, *outcome.notes], cost)
    run.finish(run_dir, {**_identity(job), "notes": [*job.data.notes, *outcome.notes]})
    if not quiet:
        for name, values in scores.items():
            print(f"{name}: " + "  ".join(f"{k} {v:.4f}" for k, v in metrics.scalars(values).items()), file=sys.stderr)
        print(f"run: {run_dir}   report: {run_dir / run.REPORT}", file=sys.stderr)
    return Run(run_dir)


# -- smaller parts -------------------------------------------------------------------------------------------------


def _split_rows(train: Any, knobs: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe, with paths and shares in it, and the rows themselves where they are given as objects."""
    plain = {name: value for name, value in knobs.items() if _is_knob(name, value)}
    if isinstance(train, str | Path):
        plain["train"] = str(train)
    as_text: dict[str, Any] = {name: str(v) if isinstance(v, Path) else v for name, v in plain.items()}
    recipe = Recipe.of(**as_text)
    return recipe, {
        "train": train,
        "validation": recipe.validation if _is_knob("validation", knobs.get("validation")) else knobs["validation"],
        "test": recipe.test if _is_knob("test", knobs.get("test")) else knobs["test"],
    }


def _is_knob(name: str, value: Any) -> bool:
    """Whether a value goes into the recipe, rather than being rows given as an object."""
    return name not in ("validation", "test") or value is None or isinstance(value, str | Path | int | float)


def _next_name(recipe: Recipe) -> Path:
    name = Path(recipe.preset.rstrip("/")).name
    return run.free_name(name if recipe.task == "auto" else f"{recipe.task}-{name}")


def _identity(job: Job) -> dict[str, Any]:
    """What must be the same for a fit to be resumed."""
    import keras_hub

    return {
        "kft": kft.__version__,
        "keras": keras.__version__,
        "keras_hub": keras_hub.__version__,
        "backend": keras.config.backend(),
        "task": job.data.task.name,
        "columns": dict(job.data.columns),
        "seed": job.recipe.seed,
        "preset": job.recipe.preset,
        "preprocessor": tokenise.fingerprint(job.model.preprocessor),
        "labels": job.data.vocabulary,
        "data": job.data.fingerprints(),
        "devices": str(job.trainer.devices),
        "forecast": {k: v for k, v in asdict(job.forecast).items() if k not in ("seconds", "memory_mb")},
    }


def _refuse_changes(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, value in now.items():
        was = before.get(name)
        if isinstance(value, dict) and isinstance(was, dict) and value != was:
            key = next(k for k in [*value, *was] if value.get(k) != was.get(k))
            raise RunError(
                f"{path}: {name}.{key} was {was.get(key)!r}, now {value.get(key)!r}. Resume with the same, or fit anew."
            )
        if value != was:
            raise RunError(f"{path}: {name} was {was!r}, now {value!r}. Resume with the same, or fit anew.")


def _show(job: Job) -> None:
    for note in job.data.notes:
        print(f"note: {note}", file=sys.stderr)
    job.forecast.show()


def _report(
    run_dir: Path,
    job: Job,
    scores: Mapping[str, Any],
    found: Mapping[str, Any],
    notes: list[str],
    cost: Mapping[str, float],
) -> None:
    shown = "test" if "test" in found else "validation" if "validation" in found else None
    if shown is None:
        return
    facts = [
        ("task", job.data.task.name),
        ("preset", job.recipe.preset),
        *job.forecast.lines()[:-2],
        ("training", f"{cost['train_s']:.1f} s, {cost['examples_per_s']:.0f} rows/s"),
        ("peak memory", f"{cost['peak_memory_mb']:,.0f} MB"),
        *[("note", note) for note in notes],
    ]
    summary.write(
        run_dir / run.REPORT,
        title=run_dir.name,
        facts=facts,
        history=callbacks.read_history(run_dir / "history.jsonl"),
        scores=scores,
        answers=found[shown],
        table=job.data.parts[shown],
        targets=job.targets(shown),
        labels=job.data.vocabulary.get("labels", []),
    )


def _documented_knobs() -> inspect.Signature:
    """fit's signature with every knob of the Recipe and its default, for `help()` and editors."""
    own = [p for p in inspect.signature(fit).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    fields = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
        for name, field in Recipe.model_fields.items()
        if name != "train"
    ]
    return inspect.Signature([*own, *fields], return_annotation=Run)


fit.__signature__ = _documented_knobs()  # type: ignore[attr-defined]
