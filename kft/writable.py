"""What is checked of a path before the work whose result goes there: its name, the right to write, the room."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from kft.disk import advice_on, refusals
from kft.errors import KftError, RunError

_NAME_BYTES, _PATH_BYTES = 255, 4095


def require_writable(path: str | Path, error: type[KftError] = RunError, unlike: Iterable[str | Path] = ()) -> None:
    """Checks that `path` can be written to, before the work is done whose result goes there. Writes nothing.

    Args:
        path: A file to be written or replaced.
        error: What is raised if it cannot be.
        unlike: Files that are read, which writing must not replace, whatever links lead to them.

    Raises:
        error: The folder is missing or may not be written to, the name is too long or a folder's, or the file is one
            of `unlike`.
    """
    path = Path(path)
    require_name(path, error)
    with refusals(path, "Choose another path.", error, all_errors=True):
        if path.is_dir():
            raise error(f"{path}: is a folder, expected the name of a file. Choose another path.")
        for other in unlike:
            if path.is_file() and Path(other).exists() and path.samefile(other):
                raise error(f"{path}: is the file that is read ({other}), and would be lost. Choose another path.")
        if path.exists() and not os.access(path, os.W_OK):
            raise error(f"{path}: may not be written to. Choose another path.")
        if path.exists() and not path.is_file():  # such as /dev/stdout
            return
        folder = path.resolve().parent
        if not folder.is_dir():
            raise error(f"{path}: there is no folder {folder}. Make it first, or choose another path.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise error(f"{path}: the folder {folder} may not be written to. Choose another path.")


def may_write_in(folder: Path) -> bool:
    """Whether a folder, made if need be, may be written in.

    Raises:
        OSError: The disk is full or fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def require_name(path: str | Path, error: type[KftError] = RunError) -> None:
    """Checks that no part of a path is longer than file systems allow, nor the whole.

    Raises:
        error: One is, or the path holds a NUL character.
    """
    path = Path(path)
    if "\0" in str(path):
        raise error(f"{str(path)[:80]!r}: holds a NUL character, which no name may. Choose another path.")
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > _NAME_BYTES or len(os.fsencode(path.absolute())) > _PATH_BYTES:
        limits = f"expected names of at most {_NAME_BYTES} bytes, {_PATH_BYTES:,} in all"
        raise error(f"{str(path)[:80]}…: the name is too long, {limits}. Choose a shorter one.")


def require_space(path: Path, num_bytes: int, error: type[KftError] = RunError, advice: str = "") -> None:
    """Checks that the disk of `path`, a folder that exists, has this much space left.

    Raises:
        error: It has not.
    """
    free = shutil.disk_usage(path).free
    if free < num_bytes:
        found = f"{free / 2**20:,.0f} MB of disk are free, and {num_bytes / 2**20:,.0f} MB are needed."
        raise error(f"{path}: {found} {advice or advice_on(path)}")
