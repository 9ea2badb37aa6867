"""The directory of a study: taken by one search at a time, and only by the same one again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kft import disk, lock, run_directory, untrusted
from kft.errors import RunError, quoted

STUDY = "study.json"


@contextlib.contextmanager
def claim(out: Path, identity: Mapping[str, Any]) -> Iterator[None]:
    """Takes a directory for one search: a new or empty one, or that of the same study.

    Args:
        out: The directory.
        identity: What must be the same for a study to go on, in JSON values.

    Raises:
        RunError: It holds something else or another study, another search is at work in it, or it cannot be
            written.
    """
    with run_directory.taken(out, _refuse_occupied, work="search", option="out"):
        study = out / STUDY
        if os.path.lexists(study):
            _refuse_changes(out, untrusted.read_json(study, dict[str, Any], RunError), identity)
        else:
            disk.write_json(study, identity)
        yield


def _refuse_occupied(out: Path) -> None:
    """Refuses a directory of anything but a study; one that was killed before its first word leaves its lock."""
    if os.path.lexists(out) and not out.is_dir():
        raise RunError(f"{out} exists and is no folder. Choose another out.")
    names = os.listdir(out) if out.is_dir() else []
    if STUDY not in names and any(name != lock.NAME and not name.startswith(disk.PARTIAL) for name in names):
        raise RunError(f"{out} exists and holds no study. Choose another out.")


def _refuse_changes(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, value in now.items():
        was, label = before.get(name), name
        if value == was:
            continue
        if isinstance(value, dict) and isinstance(was, dict):
            key = next((key for key in [*value, *was] if value.get(key) != was.get(key)), None)
            label, was, value = f"{name}.{key}", was.get(key), value.get(key)
        raise RunError(f"{out}: {label} was {quoted(was)}, now {quoted(value)}. Keep it so, or choose another out.")
