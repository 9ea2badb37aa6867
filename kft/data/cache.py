"""Token stores on disk: written once, found again by their key, checked before they are believed.

Several processes may fill and empty one cache at once: a store appears and disappears by one rename, so it is whole
where it has its name. Its files are compared with their checksums when it is opened, and what they hold with what a
store may hold, since others may have written them. A store that does not pass is made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from typing_extensions import TypedDict

from kft import disk, untrusted
from kft.data.store import Store, offsets_of, without_padding
from kft.errors import DataError, KftError
from kft.text.encoded import Encoded

CACHE_BYTES = 4 * 2**30
LEFT_AFTER_S = 60  # a process has made its folder and locked it long before
META = "meta.json"
ATTEMPTS = 5
BLOCK_BYTES = 4 * 2**20
Note = Callable[[str], None]
_NAME = re.compile(r"[A-Za-z0-9_]*")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Sum(NamedTuple):
    """What a file of a store is known by: its size in bytes and the CRC-32 of its content."""

    size: int = 0
    crc: int = 0

    def of(self, content: Any) -> Sum:
        """The sum with this content at the end."""
        return Sum(self.size + len(content), zlib.crc32(content, self.crc))


class Meta(TypedDict):
    """The content of meta.json: the names of features and groups, padding, and size and CRC-32 of each file."""

    features: list[str]
    groups: list[str]
    pad_values: dict[str, int]
    mask_names: list[str]
    sums: dict[str, list[int]]


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
) -> Store:
    """The store under `key`, written first if it is not there or damaged.

    Args:
        key: A hash of everything the ids depend on.
        slices: Gives the features of slices of texts, in their order.
        encoder: Has `pad_values`, `mask_names` and, if known, `num_tokens`, the size of its vocabulary.
        cache_dir: Folder of all stores; the least recently used ones leave once they pass 4 GiB together. None, or one
            that cannot be written: the store has files without names, which are gone when the process is.
        num_texts: How many texts there are, if known.
        note: Takes what the user should know.

    Raises:
        OSError: The disk is full or fails.
    """
    if cache_dir is None:
        return _unnamed(slices(), encoder)
    target = cache_dir / key
    is_damaged = False
    for _ in range(ATTEMPTS):  # one that other processes remove and write while it is opened is looked for again
        try:
            found = _open(target, encoder, num_texts)
        except FileNotFoundError:
            if not os.path.lexists(target):
                break
            continue
        except KftError as damaged:
            note(f"{damaged} The rows are tokenised again.")
            is_damaged = True
            break
        with contextlib.suppress(OSError):  # a cache may be read-only
            os.utime(target)
        return found
    else:
        note(f"{target}: a file of it is missing. The rows are tokenised again.")
        is_damaged = True
    if not disk.may_write_in(cache_dir):
        note(
            f"{cache_dir}: cannot be written, so tokens are not kept and the next fit makes them again. "
            "Set KFT_CACHE to a folder that can be written, or to none."
        )
        return _unnamed(slices(), encoder)
    partial = Path(tempfile.mkdtemp(prefix=disk.PARTIAL, dir=cache_dir))
    return _published(partial, target, slices(), encoder, is_damaged, note)


def _published(
    partial: Path, target: Path, slices: Iterator[Encoded], encoder: Any, is_damaged: bool, note: Note
) -> Store:
    """Writes a store under another name, and gives it its own unless another process has been faster."""
    with _locked(partial):
        try:
            found = _write(slices, encoder, lambda name: (partial / name).open("x+b"), partial)
            disk.flush_all(partial)
            if is_damaged:
                _remove(target)
            try:
                partial.rename(target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # else another process has been faster
                    note(f"{target}: tokens are not kept: {error.strerror}. The next fit makes them again.")
        finally:
            disk.remove(partial)
    _clean(target.parent, keep=target)
    return found


def _unnamed(slices: Iterator[Encoded], encoder: Any) -> Store:
    """A store in files without names: nothing is left of them however the process ends."""
    return _write(slices, encoder, lambda name: tempfile.TemporaryFile(prefix="kft-"), None)


def _write(slices: Iterator[Encoded], encoder: Any, made: Callable[[str], IO[bytes]], folder: Path | None) -> Store:
    """Writes the features of slices of texts into files that `made` makes, and maps them.

    Where there is a folder, the other arrays and meta.json go into it, so that the store can be opened again.
    """
    files: dict[str, IO[bytes]] = {}
    sums: dict[str, Sum] = {}
    all_lengths: dict[str, list[np.ndarray]] = {}
    all_texts = [np.zeros(0, np.int64)]
    with ExitStack() as open_files:
        num_texts = 0
        for encoded in slices:
            for name, values in without_padding(encoded).items():
                if name not in files:
                    files[name] = open_files.enter_context(made(_ids_file(name)))
                content = np.ascontiguousarray(values, np.int32).tobytes()
                files[name].write(content)
                sums[_ids_file(name)] = sums.get(_ids_file(name), Sum()).of(content)
            for group, lengths in encoded.lengths.items():
                all_lengths.setdefault(group, []).append(lengths)
            all_texts.append(encoded.texts + num_texts)
            num_texts += int(encoded.texts[-1]) + 1
        for file in files.values():
            file.flush()
        ids: dict[str, np.ndarray] = {name: np.memmap(file, np.int32, mode="r") for name, file in files.items()}
    texts = np.concatenate(all_texts)
    offsets = {group: offsets_of(np.concatenate(parts)) for group, parts in all_lengths.items()}
    if folder is not None:
        for name, values in {_texts_file(): texts, **{_offsets_file(g): o for g, o in offsets.items()}}.items():
            content = values.astype(np.int64).tobytes()
            (folder / name).write_bytes(content)
            sums[name] = Sum().of(content)
        meta = Meta(
            features=list(files),
            groups=list(all_lengths),
            pad_values=encoder.pad_values,
            mask_names=list(encoder.mask_names),
            sums={name: list(found) for name, found in sums.items()},
        )
        disk.write_json(folder / META, meta)
    return Store(ids, offsets, texts, encoder.pad_values, tuple(encoder.mask_names))


def _ids_file(name: str) -> str:
    return f"{name}.int32"


def _offsets_file(group: str) -> str:
    return f"{group}offsets.int64"


def _texts_file() -> str:
    return "texts.int64"


# -- opened and checked --------------------------------------------------------------------------------------------


def _open(folder: Path, encoder: Any, num_texts: int | None) -> Store:
    """A store that was written before.

    Raises:
        FileNotFoundError: It is not there.
        DataError: It is damaged, or not one of this encoder and these texts.
    """
    if not (folder / META).is_file():
        raise FileNotFoundError(folder)
    meta: Meta = untrusted.read_json(folder / META, Meta, DataError)
    if meta["pad_values"] != encoder.pad_values or tuple(meta["mask_names"]) != tuple(encoder.mask_names):
        raise DataError(f"{folder}: holds the tokens of another encoder.")
    names, groups = meta["features"], meta["groups"]
    if not names or not groups or not all(map(_NAME.fullmatch, [*names, *groups])):
        raise DataError(f"{folder / META}: its names are not those of a token store.")
    texts = _numbers(folder, _texts_file(), meta)
    offsets = {group: _numbers(folder, _offsets_file(group), meta) for group in groups}
    limit = getattr(encoder, "num_tokens", None)
    ids = {name: _mapped(folder, name, meta, limit if name.endswith("token_ids") else None) for name in names}
    store = Store(ids, offsets, texts, meta["pad_values"], tuple(meta["mask_names"]))
    if not _fits(store, num_texts):
        raise DataError(f"{folder}: its rows do not fit together.")
    return store


def _sum(meta: Meta, name: str) -> Sum:
    recorded = meta["sums"].get(name, [])
    return Sum(*recorded) if len(recorded) == 2 else Sum()


def _fits(store: Store, num_texts: int | None) -> bool:
    """Whether every row is inside the ids, and every text has its rows."""
    steps = np.diff(store.texts, prepend=-1)
    if not (len(store.texts) and steps[0] == 1 and ((steps == 0) | (steps == 1)).all()):
        return False
    if num_texts is not None and store.texts[-1] != num_texts - 1:
        return False
    ends = {name: int(store.offsets[store.group_of(name)][-1]) for name in store.ids}
    return all(len(values) == ends[name] for name, values in store.ids.items()) and all(
        len(offsets) == len(store.texts) + 1 and offsets[0] == 0 and (np.diff(offsets) > 0).all()
        for offsets in store.offsets.values()
    )


def _numbers(folder: Path, name: str, meta: Meta) -> np.ndarray:
    """The int64 values of a file, read into memory."""
    with _opened(folder / name, _sum(meta, name), 8) as file:
        content = file.read()
    if Sum().of(content) != _sum(meta, name):
        raise DataError(f"{folder / name}: damaged on disk, its checksum is not the recorded one.")
    return np.frombuffer(content, np.int64)


def _mapped(folder: Path, feature: str, meta: Meta, limit: int | None) -> np.ndarray:
    """The int32 values of a feature as a memory map, each read once to be checked."""
    path = folder / _ids_file(feature)
    expected, found = _sum(meta, path.name), Sum()
    buffer = memoryview(bytearray(min(BLOCK_BYTES, max(expected.size, 4))))
    with _opened(path, expected, 4) as file:
        # Read, not mapped, so that the pages do not count as memory of this process.
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            found = found.of(buffer[:count])
            values = np.frombuffer(buffer[: count - count % 4], np.int32)
            if limit is not None and len(values) and not 0 <= values.min() <= values.max() < limit:
                raise DataError(f"{path}: holds token ids that the vocabulary of {limit:,} does not have.")
        if found != expected:
            raise DataError(f"{path}: damaged on disk, its checksum is not the recorded one.")
        return np.memmap(file, np.int32, mode="r")


@contextlib.contextmanager
def _opened(path: Path, expected: Sum, item_bytes: int) -> Iterator[IO[bytes]]:
    """A regular file of the recorded size, which is not empty."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path}: missing or damaged ({error.strerror}).") from None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size != expected.size or not about.st_size:
            raise DataError(f"{path}: found {about.st_size:,} bytes, expected {expected.size:,}.")
        if about.st_size % item_bytes:
            raise DataError(f"{path}: found {about.st_size:,} bytes, expected a multiple of {item_bytes}.")
        yield file


# -- room ----------------------------------------------------------------------------------------------------------


def _clean(cache_dir: Path, keep: Path) -> None:
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
        if sum(sizes.values()) <= CACHE_BYTES:
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
