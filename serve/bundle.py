"""The folder that TensorFlow Serving starts from: `models.config` and `compose.yaml`."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from kft.errors import ServeError

CONFIG_NAME = "models.config"
COMPOSE_NAME = "compose.yaml"
CONTAINER_MODELS_DIR = "/models"
SAVED_MODEL_NAME = "saved_model.pb"


def update(saved_models: Path, out: Path | None = None) -> Path:
    """Writes `models.config` for the exports in `saved_models`, and `compose.yaml` if it is missing.

    What was written by hand stays: version policies, labels and other fields of a model that still stands,
    and models with a base path outside `/models`. The file is replaced whole and only if its meaning changes,
    so its comments live until then.

    Args:
        saved_models: The folder of `<name>/<version>/saved_model.pb`.
        out: The folder to write to, `serve` beside `saved_models` by default.

    Returns:
        The path of `models.config`.

    Raises:
        ServeError: If `saved_models` is no folder, a model's name cannot stand in a URL, or the file that is
            there cannot be read; that file is then left as it is.
    """
    saved_models = Path(saved_models)
    path = config_path(saved_models) if out is None else Path(out) / CONFIG_NAME
    old = read(path) if path.exists() else ModelServerConfig()
    new = _merged(old, list(exports(saved_models)))
    path.parent.mkdir(parents=True, exist_ok=True)
    if new != old or not path.exists():
        _write_atomically(path, text_format.MessageToString(new))
    compose = path.with_name(COMPOSE_NAME)
    if not compose.exists():
        shutil.copyfile(Path(__file__).with_name(COMPOSE_NAME), compose)
    return path


def read(path: Path) -> ModelServerConfig:
    """The config in a file.

    Raises:
        ServeError: If it is missing or not the text format of a ModelServerConfig with a `model_config_list`.
    """
    what_to_do = "Correct that line, or move the file away and a new one is written."
    try:
        config = text_format.Parse(Path(path).read_text(encoding="utf-8"), ModelServerConfig())
    except text_format.ParseError as error:
        place = f"{path}, line {error.GetLine()}, column {error.GetColumn()}"
        raise ServeError(f"{place}: {error}. Expected the text of a ModelServerConfig. {what_to_do}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"{path} cannot be read: {error}. Expected a UTF-8 text file. {what_to_do}") from error
    if config.HasField("custom_model_config"):
        raise ServeError(f"{path} has a custom_model_config, expected a model_config_list. {what_to_do}")
    return config


def config_path(saved_models: Path) -> Path:
    """Where `models.config` stands by default: in `serve`, beside the exports."""
    return Path(saved_models).resolve().parent / "serve" / CONFIG_NAME


def exports(saved_models: Path) -> dict[str, dict[int, Path]]:
    """The version folders of each model, by name and number, both ascending.

    Only folders with a whole number for a name and a `saved_model.pb` inside count, as in TF Serving; names
    that begin with a dot are unfinished exports.

    Raises:
        ServeError: If `saved_models` is no folder or a model's name cannot stand in a URL.
    """
    if not Path(saved_models).is_dir():
        raise ServeError(f"{saved_models} is not a folder. Expected <name>/<version>/{SAVED_MODEL_NAME} inside it.")
    found = {}
    for folder in sorted(Path(saved_models).iterdir()):
        versions = {
            int(child.name): child
            for child in (folder.iterdir() if folder.is_dir() and not folder.name.startswith(".") else ())
            if re.fullmatch(r"0|[1-9][0-9]*", child.name) and (child / SAVED_MODEL_NAME).is_file()
        }
        if versions and ":" in folder.name:
            raise ServeError(f"{folder}: the model's name holds ':', which URLs of TF Serving cannot. Rename it.")
        if versions:
            found[folder.name] = dict(sorted(versions.items()))
    return found


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


def _write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never a part, even if the power fails."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # The server in the container runs as another user, and mkstemp makes the file private.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
