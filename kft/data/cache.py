"""A cache of token stores: written once, found again by their key, checked before they are used.

Several processes may fill and empty one cache at once: a store appears and disappears by one rename, so it is whole
where it has its name. A store whose files do not pass `store_files.read` is made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kft import disk, writable
from kft.data import store_files
from kft.data.store import Store
from kft.errors import KftError
from kft.text.encoded import Encoded

CACHE_BYTES = 4 * 2**30
LEFT_AFTER_S = 60  # a process has made its folder and locked it long before
ATTEMPTS = 5
Note = Callable[[str], None]


def say(note: str) -> None:
    """A note on standard error."""
    print(f"note: {note}", file=sys.stderr)


def cached(
    key: str,
    slices: Callable[[], Iterator[Encoded]],
    encoder: Any,
    cache_dir: Path | None,
    *,
    num_texts: int | None = None,
    note: Note = say,
    content: str = "tokens",
    limit_bytes: int | None = None,
) -> Store:
    """The store under `key`, written first if it is not there or damaged.

    Args:
        key: A hash of everything the features depend on.
        slices: Gives the features of slices of texts, in their order.
        encoder: Has `pad_values`, `mask_names` and, if known, `num_tokens`, the size of its vocabulary.
        cache_dir: Folder of all stores; the least recently used ones leave once they pass the limit together. None, or
            one that cannot be written: the store has files without names, which are gone when the process is.
        num_texts: How many texts there are, if known.
        note: Takes what the user should know.
        content: What messages call the features.
        limit_bytes: How much all stores of the folder may take; by default 4 GiB.

    Raises:
        OSError: The disk is full or fails.
        ValueError: Slices whose features differ in name, dtype or trailing shape.
    """
    if cache_dir is None:
        return _unnamed(slices(), encoder)
    target = cache_dir / key
    is_damaged = False
    for _ in range(ATTEMPTS):  # one that other processes remove and write while it is opened is looked for again
        try:
            found = store_files.read(target, encoder, num_texts)
        except FileNotFoundError:
            if not os.path.lexists(target):
                break
            continue
        except KftError as damaged:
            note(f"{damaged} The {content} are made again.")
            is_damaged = True
            break
        with contextlib.suppress(OSError):  # a cache may be read-only
            os.utime(target)
        return found
    else:
        note(f"{target}: a file of it is missing. The {content} are made again.")
        is_damaged = True
    if not writable.may_write_in(cache_dir):
        note(
            f"{cache_dir}: cannot be written, so {content} are not kept and the next fit makes them again. "
            "Set KFT_CACHE to a folder that can be written, or to none."
        )
        return _unnamed(slices(), encoder)
    partial = Path(tempfile.mkdtemp(prefix=disk.PARTIAL, dir=cache_dir))
    with _locked(partial):
        try:
            written = store_files.write(slices(), encoder, lambda name: (partial / name).open("x+b"), partial)
            disk.flush_all(partial)
            if is_damaged:
                _remove(target)
            failure = _published(partial, target)
        finally:
            disk.remove(partial)
    if failure is not None:
        note(f"{target}: {content} are not kept: {failure}. The next fit makes them again.")
    _clean(cache_dir, keep=target, limit_bytes=CACHE_BYTES if limit_bytes is None else limit_bytes)
    return written


def _published(partial: Path, target: Path) -> str | None:
    """Gives a whole store its name, unless another process has been faster; returns why that was not possible."""
    try:
        partial.rename(target)
    except OSError as error:
        return None if error.errno in (errno.EEXIST, errno.ENOTEMPTY) else error.strerror
    return None


def _unnamed(slices: Iterator[Encoded], encoder: Any) -> Store:
    """A store in files without names: nothing is left of them however the process ends."""
    return store_files.write(slices, encoder, lambda name: tempfile.TemporaryFile(prefix="kft-"), None)


def _clean(cache_dir: Path, keep: Path, limit_bytes: int) -> None:
    """Removes what killed processes left, and the least recently used stores until all are below the limit.

    Open maps stay readable. Other processes may do the same at once.
    """
    ages: dict[Path, float] = {}
    sizes: dict[Path, int] = {}
    with os.scandir(cache_dir) as entries:
        folders = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    for path in folders:
        with contextlib.suppress(OSError):
            ages[path] = path.stat().st_mtime
            if path.name.startswith(disk.PARTIAL):
                if time.time() - ages[path] > LEFT_AFTER_S:
                    _remove_if_left(path)
            else:
                sizes[path] = sum(file.stat().st_size for file in path.iterdir())
    for path in sorted((path for path in sizes if path != keep), key=lambda path: ages[path]):
        if sum(sizes.values()) <= limit_bytes:
            break
        _remove(path)
        del sizes[path]


def _remove(store: Path) -> None:
    """Removes a store in one step for those who look for it."""
    aside = store.with_name(f"{disk.PARTIAL}{secrets.token_hex(8)}")
    with contextlib.suppress(OSError):
        store.rename(aside)
        disk.remove(aside)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of an unfinished folder, by which other processes know that somebody is at work in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_if_left(partial: Path) -> None:
    """Removes an unfinished folder whose process has ended."""
    with contextlib.suppress(OSError):
        descriptor = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            disk.remove(partial)
        finally:
            os.close(descriptor)
