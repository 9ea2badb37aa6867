"""Files and folders that are written whole or not at all, and known by their sha256.

Everything goes to a temporary name beside its place first, is flushed to the disk and renamed. So a full disk, a kill
or a power cut leaves what was there before, or all of the new content.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kft.errors import KftError, RunError

PARTIAL = ".partial-"
"""What the names of unfinished files and folders begin with; one that a kill left may be removed."""
REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE),
)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
# HDF5: "errno = 28"; Rust: "os error 28"; Arrow: "[errno 28]".
_ERRNO = re.compile(r"\b(?:errno\s*=?|os error)\s*(\d+)", re.IGNORECASE)


# -- written whole or not at all -----------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(path: str | Path, error: type[KftError] = RunError, advice: str = "") -> Iterator[Path]:
    """A new empty file beside `path` to write to. It is flushed and renamed to `path` at the end, or removed.

    A link at `path` is replaced, never followed. A file that was there keeps its permissions.

    Args:
        path: Where the content goes.
        error: What is raised if that is refused.
        advice: What to do then.

    Raises:
        error: The path cannot be written, or the disk is full. What was there before is intact.
    """
    path = Path(path)
    partial = _beside(path)
    with refusals(path, advice or advice_on(path), error, all_errors=True):
        os.close(os.open(partial, _NEW_FILE, 0o666))
        try:
            yield partial
            if path.is_file() and not path.is_symlink():
                partial.chmod(stat.S_IMODE(path.stat().st_mode))
            flush(partial)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        flush(path.parent)


@contextlib.contextmanager
def writing_folder(path: str | Path, error: type[KftError] = RunError, advice: str = "") -> Iterator[Path]:
    """A new empty folder beside `path` to write into, flushed and renamed likewise with all that is in it.

    A folder that is at `path` is removed once the new one stands there.

    Raises:
        error: As for `writing`.
    """
    path = Path(path)
    partial, replaced = _beside(path), _beside(path)
    with refusals(path, advice or advice_on(path), error, all_errors=True):
        partial.mkdir()
        try:
            yield partial
            flush_all(partial)
            if os.path.lexists(path):
                path.rename(replaced)
            try:
                partial.rename(path)
            except OSError:
                if os.path.lexists(replaced):
                    replaced.rename(path)
                raise
        finally:
            remove(partial)
        flush(path.parent)
        remove(replaced)


def write_text(path: str | Path, text: str, error: type[KftError] = RunError, *, errors: str = "strict") -> None:
    """Writes a UTF-8 file through `writing`; `errors` says what becomes of lone surrogates, as for `open`."""
    with writing(path, error) as partial, partial.open("w", encoding="utf-8", newline="\n", errors=errors) as file:
        file.write(text)


def write_output(path: str | Path, text: str, error: type[KftError] = RunError) -> None:
    """Writes a file that the user named: through links, and straight into what is no file, such as `/dev/stdout`.

    Lone surrogates, which UTF-8 does not have, are escaped as in JSON.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        with refusals(path, "", error, all_errors=True), path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    else:
        write_text(path.resolve(), text, error, errors="backslashreplace")


def write_json(path: str | Path, value: Any, error: type[KftError] = RunError) -> None:
    """Writes a JSON file through `writing`.

    Raises:
        error: It cannot be written, or a number in it is not finite, which JSON does not have.
    """
    place = _not_finite(value)
    if place is not None:
        raise error(f"{path}: {place} is not a finite number, and JSON holds only such. Nothing was written.")
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", error)


def _not_finite(value: Any, name: str = "") -> str | None:
    """The place of the first number that is infinite or NaN, as in `test.f1`."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{name or 'the value'} ({value})"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = (_not_finite(part, f"{name}.{key}" if name else str(key)) for key, part in items)
    return next((place for place in found if place is not None), None)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with all that is in it, if it is there; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def remove_partial(folder: Path) -> None:
    """Removes what writes that were killed have left in a folder. No other process may be writing in it."""
    for path in folder.glob(f"{PARTIAL}*"):
        remove(path)


def _beside(path: Path) -> Path:
    # As short whatever the name is, so that a long name has room.
    return path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")


# -- checked before the work ---------------------------------------------------------------------------------------


# -- on the disk ---------------------------------------------------------------------------------------------------


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
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems flush files, but know no flushing of folders.
        if error.errno != errno.EINVAL or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)


def flush_all(folder: Path) -> None:
    """Waits until a folder and all that is in it are on the disk, the innermost first."""
    for path in sorted(folder.rglob("*"), reverse=True):
        flush(path)
    flush(folder)


# -- what the disk refuses -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def refusals(
    path: str | Path, advice: str | None = None, error: type[KftError] = RunError, *, all_errors: bool = False
) -> Iterator[None]:
    """Turns what the disk refuses while something is written under `path` into one clear error.

    Args:
        path: A run, or a file or folder of another kind.
        advice: What to do about it, where that is not to go on with the run.
        error: What is raised.
        all_errors: Whether any OSError is meant, or only those of a disk that is full, failing or not writable.

    Raises:
        error: The disk is full, a quota or size limit is reached, the disk fails, or the path may not be written to.
    """
    try:
        yield
    except KftError:
        raise
    except Exception as refused:
        why = refusal(refused)
        if why is None and all_errors and isinstance(refused, OSError):
            why = refused.strerror or str(refused)
        if why is None:
            raise
        resume = f"What was written before is intact: make room, then go on with --resume {path}"
        raise error(f"{path}: {why}. {resume if advice is None else advice}".rstrip()) from refused


def refusal(error: BaseException) -> str | None:
    """Why the disk refused, where that is what an exception is about; of any library, such as HDF5 and safetensors.

    >>> refusal(OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"))
    'No space left on device'
    >>> refusal(FileNotFoundError(2, "No such file or directory")), refusal(ValueError("errno = x"))
    (None, None)
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        found = _ERRNO.search(str(error))
        number = int(found[1]) if found else None
    return os.strerror(number) if number in REFUSALS else None


def advice_on(path: Path) -> str:
    """What to do where a path cannot be written."""
    return f"What was there before is intact. Make room or allow writing in {path.parent}, then try again."
