"""The folder that TensorFlow Serving starts from: `models.config` and `compose.yaml`."""

import os
import shutil
from pathlib import Path

import filelock
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from kft.errors import ServeError
from serve import files, folders

CONFIG_NAME = "models.config"
LOCK_NAME = ".models.config.lock"
COMPOSE_NAME = "compose.yaml"
MODELS_NAME = "saved_models"
CONTAINER_MODELS_DIR = "/models"
MAX_CONFIG_BYTES = 2**20
LOCK_TIMEOUT_S = 60.0


def update(saved_models: Path, out: Path | None = None) -> Path:
    """Writes `models.config` for the exports in `saved_models`, and `compose.yaml` if it is missing.

    What was written by hand stays: version policies, labels and other fields of a model that still stands,
    and models with a base path outside `/models`. The file is replaced whole and only if its meaning changes,
    so its comments live until then. A lock beside it, which stays there, keeps two updates apart.

    Args:
        saved_models: The folder of `<name>/<version>/saved_model.pb`.
        out: The folder to write to, `serve` beside `saved_models` by default.

    Returns:
        The path of `models.config`.

    Raises:
        ServeError: If `saved_models` is no folder, the file that is there cannot be read (it is then left as it
            is), or the folder cannot be written to.
    """
    saved_models = Path(saved_models)
    path = config_path(saved_models) if out is None else Path(out) / CONFIG_NAME
    folders.find(saved_models)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(LOCK_NAME), timeout=LOCK_TIMEOUT_S):
            old = read(path) if path.exists() else ModelServerConfig()
            new = _merged(old, list(folders.find(saved_models).models))
            if new != old or not path.exists():
                files.write(path, text_format.MessageToString(new))
            compose = path.with_name(COMPOSE_NAME)
            if not compose.exists():
                shutil.copyfile(Path(__file__).with_name(COMPOSE_NAME), compose)
    except filelock.Timeout:
        raise ServeError(f"{path}: another update has held its lock for {LOCK_TIMEOUT_S:.0f} s. Try again.") from None
    except OSError as error:
        raise ServeError(f"{path.parent} cannot be written: {error.strerror or error}.") from error
    return path


def check(saved_models: Path) -> None:
    """Refuses what `update` of this folder would refuse, and writes nothing.

    Raises:
        ServeError: If the `models.config` that is there cannot be read, or its folder cannot be written to.
    """
    path = config_path(saved_models)
    if path.exists():
        read(path)
    place = next(folder for folder in path.parents if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ServeError(f"{path.parent} cannot be written. Change its permissions.")


def read(path: Path) -> ModelServerConfig:
    """The config in a file.

    Raises:
        ServeError: If it is missing or not the text format of a ModelServerConfig with a `model_config_list`.
    """
    what_to_do = "Correct that line, or move the file away and a new one is written."
    try:
        text = files.read(path, max_bytes=MAX_CONFIG_BYTES).decode("utf-8")
        config = text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError as error:
        place = f"{path}, line {error.GetLine()}, column {error.GetColumn()}"
        raise ServeError(f"{place}: {error}. Expected the text of a ModelServerConfig. {what_to_do}") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ServeError(f"{path} cannot be read: {error}. Expected a UTF-8 text file. {what_to_do}") from error
    if config.HasField("custom_model_config"):
        raise ServeError(f"{path} has a custom_model_config, expected a model_config_list. {what_to_do}")
    return config


def config_path(saved_models: Path) -> Path:
    """Where `models.config` stands by default: in `serve`, beside the exports."""
    return Path(saved_models).resolve().parent / "serve" / CONFIG_NAME


def belongs_to(models_dir: Path) -> bool:
    """Whether an export into this folder brings `serve/models.config` beside it up to date.

    Only a folder named `saved_models` has a `serve` beside it: of another, the folder above is the user's own.
    """
    return Path(models_dir).resolve().name == MODELS_NAME


def wanted_versions(config: ModelConfig, found: list[int]) -> list[int]:
    """Those of the versions `found` that the model's version policy serves, newest first.

    >>> wanted_versions(ModelConfig(), [1, 2])
    [2]
    """
    newest_first = sorted(found, reverse=True)
    policy = config.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return newest_first
        case "specific":
            return [version for version in newest_first if version in policy.specific.versions]
        case _:
            return newest_first[: policy.latest.num_versions or 1]


def _merged(old: ModelServerConfig, names: list[str]) -> ModelServerConfig:
    """The old config with a model for each name, without those whose export is gone, sorted by name."""
    by_name = {
        config.name: config
        for config in old.model_config_list.config
        if config.name in names or config.base_path != _container_path(config.name)
    }
    for name in names:
        fresh = ModelConfig(name=name, base_path=_container_path(name), model_platform="tensorflow")
        by_name.setdefault(name, fresh)
    new = ModelServerConfig()
    new.model_config_list.config.extend(by_name[name] for name in sorted(by_name))
    return new


def _container_path(name: str) -> str:
    return f"{CONTAINER_MODELS_DIR}/{name}"
