"""The Job: everything a fit needs before its first step, and what must be the same for it to be resumed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

import kft
from kft import dataset, disk, run, run_directory
from kft.accelerate import passes, sparse_embeddings
from kft.data import tokenise
from kft.data.batches import Batch
from kft.data.feed import targets_of
from kft.data.store import Aligned, Store, sliced
from kft.dataset import Dataset
from kft.errors import RecipeError, RunError, TrainingError, quoted
from kft.evaluation import metrics
from kft.losses.contrastive import compares_rows
from kft.models import presets, provenance, scratch
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.text import unknown
from kft.text.tokens import Encoder
from kft.training import devices, inference, loop
from kft.training.devices import Devices
from kft.training.forecast import Forecast, memory_mb_of, parameters, seconds_of
from kft.training.loop import Trainer
from kft.transfer import plan as transfer_plan

ROWS = ("columns", "readings", "labels", "data")
"""Fields of a job's identity that come of the rows, and of how they are read and split."""


@dataclass(frozen=True)
class Job:
    """A fit made ready: rows as tokens, a model compiled, its cost foreseen.

    Attributes:
        recipe: The knobs.
        data: The rows.
        model: The KerasHub task model.
        stores: The tokens of each part.
        trainer: The model compiled for `model.fit`.
        loss: The Keras loss on its raw outputs.
        forecast: What the fit will do and cost.
        base: What the pretrained weights came from, and what they were.
    """

    recipe: Recipe
    data: Dataset
    model: Any
    stores: Mapping[str, Store]
    trainer: Trainer
    loss: Any
    forecast: Forecast
    base: Mapping[str, str]

    def targets(self, part: str) -> np.ndarray | Aligned:
        """The targets of a part: `(rows of its store, …)`, or aligned with the tokens."""
        return self.data.task.targets(self.data.lessons[part], self.data.vocabulary, self.stores[part])

    def weights(self, part: str) -> np.ndarray:
        """How much the loss of each row of a part's store counts: `(rows,)` float32."""
        return self.data.task.row_weights(self.targets(part), self.data.vocabulary, self.stores[part])

    def counts(self, part: str) -> np.ndarray:
        """How many tokens, or rows, the loss of each row of a part's store is the mean of: `(rows,)` float32."""
        return self.data.task.row_counts(self.targets(part), self.data.vocabulary, self.stores[part])

    def finish(self) -> None:
        """Lets the task set what it computes from the training rows, by the weights as they are."""
        if self.data.task.finish is not None:
            size = self.recipe.batch_size * 2
            found = inference.outputs(self.trainer.network, self.stores["train"], self.trainer.devices, size)
            self.data.task.finish(self.model, found, self.targets("train"))

    def settle(self) -> None:
        """Brings what was trained into the model, as it is to be saved."""
        sparse_embeddings.put_back(self.trainer.network)
        self.finish()

    def validate(self) -> dict[str, float]:
        """Loss and metrics of the validation rows, prefixed `val_`, by the weights as they are."""
        self.finish()
        task, vocabulary, table = self.data.task, self.data.vocabulary, self.data.parts["validation"]
        if task.by_losses is not None:
            return {f"val_{name}": value for name, value in task.by_losses(self._mean_losses()).items()}
        assert task.answers is not None and task.score is not None, "a task is judged by its losses or its answers"
        targets, weights = self.targets("validation"), self.weights("validation")
        store, columns = self.stores["validation"], [table.rows[name] for name in self.data.text_columns]
        answers, loss = [], 0.0
        for part in inference.slices(
            self.trainer.network, store, columns, self.trainer.devices, self.recipe.batch_size * 2
        ):
            length, count = int(part.store.lengths.max()), part.rows.stop - part.rows.start
            # In batches as they are trained on, since some losses compare the rows of one.
            for start in range(0, count, self.recipe.batch_size):
                rows = np.arange(start, min(start + self.recipe.batch_size, count))
                batch = Batch(part.rows.start + rows, length)
                losses = self.loss(targets_of(store, targets, batch), part.outputs[rows], weights[batch.rows])
                loss += float(keras.ops.convert_to_numpy(losses))
            answers.append(task.answers(part.outputs, vocabulary, part.extras, part.texts))
        scores = metrics.scalars(task.score(inference.joined(answers), table, vocabulary))
        loss /= max(float(weights.sum()), 1e-12)
        return {"val_loss": loss, **{f"val_{name}": value for name, value in scores.items()}}

    def _mean_losses(self) -> dict[str, float]:
        """What `by_losses` is given, of the validation rows."""
        targets, weights, trainer = self.targets("validation"), self.weights("validation"), self.trainer
        size, store = self.recipe.batch_size * 2, self.stores["validation"]
        return inference.means(
            trainer.network, store, targets, weights, trainer.devices, size, disguise=trainer.disguise
        )

    def more_micro_batches(self) -> int:
        """Twice as many pieces of each batch as now.

        Raises:
            TrainingError: They would be smaller than one row for each device.
        """
        pieces = 2 * self.trainer.micro_batches
        if pieces * self.trainer.devices.count > self.recipe.batch_size:
            rows, longest = self.recipe.batch_size, int(self.stores["train"].lengths.max())
            fewest = rows // self.trainer.micro_batches
            raise TrainingError(
                f"out of memory even with {fewest} of the {rows} rows of a batch at a time, "
                f"the longest of {longest} tokens. Ask for a smaller max_length or preset, or transfer=features."
            )
        return pieces

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same for the fit to be resumed."""
        return {
            "kft": kft.__version__,
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
            "backend": keras.config.backend(),
            "task": self.data.task.name,
            "columns": dict(self.data.columns),
            "readings": self.data.readings,
            "texts": self.data.text_columns,
            "seed": self.recipe.seed,
            "preset": self.recipe.preset,
            "base": dict(self.base),
            "labels": self.data.vocabulary,
            "data": self.data.fingerprints(),
            "preprocessor": tokenise.fingerprint(self.model.preprocessor),
            "devices": str(self.trainer.devices),
            "forecast": {k: v for k, v in asdict(self.forecast).items() if k not in ("seconds", "memory_mb", "notes")},
        }


def prepare(recipe: Recipe, rows: Mapping[str, Any], *, micro_batches: int = 1) -> Job:
    """Rows to tokens, preset to model: all that can be refused is refused here, before anything is written.

    Args:
        recipe: The knobs.
        rows: `train`, `validation` and `test` in any form that `kft.fit` takes.
        micro_batches: Pieces that each batch is computed in.

    Raises:
        KftError: Of the kind that says what is wrong.
    """
    # Devices come first: TensorFlow and JAX split a CPU into several only before their first tensor.
    chosen = devices.choose(recipe.distribute, recipe.precision)
    data = dataset.gather(recipe, rows["train"], rows["validation"], rows["test"])
    data.best_by(recipe.save_best_by)
    if recipe.deterministic:
        keras.utils.set_random_seed(recipe.seed)
        devices.make_deterministic()
    return build(recipe, data, chosen, micro_batches=micro_batches)


def build(recipe: Recipe, data: Dataset, chosen: Devices, *, micro_batches: int = 1) -> Job:
    """The job of these rows on these devices: the model read, headed, frozen where it should be, and compiled.

    Raises:
        OutOfMemory: The model and its optimizer do not fit.
    """
    preset = _preset(recipe, data)
    with chosen.scope(), devices.memory_errors(lambda: f"{recipe.preset} and its optimizer do not fit into memory"):
        model = data.task.head(
            preset, data.vocabulary, max_length=tokenise.LONGEST, dtype=chosen.precision, seed=recipe.seed
        )
        transfer_plan.apply(model, recipe.transfer)
        model.preprocessor.sequence_length = _max_length(recipe, data, model)
        stores, cache_notes = _tokens(data, model)
        unknown_share = unknown_tokens(data, model.preprocessor.tokenizer)
        planned = loop.plan(stores["train"], recipe, chosen, epoch=0)
        peak, head_peak = _learning_rates(recipe, model)
        loss = data.task.loss(recipe, data.vocabulary)
        given = model.preprocessor, stores["train"], data.lessons["train"], data.vocabulary
        remarks = data.task.remarks(*given) if data.task.remarks else []
        remarks += _on_comparisons(loss, recipe, chosen, micro_batches)
        warning = unknown.warning(recipe.preset, unknown_share)
        remarks += [] if warning is None else [warning]
        data = replace(data, notes=tuple(dict.fromkeys([*data.notes, *cache_notes, *remarks])))
        trained, frozen = parameters(model)
        disguise = data.task.disguise and data.task.disguise(recipe, model.preprocessor)
        plain = data.task.network(model, len(data.text_columns))
        facts = passes.Facts(
            plain, model, chosen.backend, chosen.platform, [stores["train"]], disguise is not None, chosen.count
        )
        network, decisions = passes.applied(facts, recipe.accelerate)
        trainer = loop.prepare(
            network,
            loss,
            recipe,
            chosen,
            peak=peak,
            factors={variable.path: head_peak / peak for variable in transfer_plan.head_variables(model)},
            batches_per_epoch=len(planned),
            micro_batches=micro_batches,
            disguise=disguise,
            measures=data.task.measures,
            fused=passes.is_applied(decisions, "fused_adam"),
        )
    # What each text of a row passes by itself costs as many rows.
    times = max(1, len(network.input) // len(model.input))
    costly = [replace(batch, rows=np.tile(batch.rows, times)) for batch in planned]
    max_length, lengths = model.preprocessor.sequence_length, stores["train"].lengths
    steps = loop.total_steps(recipe, len(planned))
    forecast = Forecast(
        rows={name: len(part) for name, part in data.parts.items()},
        median_length=int(np.median(lengths)),
        longest=int(lengths.max()),
        max_length=max_length,
        num_cut=0 if data.task.arrange else int((lengths >= max_length).sum()),
        steps=steps,
        trained=trained,
        frozen=frozen,
        devices=str(chosen),
        learning_rate=peak,
        head_learning_rate=head_peak,
        seconds=seconds_of(
            model,
            network,
            costly,
            steps / len(planned),
            int(stores["validation"].lengths.sum()) * times if "validation" in stores else 0,
            len({(len(batch.rows), batch.length) for batch in planned}) if chosen.is_compiled else 1,
        ),
        memory_mb=run.peak_memory_mb() + memory_mb_of(model, network, costly),
        unknown_share=unknown_share,
        accelerate=passes.summary(decisions),
    )
    return Job(recipe, data, model, stores, trainer, loss, forecast, provenance.of(preset))


def unknown_tokens(data: Dataset, tokenizer: Any) -> float | None:
    """The share of unknown tokens in a sample of the training rows at even distances; None where there are none."""
    table = data.parts["train"]
    sample = table.take(np.arange(0, len(table), max(1, len(table) // tokenise.SAMPLE)))
    names = [name for name in data.text_columns if name in sample.names()]
    return unknown.share(tokenizer, sliced([sample.rows[name] for name in names], len(sample)))


def refuse_changes(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compares what a run was begun with and what it would be resumed with.

    Raises:
        RunError: Names the first field that differs.
    """
    for name, value in now.items():
        if name not in before:
            raise RunError(
                f"{path / run_directory.MANIFEST}: says nothing of {name}, as the kft that began this fit did not "
                "record it. Resume with that version, or fit anew."
            )
        was = before[name]
        if isinstance(value, dict) and isinstance(was, dict) and value != was:
            key = next((k for k in [*value, *was] if value.get(k) != was.get(k)), None)
            name, was, value = f"{name}.{key}", was.get(key), value.get(key)
        if value != was:
            cure = "Resume with the same, or fit anew"
            if name.partition(".")[0] in ROWS:
                cure = "Resume with the rows and the kft that it was begun with, or fit anew into another --out"
            raise RunError(f"{path}: {name} was {quoted(was)}, now {quoted(value)}. {cure}.")


def _on_comparisons(loss: Any, recipe: Recipe, chosen: Devices, micro_batches: int) -> list[str]:
    """A note where a loss that compares rows sees fewer of them at a time than one update has."""
    devices = chosen.count if chosen.backend == "tensorflow" else 1  # JAX computes a batch as one, whatever shares it
    accumulated = recipe.gradient_accumulation_steps
    parts = {
        f"gradient_accumulation_steps={accumulated}": accumulated,
        f"{devices} devices": devices,
        f"{micro_batches} micro-batches": micro_batches,
    }
    cut = ", ".join(name for name, count in parts.items() if count > 1)
    if not cut or not compares_rows(loss):
        return []
    rows, of_update = max(1, recipe.batch_size // (devices * micro_batches)), recipe.batch_size * accumulated
    return [
        f"the loss compares each row with those that are computed beside it: {rows - 1} of the {of_update - 1} others "
        f"of an update ({cut}). It would be another with all of them."
    ]


def _learning_rates(recipe: Recipe, model: Any) -> tuple[float, float]:
    """Peak learning rates of backbone and head, as asked for or by the documented rules."""
    peak, head_peak = recipe.learning_rate, recipe.head_learning_rate
    if peak == "auto":
        peak = transfer_plan.learning_rate(presets.count_parameters(model.backbone), recipe.transfer)
    if head_peak == "auto":
        head_peak = transfer_plan.head_learning_rate(float(peak))
    return float(peak), float(head_peak)


def _preset(recipe: Recipe, data: Dataset) -> Preset:
    """The pretrained model, or one that is begun here for these rows."""
    sizes = {name: getattr(recipe, name) for name in scratch.SIZES}
    if recipe.preset not in scratch.FAMILIES:
        return presets.find(recipe.preset)
    columns = [data.parts["train"].rows[name] for name in data.text_columns if name not in data.task.derived]
    texts = (text for part in sliced(columns, len(data.parts["train"])) for column in part for text in column)
    max_length = tokenise.SHORTEST if recipe.max_length == "auto" else recipe.max_length
    settings = {**sizes, "max_length": max_length, "seed": recipe.seed}
    return scratch.begin(recipe.preset, texts, data.parts["train"].fingerprint(), tokenise.cache_dir(), **settings)


def _max_length(recipe: Recipe, data: Dataset, model: Any) -> int:
    """The asked length if the backbone has as many positions, or the one that covers the rows."""
    positions = presets.max_positions(model.backbone)
    if recipe.max_length == "auto":
        limit = min(tokenise.LONGEST, positions or tokenise.LONGEST)
        return tokenise.length_that_covers(
            data.lessons["train"], data.text_columns, model.preprocessor, data.task.features, limit
        )
    if positions and recipe.max_length > positions:
        raise RecipeError(
            f"max_length: found {recipe.max_length}, but {recipe.preset} has {positions} positions. "
            f"Ask for at most {positions}."
        )
    return recipe.max_length


def _tokens(data: Dataset, model: Any) -> tuple[dict[str, Store], tuple[str, ...]]:
    """The tokens of each part, in the rows that are trained on, and what the user should know of their cache."""
    encoder = Encoder(model.preprocessor, len(data.text_columns), data.task.features)
    key = tokenise.fingerprint(model.preprocessor)
    sources = {"train": data.parts["train"].source}  # other parts may be as short as they are
    advice = "Free some space, or set KFT_CACHE and TMPDIR to folders on a larger disk."
    notes: list[str] = []
    with disk.refusals(tokenise.cache_dir() or tempfile.gettempdir(), advice):
        stores = {
            name: tokenise.tokenise(part, data.text_columns, encoder, key, notes.append)
            for name, part in data.lessons.items()
        }
        if (arrange := data.task.arrange) is not None:
            stores = {name: arrange(store, encoder.max_length, sources.get(name)) for name, store in stores.items()}
    return stores, tuple(dict.fromkeys(notes))
