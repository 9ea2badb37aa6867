"""The Job: everything a fit needs before its first step, and what must be the same for it to be resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from kft import dataset, identity, kept_pieces, retained, row_tokens, run, run_directory
from kft.accelerate import passes, sparse_embeddings
from kft.data import tokenise
from kft.data.store import Store, sliced
from kft.data.streams import Stream
from kft.dataset import Dataset
from kft.errors import RecipeError, TrainingError, quoted
from kft.losses.objective import Objective, nothing_in_closed_form
from kft.models import presets, provenance, saving, scratch
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.retained import Earlier
from kft.text import unknown
from kft.training import costs, deltas, devices, inference, optimizer_state, trainers
from kft.training.devices import Devices
from kft.training.fitted import stream_of
from kft.training.forecast import Forecast, Work
from kft.training.spans import spans_of, total_steps
from kft.training.staging import Common, Stages
from kft.training.trainers import Trainer
from kft.transfer import adapters, application, rates, rules, strategies
from kft.transfer.application import Transfer


@dataclass(frozen=True)
class Job:
    """A fit made ready: rows as tokens, a model compiled, its cost estimated.

    Attributes:
        recipe: The knobs.
        data: The rows.
        model: The KerasHub task model.
        stores: The tokens of each part.
        stages: What trains, made ready stage by stage; most fits have one.
        forecast: What the fit will do and cost.
        base: What the pretrained weights came from, and what they were.
        transfer: What of the model trains, and what was put into it.
        earlier: The tasks that the run is to keep.
    """

    recipe: Recipe
    data: Dataset
    model: Any
    stores: Mapping[str, Store]
    stages: Stages
    forecast: Forecast
    base: Mapping[str, str]
    transfer: Transfer
    earlier: tuple[Earlier, ...] = ()

    @property
    def trainer(self) -> Trainer:
        """The model compiled for `model.fit`, in the stage that is ready."""
        return self.stages.current.trainer

    @property
    def sources(self) -> dict[str, Stream]:
        """The training rows as the stage that is ready reads them."""
        return {"train": self.stages.current.streams["train"]}

    @cached_property
    def streams(self) -> dict[str, Stream]:
        """The rows of each part as the whole network reads them."""
        problem, preprocessor = self.data.problem, self.model.preprocessor
        rows = self.data.training_rows
        return {name: stream_of(problem, rows[name], store, preprocessor) for name, store in self.stores.items()}

    def enter(self, number: int, note: Callable[[str], None]) -> tuple[Trainer, dict[str, Stream]]:
        """Makes a stage ready, by the weights as they are, and what its frozen layers give for all rows.

        Args:
            number: Of the stage, from 0.
            note: Takes what the user should know.

        Returns:
            What trains in it, and the training rows as it reads them.
        """
        if number != self.trainer.span.number:
            self.stages.enter(number, note)
        self.stages.current.keep(self.streams, note)
        return self.trainer, self.sources

    def solve(self) -> None:
        """Sets the weights that are computed from the training rows, by the others as they are."""
        solve = self.data.problem.objective.in_closed_form
        if solve is not nothing_in_closed_form:
            size, stream = self.recipe.batch_size * 2, self.stages.current.streams["train"]
            outputs = inference.outputs(self.trainer.network, stream.store, self.trainer.devices, size)
            solve(self.model, outputs, stream.targets)

    def complete(self) -> None:
        """Brings what was trained into the model, as it is to be saved."""
        sparse_embeddings.put_back(self.trainer.network)
        self.solve()

    def save(self, run_dir: Path) -> None:
        """Writes the trained model: a preset, or the delta where only a small part of it is another."""
        if not strategies.is_small(self.recipe.transfer):
            saving.save_task(self.model, run_dir / run_directory.PRESET)
            return
        changed = self.transfer.changed(self.model)
        about = deltas.About(
            base=self.base,
            weights=deltas.sha256_of(self.model, changed),
            preprocessor=tokenise.fingerprint(self.model.preprocessor),
            max_length=self.model.preprocessor.sequence_length,
            transfer=self.recipe.transfer,
            settings=self.recipe.adapter_settings,
            roles=adapters.table(self.transfer.adapters),
        )
        deltas.save(run_dir / deltas.FILE, self.model, changed, about)

    def validate(self) -> dict[str, float]:
        """Loss and metrics of the validation rows, prefixed `val_`, by the weights as they are."""
        self.solve()
        ready = self.stages.current
        scores = ready.fitted.validated(
            self.data.parts["validation"],
            ready.streams["validation"],
            ready.trainer.span.first_update + optimizer_state.num_updates(ready.trainer.learner.optimizer),
            batch_size=self.recipe.batch_size,
        )
        return {f"val_{name}": value for name, value in scores.items()}

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
        return identity.of(self)


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
    made = build(recipe, data, chosen, retained.gather(recipe), micro_batches=micro_batches)
    for earlier in made.earlier:
        earlier.refuse_other(made.model)
    return made


def build(
    recipe: Recipe, data: Dataset, chosen: Devices, earlier: tuple[Earlier, ...] = (), *, micro_batches: int = 1
) -> Job:
    """The job of these rows on these devices: the model read, headed, frozen where it should be, and compiled.

    Raises:
        OutOfMemory: The model and its optimizer do not fit.
    """
    if recipe.preset in scratch.FAMILIES and (purpose := strategies.needs_pretrained(recipe.transfer)):
        raise RecipeError(
            f"transfer: found {quoted(recipe.transfer)}, which {purpose} of a pretrained model, with preset "
            f"{recipe.preset}, which has random weights. Ask for transfer=full."
        )
    preset = _preset(recipe, data)
    with chosen.scope(), devices.memory_errors(lambda: f"{recipe.preset} and its optimizer do not fit into memory"):
        pruned = None
        if recipe.prune_vocabulary:
            pruned = kept_pieces.pruned(recipe, data, preset, chosen.precision, [one.name for one in earlier])
        preset = pruned.preset if pruned else preset
        model = data.problem.build.model(preset, max_length=tokenise.LONGEST, dtype=chosen.precision, seed=recipe.seed)
        num_parameters = pruned.num_parameters if pruned else presets.count_parameters(model.backbone)
        peak, head_peak = _learning_rates(recipe, num_parameters)
        transfer = application.apply(
            model,
            recipe.transfer,
            recipe.adapter_settings,
            seed=recipe.seed,
            head_rate=head_peak / peak,
            lone_head_rate=_lone_head_peak(recipe, head_peak) / peak,
            epochs=recipe.epochs,
        )
        model.preprocessor.sequence_length = row_tokens.max_length(recipe, data, model)
        stores, cache_notes = row_tokens.stores(data, model)
        if pruned is not None:
            pruned.check(stores)
            cache_notes = (*cache_notes, pruned.note)
        unknown_share = row_tokens.unknown_tokens(data, model.preprocessor.tokenizer)
        planned = [step["train"] for step in trainers.plan({"train": stores["train"]}, recipe, chosen, epoch=0)]
        examples, objective = data.problem.examples, data.problem.objective
        notes = examples.token_notes(model.preprocessor, stores["train"], data.training_rows["train"])
        notes += _on_comparisons(objective, recipe, chosen, micro_batches)
        warning = unknown.warning(recipe.preset, unknown_share)
        notes += [*transfer.notes, *([] if warning is None else [warning])]
        data = replace(data, notes=tuple(dict.fromkeys([*data.notes, *cache_notes, *notes])))
        begins = [stage.epoch for stage in transfer.stages]
        spans = spans_of(recipe, len(planned), begins, micro_batches)
        plain = data.problem.build.network(model, len(data.text_columns))
        common = Common(
            recipe,
            data.problem,
            model,
            transfer.blocks,
            transfer.stages,
            spans,
            plain,
            stores,
            data.text_columns,
            chosen,
            peak,
        )
        # What each text of a row passes by itself costs as many rows.
        times = max(1, len(plain.input) // len(model.input))
        costly = [replace(batch, rows=np.tile(batch.rows, times)) for batch in planned]
        cost = partial(
            costs.of,
            common,
            costly,
            int(stores["validation"].lengths.sum()) * times if "validation" in stores else 0,
            len({(len(batch.rows), batch.length) for batch in planned}) if chosen.is_compiled else 1,
        )
        trained, frozen = costs.parameters_of(common)
        later = [cost(number) for number in range(1, len(spans))]
        stages = Stages(common)
    ready = stages.current
    every = [cost(0, ready.trainer.network, ready.frontier.saved), *later]
    max_length, lengths = model.preprocessor.sequence_length, stores["train"].lengths
    forecast = Forecast(
        rows={name: len(part) for name, part in data.parts.items()},
        median_length=int(np.median(lengths)),
        longest=int(lengths.max()),
        max_length=max_length,
        num_cut=0 if data.problem.examples.is_packed else int((lengths >= max_length).sum()),
        steps=total_steps(recipe, len(planned)),
        trained=trained,
        frozen=frozen,
        devices=str(chosen),
        learning_rate=peak,
        head_learning_rate=head_peak,
        blocks=rules.planned(
            transfer.blocks, [stage.rules for stage in transfer.stages], peak, transfer.adapters, transfer.renewed
        ),
        stages=costs.planned(common),
        seconds=sum((one.work for one in every), Work(0, 0, 0)).seconds(model.compute_dtype),
        memory_mb=run.peak_memory_mb() + max(one.memory_mb for one in every),
        unknown_share=unknown_share,
        accelerate=passes.summary(ready.decisions),
        prefix_cache=ready.frontier.text,
    )
    return Job(recipe, data, model, stores, stages, forecast, provenance.of(preset), transfer, earlier)


def _on_comparisons(objective: Objective, recipe: Recipe, chosen: Devices, micro_batches: int) -> list[str]:
    """A note where a loss that compares rows sees fewer of them at a time than one update has."""
    devices = chosen.count if chosen.backend == "tensorflow" else 1  # JAX computes a batch as one, whatever shares it
    accumulated = recipe.gradient_accumulation_steps
    parts = {
        f"gradient_accumulation_steps={accumulated}": accumulated,
        f"{devices} devices": devices,
        f"{micro_batches} micro-batches": micro_batches,
    }
    cut = ", ".join(name for name, count in parts.items() if count > 1)
    if not cut or not objective.compares_rows:
        return []
    rows, of_update = max(1, recipe.batch_size // (devices * micro_batches)), recipe.batch_size * accumulated
    return [
        f"the loss compares each row with those that are computed beside it: {rows - 1} of the {of_update - 1} others "
        f"of an update ({cut}). It would be another with all of them."
    ]


def _learning_rates(recipe: Recipe, num_parameters: int) -> tuple[float, float]:
    """Peak learning rates of backbone and head, as asked for or by the documented rules."""
    peak, head_peak = recipe.learning_rate, recipe.head_learning_rate
    if peak == "auto":
        peak = rates.learning_rate(num_parameters, recipe.transfer)
    if head_peak == "auto":
        head_peak = rates.head_learning_rate(float(peak))
    return float(peak), float(head_peak)


def _lone_head_peak(recipe: Recipe, head_peak: float) -> float:
    """Peak learning rate of the head in a stage in which it trains alone."""
    return head_peak if recipe.head_learning_rate != "auto" else rates.lone_head_learning_rate(head_peak)


def _preset(recipe: Recipe, data: Dataset) -> Preset:
    """The pretrained model, or one that is begun here for these rows."""
    sizes = {name: getattr(recipe, name) for name in scratch.SIZES}
    if recipe.preset not in scratch.FAMILIES:
        return presets.find(recipe.preset)
    columns = [data.parts["train"].rows[name] for name in data.text_columns if name not in data.task.schema.derived]
    texts = (text for part in sliced(columns, len(data.parts["train"])) for column in part for text in column)
    max_length = tokenise.SHORTEST if recipe.max_length == "auto" else recipe.max_length
    settings = {**sizes, "max_length": max_length, "seed": recipe.seed}
    return scratch.begin(recipe.preset, texts, data.parts["train"].fingerprint(), tokenise.cache_dir(), **settings)
