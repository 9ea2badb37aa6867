"""The Run: what can be asked of a finished fit."""

from __future__ import annotations

import functools
import resource
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kft import schemas, untrusted, writable
from kft.errors import KftError, RunError, quoted
from kft.recipe import Recipe
from kft.run_directory import LABELS, MANIFEST, METRICS, PRESET, RECIPE, read_manifest, read_recipe, verify

if TYPE_CHECKING:
    from kft.data.store import Store
    from kft.data.streams import Stream
    from kft.data.table import Table
    from kft.tasks.task import Labels, Problem, Task
    from kft.training.fitted import Fitted

MAX_METRICS_BYTES = 2**28


def _one_thread_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of Run that waits for others of the same run: Keras keeps the state of a prediction in the model."""

    @functools.wraps(method)
    def alone(run: Run, *args: Any, **kwargs: Any) -> Any:
        with run._lock:
            return method(run, *args, **kwargs)

    return alone


class Run:
    """A finished fit. Open one with `kft.load(path)`.

    Attributes:
        path: Its directory.
        base: The pretrained model of a run that holds a delta, where it is not where its recipe says.
        kept_in: The run that keeps this one's head; None where it has a model of its own.
    """

    def __init__(
        self,
        path: Path,
        problem: Problem | None = None,
        manifest: dict[str, Any] | None = None,
        base: str | None = None,
        kept_in: Run | None = None,
    ):
        self.path, self.base, self.kept_in = path, base, kept_in
        self._lock: Any = threading.RLock() if kept_in is None else kept_in._lock  # layers are shared
        if problem is not None and manifest is not None:
            # A fit that has just been trained has none of its files yet.
            self.problem, self.labels, self.manifest = problem, problem.labels, manifest

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def recipe(self) -> Recipe:
        """The knobs it was made with."""
        return read_recipe(self.path)

    @cached_property
    def labels(self) -> Labels:
        """The label spec, what the training targets taught: class names, or mean and deviation."""
        return untrusted.read_json(self.path / LABELS, schemas.labels_of(self.manifest["task"]), RunError)

    @property
    def vocabulary(self) -> Labels:
        """The former name of `labels`."""
        return self.labels

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, seeds, data fingerprints, decisions, and the sha256 of every file."""
        return read_manifest(self.path)

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics of each part, and `train_s`, `examples_per_s`, `peak_memory_mb`."""
        # A run of an older kft may hold NaN, which is no JSON.
        return untrusted.read_json(
            self.path / METRICS, schemas.Metrics, RunError, max_bytes=MAX_METRICS_BYTES, is_nan_null=True
        )

    @cached_property
    def task(self) -> Task:
        """What it was trained for."""
        from kft import tasks

        heads = self.labels.get("aux", {})
        return tasks.find(self.manifest["task"], {name: head["task"] for name, head in heads.items()})

    @cached_property
    def problem(self) -> Problem:
        """What was learnt: its task, bound to its label spec."""
        problem = self.task.restore(self.labels, self.recipe)
        for name in self.manifest["texts"]:
            if name not in problem.schema.trained_columns:
                known = ", ".join(problem.schema.trained_columns)
                raise RunError(f"{self.path / MANIFEST}: texts: found {quoted(name)}, expected some of: {known}.")
        if not problem.schema.answered_columns(self.manifest["texts"]):
            raise RunError(
                f"{self.path / MANIFEST}: texts: found none that {self.task.name} reads. The file is damaged."
            )
        return problem

    @cached_property
    def model(self) -> Any:
        """The fine-tuned KerasHub task model, in float32.

        Raises:
            RunError: Its files hold no such model, or one that does not go with labels.json.
        """
        from kft import adapted, kept_heads
        from kft.models import heads

        try:
            if self.kept_in is not None:
                model = kept_heads.opened(self.path, self.problem, self.recipe, self.kept_in.model)
            elif adapted.is_delta(self.path):
                model, _ = adapted.opened(self.path, self.recipe, self.problem, self.base)
            else:
                model = heads.open_task(str(self.path / PRESET))
        except KftError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise RunError(f"{self.path / PRESET}: the model cannot be opened ({why}). Fit again.") from error
        self._check_widths(model)
        return model

    @property
    def heads(self) -> list[str]:
        """The names of the heads of earlier tasks that it has kept."""
        from kft import kept_heads

        return kept_heads.names(self.path)

    def head(self, name: str) -> Run:
        """An earlier task, answered by its own head on the model of this run.

        Args:
            name: One of `heads`.

        Returns:
            A run that predicts and evaluates, and that `save` writes as a run of its own.

        Raises:
            RunError: None of this name is kept.
        """
        from kft import kept_heads

        return Run(kept_heads.find(self.path, name), kept_in=self)

    def save(self, path: str | Path) -> Run:
        """Writes the run of a kept head as one of its own, with the model of the run that keeps it.

        Args:
            path: A directory that does not exist, or is empty.

        Returns:
            The run there, which exports as any other.

        Raises:
            RunError: This is no kept head, or the model has adapters that no weights can stand for; the directory is
                occupied or cannot be written.
        """
        from kft import kept_heads

        if self.kept_in is None:
            raise RunError(f"{self.path}: is a run of its own already. Copy its directory.")
        kept_heads.save(self.path, Path(path), self.problem, self.recipe, self.manifest, self.kept_in.merged_model)
        return load(path)

    @property
    def merged_model(self) -> Any:
        """The same with its adapters brought into the weights, so far as weights can stand for them."""
        from kft import adapted

        if not adapted.is_delta(self.path):
            return self.model
        return adapted.merged(self.path, self.recipe, self.problem, self.base)[0]

    def merge(self, path: str | Path) -> Run:
        """Writes this run with a whole preset in place of the delta that LoRA and the like leave.

        Its answers are the same up to rounding.

        Args:
            path: A directory that does not exist, or is empty.

        Returns:
            The run there.

        Raises:
            RunError: There is nothing to merge, or bottleneck adapters, which no weights can stand for; the directory
                is occupied or cannot be written.
        """
        from kft import adapted

        adapted.merge(self.path, Path(path), self.recipe, self.problem, self.manifest, self.base)
        return load(path)

    def save_peft(self, path: str | Path) -> Path:
        """Writes the matrices of LoRA and the head as Hugging Face's PEFT does, for BERT and Llama.

        Args:
            path: A directory that does not exist, or is empty.

        Returns:
            The directory, with `adapter_config.json` and `adapter_model.safetensors`.

        Raises:
            RunError: The run is not one of LoRA alone, or PEFT's files cannot hold it.
        """
        from kft import adapted

        adapted.write_peft(self.path, Path(path), self.recipe, self.problem, self.base)
        return Path(path)

    def _check_widths(self, model: Any) -> None:
        """Compares the outputs of a saved model with those that its label spec asks for.

        Raises:
            RunError: They do not go together.
        """
        build = self.problem.build
        outputs = build.network(model, len(self.manifest["texts"])).output if build.widths else {}
        for name, width in build.widths.items():
            if (saved := outputs[name].shape[-1]) != width:
                raise RunError(
                    f"{self.path / LABELS}: goes with a model of {width} outputs, and the one in {PRESET} has {saved}. "
                    "Restore the files that belong together, or fit again."
                )

    @cached_property
    def fitted(self) -> Fitted:
        """The problem with its model."""
        from kft.accelerate import passes
        from kft.training import devices
        from kft.training.fitted import Fitted

        model, build, chosen = self.model, self.problem.build, devices.choose("none", "float32")

        def network(num_texts: int) -> Any:
            facts = passes.Facts(build.network(model, num_texts), model, chosen.backend, chosen.platform)
            return passes.applied(facts, self.recipe.accelerate)[0]

        return Fitted(self.problem, model, functools.cache(network), self.manifest["texts"], chosen)

    @property
    def text_columns(self) -> list[str]:
        """The canonical names of the text columns that predict and the export read."""
        return self.problem.schema.answered_columns(self.manifest["texts"])

    def predict(self, rows: Any, *, batch_size: int = 64) -> list[dict[str, Any]]:
        """Answers to new rows, one dict each, in the order of the rows.

        Args:
            rows: A string, or strings, tuples of two strings or dicts in a list, an array, a pandas Series, an Arrow
                array or a generator; any table that `kft.fit` takes, or the `pathlib.Path` of a file. A string that is
                the name of a file is refused: give its path, or the text in a list.
            batch_size: Rows in one forward pass.

        Returns:
            For classify `{"label", "score", "scores"}`, for ordinal `{"value"}` besides, for multilabel
            `{"labels", "scores"}`, for regress `{"value"}`, for tag `{"words", "tags", "entities"}`, for answer
            `{"answer", "start", "end", "score", "no_answer", "nbest"}`, for embed `{"embedding"}`, for generate
            `{"text"}`, for pretrain `{"fills"}` of the masks or `{"perplexity"}`.

        Raises:
            DataError: A row without its text, or a missing column.
        """
        from kft import dataset
        from kft.data.records import records

        columns, schema = self.manifest["columns"], self.problem.schema
        table = dataset.unlabelled(rows, self.task.name, schema, columns, self.text_columns)
        if table is None:
            return []
        return records(self.answers(table, batch_size=batch_size), self.problem.predictor.names)

    def evaluate(
        self, data: Any, *, by: str | None = None, data_dir: str | Path | None = None, batch_size: int = 64
    ) -> dict[str, Any]:
        """Metrics of its answers to labelled rows, over the whole set.

        Args:
            data: Rows in any form that `kft.fit` takes, with the columns it was trained on. Of a benchmark the test
                rows are scored if those have labels, else the validation rows.
            by: A column that is neither read nor learnt, such as the language: the metrics of the rows of each of its
                values are added, as `by`, with their mean and the worst.
            data_dir: The directory of a benchmark's files, as for `kft.fit`.
            batch_size: Rows in one forward pass.

        Raises:
            DataError: Anything that is wrong with the rows; a label that training never saw.
        """
        from kft import dataset
        from kft.data import columns as named
        from kft.datasets import official

        readings = self.manifest.get("readings") or self._inferred_readings()
        columns, schema = self.manifest["columns"], self.problem.schema
        table, read = dataset.labelled(data, self.task.name, schema, columns, data_dir, readings)
        values = None if by is None else named.values_of(table, read, by, columns)
        scores, answers = self.scored(table, batch_size=batch_size)
        scores = {**scores, **official.metrics(read, table, answers, self.labels)}
        if by is None or values is None:
            return scores
        return {**scores, "by": {by: self.scored_by(table, by, values, answers, batch_size=batch_size)}}

    def _inferred_readings(self) -> dict[str, Any] | None:
        """How labels are read, by their names alone: of a run whose manifest does not say it."""
        from kft.data import targets

        if not any(column.kind == "label" for column in self.problem.schema.columns):
            return None
        return {"label": targets.reading_of_names(self.labels["labels"])}

    def export(self, path: str | Path | None = None) -> Path:
        """Writes the next version of a string-in SavedModel for TensorFlow Serving.

        Args:
            path: The model's folder. Default: `saved_models/<name of the run directory>`.

        Returns:
            The version directory, `<path>/<version>`.

        Raises:
            ExportError: The reloaded model does not answer as `predict` does; nothing is left behind then.
        """
        from kft.export import saved_model

        if self.kept_in is not None:
            raise RunError(
                f"{self.path}: is a kept head. Write it as a run of its own with save(PATH), and export that."
            )

        return saved_model.export(self, Path(path) if path else Path("saved_models", self.path.resolve().name))

    @_one_thread_at_a_time
    def scored(
        self, table: Table, store: Store | None = None, stream: Stream | None = None, *, batch_size: int = 64
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Metrics of the rows of a table, and the answers that they are of; see `Fitted.scores`."""
        return self.fitted.scores(table, store, stream, batch_size=batch_size)

    @_one_thread_at_a_time
    def scored_by(
        self,
        table: Table,
        column: str,
        values: Sequence[str | None],
        answers: Mapping[str, np.ndarray],
        *,
        batch_size: int = 64,
    ) -> dict[str, Any]:
        """Metrics of the rows of each value of a column; see `Fitted.scores_by` and `kft.evaluation.slices.summary`."""
        from kft.evaluation import kinds, slices

        found = self.fitted.scores_by(table, values, answers, column, batch_size=batch_size)
        return slices.summary(found, kinds.of(self.task.name, self.labels), num_without=list(values).count(None))

    @_one_thread_at_a_time
    def answers(self, table: Table, store: Store | None = None, *, batch_size: int = 64) -> dict[str, np.ndarray]:
        """The answers to the rows of a table, as arrays in their order; see `Fitted.answers`."""
        return self.fitted.answers(table, store, batch_size=batch_size)


def load(path: str | Path, *, base: str | Path | None = None) -> Run:
    """Opens a finished run.

    Args:
        path: Its directory.
        base: The pretrained model of a run of LoRA and the like, where it is no longer where it was trained from.

    Raises:
        RunError: No run is there, it never finished, or a file of it is damaged.
    """
    path = Path(path)
    writable.require_name(path, RunError)
    if not (path / RECIPE).is_file():
        raise RunError(f"{path}: no run is here (no {RECIPE}). Expected a directory that kft.fit has written.")
    untrusted.check_folder(path, RunError)
    run = Run(path, base=None if base is None else str(base))
    if not run.manifest["finished"]:
        raise RunError(f"{path}: this fit has not finished. Go on with: kft fit --resume {path}")
    verify(path, run.manifest, [RECIPE, LABELS, METRICS])
    return run


def peak_memory_mb() -> float:
    """The most memory this process has held, in megabytes."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
