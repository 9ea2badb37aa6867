"""Which version of which model answers: keeps what is loaded in step with the folder of exports."""

import asyncio
import os
import re
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
from serve import bundle, folders
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
class Model:
    """The versions of one model: those that answer, the errors of those that do not load, and its labels.

    `tried` holds the state of each version's files when it was last loaded, or tried to: one whose files have
    changed since is loaded again.
    """

    loaded: Mapping[int, Servable] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    tried: Mapping[int, frozenset] = field(default_factory=dict)
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
        self._configs: dict[str, ModelConfig] | None = None
        self._notes: list[str] = []
        self._refreshing = threading.Lock()

    def refresh(self) -> None:
        """Loads the versions that the folder and its `models.config` ask for and drops the others.

        What is wrong with one model, or with a `models.config` that was read before, is a note (`problems`), and
        the other models are brought up to date.

        Raises:
            ServeError: If the folder cannot be read, or `models.config` could never be; what is loaded then stays.
        """
        with self._refreshing:
            found = folders.find(self._saved_models)
            notes = list(found.notes)
            try:
                self._configs = self._read_configs()
            except ServeError as error:
                if self._configs is None:
                    raise
                notes.append(f"{error} Until then, what it said before holds.")
            models = {}
            for name, versions in found.models.items():
                config = self._configs.get(name, ModelConfig())
                try:
                    models[name] = self._advance(name, versions, config)
                except Exception as error:  # such as files that vanish while they are looked at
                    notes.append(f"{name} stays as it is: {error or type(error).__name__}")
                    models[name] = self._models.get(name, Model())
                if not bundle.wanted_versions(config, list(versions)):
                    pinned = list(config.model_version_policy.specific.versions)
                    path = bundle.config_path(self._saved_models)
                    notes.append(
                        f"{path} pins versions {pinned} of {name!r}; none is there. Pin others or export them."
                    )
            self._models, self._notes = models, notes

    def _read_configs(self) -> dict[str, ModelConfig]:
        path = bundle.config_path(self._saved_models)
        config = bundle.read(path) if os.path.lexists(path) else bundle.ModelServerConfig()
        return {model.name: model for model in config.model_config_list.config}

    def _advance(self, name: str, versions: Mapping[int, Path], config: ModelConfig) -> Model:
        """The next state of a model: a version leaves only when one that is wanted can answer."""
        before = self._models.get(name, Model())
        model = replace(
            before,
            failed={v: error for v, error in before.failed.items() if v in versions},
            tried={v: files for v, files in before.tried.items() if v in versions},
        )
        wanted = bundle.wanted_versions(config, list(versions))
        for version in wanted:
            model = self._with_version(model, name, version, versions[version])
        ready = {version: model.loaded[version] for version in wanted if version in model.loaded}
        pinned = config.model_version_policy.WhichOneof("policy_choice") == "specific"
        if not model.loaded and not pinned:
            for version in sorted(set(versions) - set(wanted), reverse=True):
                model = self._with_version(model, name, version, versions[version])
                if model.loaded:
                    break
        loaded = ready or model.loaded
        tried = {v: files for v, files in model.tried.items() if v in loaded or v in model.failed}
        return replace(model, loaded=loaded, tried=tried, labels=dict(config.version_labels))

    def _with_version(self, model: Model, name: str, version: int, folder: Path) -> Model:
        """The model with a version loaded, or with its error; one whose files are as they were stays."""
        files = _files(folder)
        if model.tried.get(version) == files:
            return model
        tried = {**model.tried, version: files}
        try:
            servable = self._load(name, version, folder)
        except ServeError as error:
            return replace(model, failed={**model.failed, version: str(error)}, tried=tried)
        failed = {v: error for v, error in model.failed.items() if v != version}
        return replace(model, loaded={**model.loaded, version: servable}, failed=failed, tried=tried)

    def names(self) -> list[str]:
        """The models of which a version can answer."""
        return [name for name, model in self._models.items() if model.loaded]

    def problems(self) -> list[str]:
        """What is not served, or not as its files say, and why: a line each."""
        failures = [
            f"not {'reloaded' if version in model.loaded else 'served'}: {name}, version {version}: {error}"
            for name, model in self._models.items()
            for version, error in model.failed.items()
        ]
        return [*self._notes, *failures]

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
        root = str(self._saved_models.resolve())
        states = {v: without_folders(error.replace(root, "…")) for v, error in model.failed.items()}
        states |= dict.fromkeys(model.loaded, "")
        if not states or (version is not None and version not in states):
            asked = "any versions" if version is None else f"version {version}"
            raise Refused(f"Could not find {asked} of model {name}", 404)
        numbers = sorted(states, reverse=True) if version is None else [version]
        return {"model_version_status": [_status(number, states[number]) for number in numbers]}


async def watch(store: ModelStore, poll_s: float) -> None:
    """Looks for new versions, and says each new problem once."""
    known = set(store.problems())
    while True:
        await asyncio.sleep(poll_s)
        try:
            await to_thread.run_sync(store.refresh, abandon_on_cancel=True)
            problems = set(store.problems())
        except Exception as error:  # whatever one look meets, the next may not
            problems = {f"models stay as they are: {error or type(error).__name__}"}
        for problem in sorted(problems - known):
            print(problem, file=sys.stderr, flush=True)
        known = problems


def without_folders(text: str) -> str:
    """A message for other machines: absolute paths cut to their last name.

    >>> without_folders("'/home/me/mood/2' does not load")
    "'…/2' does not load"
    """
    return re.sub(r"(?<![^\s'\"(=:\[])(?:/[^/\s'\"]+)+/([^/\s'\"]*)", r"…/\1", text)


def _status(version: int, error: str) -> dict[str, Any]:
    return {
        "version": str(version),
        "state": "END" if error else "AVAILABLE",
        "status": {"error_code": "UNKNOWN" if error else "OK", "error_message": error},
    }


def _files(folder: Path) -> frozenset[tuple[str, int, int, int]]:
    """Path, inode, size in bytes and time of change in nanoseconds of each file of a version."""
    stats = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
    return frozenset((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats)
