"""A directory taken by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

NAME = ".lock"
"""The file whose lock is the directory's. It stays when the lock is released: to remove it would let two processes in,
one with the old file and one with a new one."""
FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Taken(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Takes the lock of a directory, which is made if need be; a directory that is new is removed if it stays empty.

    Raises:
        Taken: Another process holds it.
        OSError: The directory or its lock cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    while True:
        is_new = True
        try:
            folder.mkdir()
        except FileExistsError:
            is_new = False
        # Not through a link, so that nothing elsewhere is made or opened.
        try:
            descriptor = os.open(folder / NAME, FLAGS, 0o644)
        except FileNotFoundError:  # whoever had made the directory has removed it
            if folder.is_symlink():  # to nothing
                raise
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Taken from None
            if not _is_at(descriptor, folder / NAME):  # likewise
                continue
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    if is_new and os.listdir(folder) == [NAME]:
                        os.unlink(folder / NAME)
                        folder.rmdir()
            return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file that is open is the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except OSError:
        return False
