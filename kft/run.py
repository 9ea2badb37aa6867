"""The Run: what can be asked of a finished fit."""

from __future__ import annotations

import functools
import resource
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kft import disk, schemas, untrusted
from kft.errors import KftError, RunError, quoted
from kft.recipe import Recipe
from kft.run_directory import LABELS, MANIFEST, METRICS, PRESET, RECIPE, read_manifest, read_recipe, verify

if TYPE_CHECKING:
    from kft.data.store import Store
    from kft.data.table import Table
    from kft.tasks.task import Task

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
    """

    def __init__(
        self,
        path: Path,
        task: Task | None = None,
        vocabulary: dict[str, Any] | None = None,
        manifest: dict[str, Any] | None = None,
    ):
        self.path = path
        self._lock = threading.RLock()
        if task is not None and vocabulary is not None and manifest is not None:
            # A fit that has just been trained has none of its files yet.
            self.task, self.vocabulary, self.manifest = task, vocabulary, manifest

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def recipe(self) -> Recipe:
        """The knobs it was made with."""
        return read_recipe(self.path)

    @cached_property
    def vocabulary(self) -> dict[str, Any]:
        """What the training targets taught: class names, or mean and deviation."""
        return untrusted.read_json(self.path / LABELS, schemas.VOCABULARIES[self.manifest["task"]], RunError)

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
        """What its columns mean."""
        from kft import tasks

        task = tasks.find(self.manifest["task"]).of(self.vocabulary)
        for name in self.manifest["texts"]:
            if name not in task.read_columns:
                known = ", ".join(task.read_columns)
                raise RunError(f"{self.path / MANIFEST}: texts: found {quoted(name)}, expected some of: {known}.")
        if not self._read_texts(task):
            raise RunError(f"{self.path / MANIFEST}: texts: found none that {task.name} reads. The file is damaged.")
        return task

    @cached_property
    def model(self) -> Any:
        """The fine-tuned KerasHub task model, in float32.

        Raises:
            RunError: Its files hold no such model, or one that does not go with labels.json.
        """
        from kft.models import heads

        try:
            model = heads.open_task(str(self.path / PRESET))
        except KftError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise RunError(f"{self.path / PRESET}: the model cannot be opened ({why}). Fit again.") from error
        count = schemas.OUTPUTS.get(self.task.name)
        width = getattr(getattr(model, "output", None), "shape", [None])[-1]
        if count is not None and width != count(self.vocabulary):
            raise RunError(
                f"{self.path / LABELS}: goes with a model of {count(self.vocabulary)} outputs, and the one in "
                f"{PRESET} has {width}. Restore the files that belong together, or fit again."
            )
        return model

    @cached_property
    def _network(self) -> Callable[[int], Any]:
        """(Number of text columns) to a model from token features to raw outputs."""
        from kft.accelerate import passes
        from kft.training import devices

        chosen = devices.choose("none", "float32")

        def made(num_texts: int) -> Any:
            plain = self.task.network(self.model, num_texts)
            facts = passes.Facts(plain, self.model, chosen.backend, chosen.platform)
            return passes.applied(facts, self.recipe.accelerate)[0]

        return functools.cache(made)

    @cached_property
    def _encoder(self) -> Callable[[int], Any]:
        """(Number of text columns) to what makes token features of them."""
        from kft.text.tokens import Encoder

        return functools.cache(lambda num_texts: Encoder(self.model.preprocessor, num_texts, self.task.features))

    @property
    def text_columns(self) -> list[str]:
        """The canonical names of the text columns that predict and the export read."""
        return self._read_texts(self.task)

    def _read_texts(self, task: Task) -> list[str]:
        return [name for name in self.manifest["texts"] if task.reads is None or name in task.reads]

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
        from kft.tasks import task

        table = dataset.unlabelled(rows, self.task, self.manifest["columns"], self.text_columns)
        if table is None:
            return []
        return task.rows(self.answers(table, batch_size=batch_size), self.vocabulary)

    def evaluate(self, data: Any, *, data_dir: str | Path | None = None, batch_size: int = 64) -> dict[str, Any]:
        """Metrics of its answers to labelled rows, over the whole set.

        Args:
            data: Rows in any form that `kft.fit` takes, with the columns it was trained on. Of a benchmark the test
                rows are scored if those have labels, else the validation rows.
            data_dir: The directory of a benchmark's files, as for `kft.fit`.
            batch_size: Rows in one forward pass.

        Raises:
            DataError: Anything that is wrong with the rows; a label that training never saw.
        """
        from kft import dataset

        readings = self.manifest.get("readings") or self._inferred_readings()
        table = dataset.labelled(data, self.task, self.manifest["columns"], data_dir, readings)
        return self.scored(table, batch_size=batch_size)[0]

    def _inferred_readings(self) -> dict[str, Any] | None:
        """How labels are read, by their names alone: of a run whose manifest does not say it."""
        from kft.data import targets

        if not any(column.kind == "label" for column in self.task.columns):
            return None
        return {"label": targets.reading_of_names(self.vocabulary["labels"])}

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

        return saved_model.export(self, Path(path) if path else Path("saved_models", self.path.resolve().name))

    def scored(
        self, table: Table, store: Store | None = None, *, batch_size: int = 64
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Metrics of the rows of a table, and the answers that they are of, if there are any.

        Args:
            table: With all canonical columns.
            store: Its tokens, in the rows that are trained on, if they are there already.
            batch_size: Rows in one forward pass.
        """
        found = self.answers(table, store, batch_size=batch_size) if self.task.score else {}
        scores = self.task.score(found, table, self.vocabulary) if self.task.score else {}
        if self.task.by_losses is None:
            return scores, found
        return {**self.task.by_losses(self._mean_losses(table, store, batch_size)), **scores}, found

    @_one_thread_at_a_time
    def _mean_losses(self, table: Table, store: Store | None, batch_size: int) -> dict[str, float]:
        """What `by_losses` is given: the mean of the loss over the rows, and those of the task's measures."""
        from kft.training import callbacks, devices, inference

        task, chosen, names = self.task, devices.choose("none", "float32"), self.manifest["texts"]
        table = task.lessons(table)
        if store is None:
            store = self._encoded(table, names)
            store = task.arrange(store, self._encoder(len(names)).max_length, None) if task.arrange else store
        network = self._network(len(names))
        losses = callbacks.batch_losses(task.loss(self.recipe, self.vocabulary), task.measures)
        network.compile(loss=losses[0].loss, weighted_metrics=losses, jit_compile=chosen.jit_compile)
        targets = task.targets(table, self.vocabulary, store)
        weights = task.row_weights(targets, self.vocabulary, store)
        disguise = task.disguise and task.disguise(self.recipe, self.model.preprocessor)
        return inference.means(network, store, targets, weights, chosen, batch_size, disguise)

    @_one_thread_at_a_time
    def answers(self, table: Table, store: Store | None = None, *, batch_size: int = 64) -> dict[str, np.ndarray]:
        """The task's answers to the rows of a table, as arrays in their order.

        Args:
            table: With the canonical text columns.
            store: Its tokens, if they are there already.
            batch_size: Rows in one forward pass.
        """
        from kft.training import devices, inference

        names = [n for n in dict.fromkeys([*self.manifest["texts"], *self.task.derived]) if n in table.names()]
        columns = [table.rows[name] for name in names]
        if self.task.answers is None:
            read = [table.rows[name] for name in self.text_columns]
            return inference.responded(self._respond, read, batch_size)
        parts = inference.slices(
            self._network(len(names)),
            store or self._encoded(table, names),
            columns,
            devices.choose("none", "float32"),
            batch_size,
        )
        return inference.joined(
            [self.task.answers(part.outputs, self.vocabulary, part.extras, part.texts) for part in parts]
        )

    @cached_property
    def _respond(self) -> Any:
        """The task's function from texts to answers, where one forward pass does not answer them."""
        return self.task.respond and self.task.respond(self.model, self.vocabulary)

    def _encoded(self, table: Any, names: list[str]) -> Store:
        """Tokens of a table; more than a slice of rows goes by way of the disk."""
        from kft.data import store, tokenise

        columns, encoder = [table.rows[name] for name in names], self._encoder(len(names))
        if len(table) > store.SLICE_ROWS:
            return tokenise.tokenise(table, names, encoder, tokenise.fingerprint(self.model.preprocessor))
        return store.in_memory(encoder(next(store.sliced(columns, len(table)))), encoder)


def load(path: str | Path) -> Run:
    """Opens a finished run.

    Raises:
        RunError: No run is there, it never finished, or a file of it is damaged.
    """
    path = Path(path)
    disk.require_name(path, RunError)
    if not (path / RECIPE).is_file():
        raise RunError(f"{path}: no run is here (no {RECIPE}). Expected a directory that kft.fit has written.")
    untrusted.check_folder(path, RunError)
    run = Run(path)
    if not run.manifest["finished"]:
        raise RunError(f"{path}: this fit has not finished. Go on with: kft fit --resume {path}")
    verify(path, run.manifest, [RECIPE, LABELS, METRICS])
    return run


def peak_memory_mb() -> float:
    """The most memory this process has held, in megabytes."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
