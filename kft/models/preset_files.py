"""What the files of a preset may say. A preset is data from a stranger: it names no path, no code and no other file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from pydantic import JsonValue

from kft import untrusted
from kft.accelerate.internals import check_file_exists, get_file
from kft.errors import PresetError, quoted

CONFIGS = ("config.json", "tokenizer.json", "preprocessor.json", "task.json")
SHARDS = {"model.weights.json": ".weights.h5", "model.safetensors.index.json": ".safetensors"}
MAX_JSON_BYTES = 256 * 2**20  # a tokenizer.json of Hugging Face holds the whole vocabulary
PACKAGES = ("keras_hub", "kft")
KERAS_CLASSES = {"DTypePolicy", "DTypePolicyMap", "QuantizedDTypePolicy", "QuantizedFloat8DTypePolicy"}
_POINTER = b"version https://git-lfs"
_BARE_NAME = re.compile(r"[\w-][\w.-]*")


def check(handle: str) -> None:
    """Refuses a preset whose files say more than a preset needs to, before anything is made of them.

    Args:
        handle: A directory, or what KerasHub's `from_preset` takes.

    Raises:
        PresetError: Names the file, what was found in it and what was expected.
    """
    folder = Path(handle)
    if folder.is_dir():
        untrusted.check_folder(folder, PresetError)
    else:
        folder = Path(get_file(handle, "config.json")).parent
        # The cache of Hugging Face keeps the files beside the folder that links to them.
        untrusted.check_folder(folder, PresetError, links_within=folder.parents[1])
    config = read_json(handle, CONFIGS[0])
    if config is not None and not is_hugging_face(config):  # whose files name no class that is loaded
        _check_config(str(folder / CONFIGS[0]), config)
        for name in CONFIGS[1:]:
            if (inner := read_json(handle, name)) is not None:
                _check_config(str(folder / name), inner)
    for name, ending in SHARDS.items():
        if (index := read_json(handle, name)) is not None:
            _check_shards(str(folder / name), index, ending)
    if folder.is_dir():
        for path in sorted(folder.glob("*.h5")):
            _check_hdf5(path)


def read_json(handle: str, name: str) -> dict[str, Any] | None:
    """A JSON file of a preset, or None where there is none.

    Raises:
        PresetError: It is no JSON object, or a pointer of Git LFS.
    """
    if not check_file_exists(handle, name):
        return None
    path = Path(get_file(handle, name)).resolve()
    content = untrusted.read_bytes(path, PresetError, max_bytes=MAX_JSON_BYTES)
    if content.startswith(_POINTER):
        raise PresetError(pointer_message(str(Path(handle, name))))
    where = str(Path(handle, name)) if Path(handle).is_dir() else f"{handle}, {name}"
    if not content.strip().startswith(b"{"):
        raise PresetError(f"{where}: not valid JSON, expected an object.")
    return untrusted.parse_json(content, dict[str, JsonValue], where, PresetError)


def is_hugging_face(config: Mapping[str, Any]) -> bool:
    """Whether a preset with this config.json is a directory of Hugging Face, as KerasHub tells them apart."""
    return "registered_name" not in config and "model_type" in config


def pointer_message(where: str) -> str:
    """Of a file that Git LFS has left a pointer of."""
    return f"{where}: found a pointer of Git LFS, expected the file itself. Fetch it with: git lfs pull"


def refuse_pointer(path: str) -> None:
    """Refuses a file that is only a pointer of Git LFS.

    Raises:
        PresetError: It is one.
    """
    with open(path, "rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise PresetError(pointer_message(path))


def _check_config(where: str, config: dict[str, Any]) -> None:
    """Refuses classes that are not KerasHub's, Keras's types or kft's, and names of files."""
    for place, node in _objects(config, ""):
        if "config_file" in node and node["config_file"] not in ("tokenizer.json", "preprocessor.json"):
            raise PresetError(
                f"{where}: {place}config_file: found {quoted(node['config_file'])}, expected tokenizer.json or "
                "preprocessor.json. A preset may not choose the files that are read and written. Do not use it."
            )
        for key in ("vocabulary", "merges", "proto"):
            if node.get(key) is not None:
                raise PresetError(
                    f"{where}: {place}{key}: found {quoted(node[key])}, expected null: a vocabulary lies under assets/."
                )
        if "class_name" in node or "registered_name" in node or "module" in node:
            _check_class(where, place, node)


def _check_class(where: str, place: str, node: dict[str, Any]) -> None:
    module, registered, name = (node.get(key) for key in ("module", "registered_name", "class_name"))
    package = str(module or "").split(".")[0]
    if name == "function":
        is_known = node.get("config") in vars(keras.activations) or registered == "keras_hub>gelu_approximate"
        is_known = is_known and package in ("builtins", "keras", "keras_hub", "")
    elif str(registered or "").split(">")[0] in PACKAGES and ">" in str(registered):
        is_known = package in (*PACKAGES, "") and str(registered).split(">")[1] == name
    else:
        is_initializer = module == "keras.initializers" and name in vars(keras.initializers)
        is_known = (is_initializer or (module == "keras" and name in KERAS_CLASSES)) and registered in (None, name)
    if not is_known:
        found = {"module": module, "class_name": name, "registered_name": registered}
        raise PresetError(
            f"{where}: {place}class_name: found {quoted(found)}, expected a class of KerasHub or kft. A preset may not "
            "bring code. Do not use this preset."
        )


def _objects(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict in a JSON value, and where it is."""
    if isinstance(value, dict):
        yield place, value
        for key, part in value.items():
            yield from _objects(part, f"{place}{key}.")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _objects(part, f"{place}{number}.")


def _check_shards(where: str, index: dict[str, Any], ending: str) -> None:
    """Refuses an index of weights that names anything but files beside it."""
    names = index.get("weight_map")
    if not isinstance(names, dict):
        raise PresetError(f"{where}: weight_map: found {quoted(names)}, expected an object of file names.")
    for key, value in names.items():
        for name in value if isinstance(value, list) else [value]:
            if not isinstance(name, str) or not _BARE_NAME.fullmatch(name) or not name.endswith(ending):
                raise PresetError(
                    f"{where}: weight_map.{quoted(key)}: found {quoted(name)}, expected the bare name of a file that "
                    f"ends in {ending}."
                )


def _check_hdf5(path: Path) -> None:
    """Refuses an HDF5 file that takes its numbers from other files."""
    import h5py

    refuse_pointer(str(path))
    try:
        with h5py.File(path, "r") as file:
            waiting: list[Any] = [file]
            while waiting:
                group = waiting.pop()
                for name in group:
                    link = group.get(name, getlink=True)
                    if not isinstance(link, h5py.HardLink):
                        raise PresetError(_outside(path, group.name, name, type(link).__name__))
                    part = group[name]
                    if isinstance(part, h5py.Group):
                        waiting.append(part)
                    elif isinstance(part, h5py.Dataset) and (part.external or part.is_virtual):
                        raise PresetError(_outside(path, group.name, name, "numbers kept in another file"))
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise PresetError(f"{path}: not a file of weights in HDF5, or damaged: {error}") from error


def _outside(path: Path, group: str, name: str, found: str) -> str:
    return (
        f"{path}: {quoted(f'{group}/{name}')}: found {found}, expected the numbers themselves. Do not use this preset."
    )
