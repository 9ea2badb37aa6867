"""Folders of exports as TensorFlow Serving reads them: `<model>/<version>/saved_model.pb`."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kft.errors import ServeError

SAVED_MODEL_NAME = "saved_model.pb"
MAX_VERSION = 2**63 - 1


@dataclass(frozen=True)
class Found:
    """The version folders of each model, by name and number, both ascending; and what was skipped, and why."""

    models: Mapping[str, Mapping[int, Path]]
    notes: tuple[str, ...]


def find(saved_models: Path) -> Found:
    """The exports in a folder. Names that begin with a dot are unfinished exports.

    Raises:
        ServeError: If `saved_models` is no folder or cannot be listed.
    """
    saved_models = Path(saved_models)
    if not saved_models.is_dir():
        raise ServeError(f"{saved_models} is not a folder. Expected <name>/<version>/{SAVED_MODEL_NAME} inside it.")
    try:
        children = sorted(saved_models.iterdir())
    except OSError as error:
        raise ServeError(f"{saved_models} cannot be listed: {error.strerror}. Change its permissions.") from error
    models: dict[str, dict[int, Path]] = {}
    notes: list[str] = []
    for folder in children:
        if folder.name.startswith("."):
            continue
        try:
            versions = _versions(folder, notes) if folder.is_dir() else {}
        except OSError as error:
            notes.append(f"{folder} is skipped: it cannot be read ({error.strerror}).")
            continue
        problem = name_problem(folder.name)
        if versions and problem:
            notes.append(f"{folder} is skipped: {problem}. Rename it.")
        elif versions:
            models[folder.name] = dict(sorted(versions.items()))
    return Found(models, tuple(notes))


def version_number(name: str) -> int | None:
    """The version that a folder's name stands for in TensorFlow Serving, which reads it with `absl::SimpleAtoi`.

    >>> [version_number(name) for name in ("2", "00000002", " -3 ", "²", "1e3", ".4", "9223372036854775808")]
    [2, 2, -3, None, None, None, None]
    """
    if not re.fullmatch(r"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*", name):
        return None
    number = int(name)
    return number if -MAX_VERSION - 1 <= number <= MAX_VERSION else None


def name_problem(name: str) -> str | None:
    """Why a model cannot be served under a name, or None.

    >>> name_problem("a:b")
    "the model's name 'a:b' holds ':', which URLs of TensorFlow Serving cannot"
    """
    if not name or name.startswith("."):
        return f"the model's name {name!r} begins with a dot or is empty, and such folders are not served"
    if ":" in name or "/" in name:
        return f"the model's name {name!r} holds ':', which URLs of TensorFlow Serving cannot"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return f"the model's name {name!r} holds a control character or is not UTF-8"
    return None


def _versions(folder: Path, notes: list[str]) -> dict[int, Path]:
    """The versions of one model. Of two folders with the same number the last name counts, as in TF Serving."""
    found: dict[int, Path] = {}
    for child in sorted(folder.iterdir()):
        number = version_number(child.name)
        if number is None or not (child / SAVED_MODEL_NAME).is_file():
            continue
        if number in found:
            notes.append(f"{found[number]} is skipped: {child} is version {number}, too.")
        found[number] = child
    return found
