"""Files that are written whole or not at all, and known by their sha256."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kft.errors import RunError

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: missing or damaged ({error}).") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON under another name and renames it, so the file is whole or as it was."""
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    flush(partial)
    os.replace(partial, path)


def sha256(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """The sha256 of a value as JSON, whatever the order of its keys.

    >>> json_sha256({"a": 1, "b": 2}) == json_sha256({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def flush(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def refusals(path: Path, advice: str | None = None) -> Iterator[None]:
    """Turns what the disk refuses while a fit writes under `path` into one clear error.

    Args:
        path: Its run, or a folder of another kind.
        advice: What to do about it, where that is not to go on with the run.

    Raises:
        RunError: The disk is full, a quota or size limit is reached, or the disk fails.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        resume = f"What was written before is intact: make room, then go on with --resume {path}"
        raise RunError(f"{path}: {error.strerror}. {advice or resume}") from error
