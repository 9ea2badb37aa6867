"""The directory of a study: taken by one search at a time, and only by the same one again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from kft import disk
from kft.errors import RunError

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
    study = out / STUDY
    if not study.is_file() and out.exists() and (not out.is_dir() or _holds_more_than_a_lock(out)):
        raise RunError(f"{out} exists and holds no study. Choose another out.")
    lock = filelock.FileLock(out / ".lock")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RunError(f"{out}: another search is at work. Wait for it, or choose another out.") from None
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror or error}. Choose another out.") from None
    try:
        if study.is_file():
            _refuse_changes(out, disk.read_json(study), identity)
        else:
            disk.write_json(study, identity)
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            (out / ".lock").unlink()


def _holds_more_than_a_lock(out: Path) -> bool:
    """A search that was killed before its first word leaves its lock, or half of the study's file."""
    return any(path.name != ".lock" and not path.name.startswith(disk.PARTIAL) for path in out.iterdir())


def _refuse_changes(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, value in now.items():
        was, label = before.get(name), name
        if value == was:
            continue
        if isinstance(value, dict) and isinstance(was, dict):
            key = next(key for key in [*value, *was] if value.get(key) != was.get(key))
            label, was, value = f"{name}.{key}", was.get(key), value.get(key)
        raise RunError(f"{out}: {label} was {was!r}, now {value!r}. Keep it so, or choose another out.")
