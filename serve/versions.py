"""Which version of which model answers: keeps what is loaded in step with the folder of exports."""

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from anyio import to_thread
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from kft.errors import ServeError
from serve import bundle
from serve.contract import Refused, Signature
from serve.examples import Feature

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Servable:
    """One loaded version: its signatures, what `metadata` answers, and how it is called.

    `call(signature_name, inputs)` gives the outputs by name; `serialise(examples)` gives the `(examples,)`
    strings that classify and regress signatures take.
    """

    model: str
    version: int
    signatures: Mapping[str, Signature]
    metadata: Mapping[str, Any]
    call: Callable[[str, Arrays], dict[str, np.ndarray]]
    serialise: Callable[[list[dict[str, Feature]]], np.ndarray]


@dataclass(frozen=True)
class Failure:
    """Why a version did not load, and the state of its files then: changed files are tried again."""

    error: str
    files: frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class Model:
    """The versions of one model: those that answer, those that failed, and its labels."""

    loaded: Mapping[int, Servable] = field(default_factory=dict)
    failed: Mapping[int, Failure] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)


class ModelStore:
    """The loaded models of a folder. `refresh` reads the folder, `find` and `statuses` answer from memory.

    Readers never wait: a refresh builds a new table and then puts it in the old one's place. A request that
    is running keeps the version that it started with.
    """

    def __init__(self, saved_models: Path, load: Callable[[str, int, Path], Servable]):
        """`load(model, version, folder)` gives a version ready to answer, or raises a ServeError."""
        self._saved_models = Path(saved_models)
        self._load = load
        self._models: dict[str, Model] = {}
        self._refreshing = threading.Lock()

    def refresh(self) -> None:
        """Loads the versions that the folder and its `models.config` ask for and drops the others.

        Raises:
            ServeError: If the folder or `models.config` cannot be read; what is loaded then stays.
        """
        with self._refreshing:
            config_path = bundle.config_path(self._saved_models)
            config = bundle.read(config_path) if config_path.exists() else bundle.ModelServerConfig()
            configs = {model.name: model for model in config.model_config_list.config}
            found = bundle.exports(self._saved_models)
            self._models = {
                name: self._advance(name, folders, configs.get(name, ModelConfig())) for name, folders in found.items()
            }

    def _advance(self, name: str, folders: Mapping[int, Path], config: ModelConfig) -> Model:
        """The next state of a model: a version leaves only when one that is wanted can answer."""
        before = self._models.get(name, Model())
        model = replace(before, failed={v: f for v, f in before.failed.items() if v in folders})
        wanted = bundle.wanted_versions(config, list(folders))
        for version in wanted:
            model = self._with_version(model, name, version, folders[version])
        ready = {version: model.loaded[version] for version in wanted if version in model.loaded}
        pinned = config.model_version_policy.WhichOneof("policy_choice") == "specific"
        if not model.loaded and not pinned:
            for version in sorted(set(folders) - set(wanted), reverse=True):
                model = self._with_version(model, name, version, folders[version])
                if model.loaded:
                    break
        return replace(model, loaded=ready or model.loaded, labels=dict(config.version_labels))

    def _with_version(self, model: Model, name: str, version: int, folder: Path) -> Model:
        files = _files(folder)
        known = model.failed.get(version)
        if version in model.loaded or (known and known.files == files):
            return model
        others = {v: failure for v, failure in model.failed.items() if v != version}
        try:
            servable = self._load(name, version, folder)
        except ServeError as error:
            return replace(model, failed={**others, version: Failure(str(error), files)})
        return replace(model, loaded={**model.loaded, version: servable}, failed=others)

    def names(self) -> list[str]:
        """The models of which a version can answer."""
        return [name for name, model in self._models.items() if model.loaded]

    def failures(self) -> dict[tuple[str, int], str]:
        """The error of each version that did not load, by model and version."""
        return {
            (name, version): failure.error
            for name, model in self._models.items()
            for version, failure in model.failed.items()
        }

    def find(self, name: str, *, version: int | None = None, label: str | None = None) -> Servable:
        """The version that answers: the one asked for, else the newest.

        Raises:
            Refused: With 404 if no such version is loaded, with 400 if the label is unknown.
        """
        model = self._models.get(name, Model())
        if label is not None and label not in model.labels:
            known = sorted(model.labels)
            raise Refused(f"Unrecognized servable version label: {label}. Model {name!r} has the labels {known}.")
        number = model.labels[label] if label is not None else version
        if number is None and model.loaded:
            return model.loaded[max(model.loaded)]
        if number is None or number not in model.loaded:
            asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            served = {other: sorted(state.loaded) for other, state in self._models.items() if state.loaded}
            raise Refused(f"Servable not found for request: {asked}. Loaded versions by model: {served}.", 404)
        return model.loaded[number]

    def statuses(self, name: str, *, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """The `model_version_status` document of a model or one version of it, newest first.

        Raises:
            Refused: With 404 if the model or version is unknown, with 400 if the label is.
        """
        model = self._models.get(name, Model())
        if label is not None:
            version = self.find(name, label=label).version
        errors = {number: failure.error for number, failure in model.failed.items()}
        states = errors | dict.fromkeys(model.loaded, "")
        if not states or (version is not None and version not in states):
            asked = "any versions" if version is None else f"version {version}"
            raise Refused(f"Could not find {asked} of model {name}", 404)
        numbers = sorted(states, reverse=True) if version is None else [version]
        return {"model_version_status": [_status(number, states[number]) for number in numbers]}


async def watch(store: ModelStore, poll_s: float) -> None:
    """Looks for new versions, and says each new problem once."""
    known = {f"not served: {name}, version {v}: {e}" for (name, v), e in store.failures().items()}
    while True:
        await asyncio.sleep(poll_s)
        try:
            await to_thread.run_sync(store.refresh, abandon_on_cancel=True)
            problems = {f"not served: {name}, version {v}: {e}" for (name, v), e in store.failures().items()}
        except (ServeError, OSError) as error:
            problems = {f"models stay as they are: {error}"}
        for problem in sorted(problems - known):
            print(problem, file=sys.stderr, flush=True)
        known = problems


def _status(version: int, error: str) -> dict[str, Any]:
    return {
        "version": str(version),
        "state": "END" if error else "AVAILABLE",
        "status": {"error_code": "UNKNOWN" if error else "OK", "error_message": error},
    }


def _files(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Path, size in bytes and time of change in nanoseconds of each file of a version."""
    stats = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
    return frozenset((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
