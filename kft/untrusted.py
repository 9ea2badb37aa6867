"""The one gate to directories and files that others may have written: they are data, read within limits.

Every directory that kft opens (preset, run, study) passes `check_folder`; every JSON in it is read by `read_json` with
a schema. A name that stands in a file is never used as a path: kft builds the names of all that it writes.
"""

from __future__ import annotations

import errno
import functools
import math
import os
import stat
from pathlib import Path
from typing import Any

import pydantic
import pydantic_core

from kft.errors import KftError, quoted

MAX_FILES = 100_000
MAX_FOLDER_BYTES = 2**40
MAX_DEPTH = 16
MAX_JSON_BYTES = 32 * 2**20
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
ErrorKind = type[KftError]


def check_folder(
    path: Path,
    error: ErrorKind,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_FOLDER_BYTES,
    links_within: Path | None = None,
) -> None:
    """Refuses a directory that holds anything but regular files and folders, or more than one may hold.

    The path itself may be a link, since the user has named it; nothing under it may be one. A directory that does not
    exist is left to whoever opens it.

    Args:
        path: The directory.
        error: What is raised.
        max_files: Files and folders in it, at all depths.
        max_bytes: Their sizes together, holes included.
        links_within: Links to regular files in this folder are let through, as in the caches of hubs.

    Raises:
        KftError: Of the kind `error`: names the first entry that is refused, and says why.
    """
    num_files = num_bytes = 0
    waiting = [(Path(path), 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = [(Path(folder, entry.name), entry.stat(follow_symlinks=False)) for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            if depth == 0:
                return
            raise error(f"{folder}: changed while it was read. Run again when nothing else writes there.") from None
        except OSError as refused:
            raise error(f"{folder}: cannot be read: {refused.strerror}.") from None
        for name, about in found:
            num_files += 1
            num_bytes += about.st_size
            if stat.S_ISDIR(about.st_mode):
                waiting.append((name, depth + 1))
            elif not stat.S_ISREG(about.st_mode) and not _is_link_within(name, about, links_within):
                raise error(
                    f"{name}: found {_kind(about)}, expected regular files and folders only. "
                    "Put the file itself in its place, or remove it."
                )
        if num_files > max_files:
            raise error(f"{path}: holds more than {max_files:,} files; expected a directory that kft can have written.")
        if num_bytes > max_bytes:
            raise error(f"{path}: holds more than {max_bytes:,} bytes; expected a directory that kft can have written.")
        if depth >= MAX_DEPTH and any(stat.S_ISDIR(about.st_mode) for _, about in found):
            raise error(f"{folder}: is {depth} folders deep; expected {MAX_DEPTH} at most.")


def read_bytes(path: Path, error: ErrorKind, *, max_bytes: int, is_given: bool = False) -> bytes:
    """The content of a regular file: never waits for a pipe, and never reads more than `max_bytes`.

    Args:
        path: The file.
        error: What is raised.
        max_bytes: The most that it may hold.
        is_given: Whether the user named this very file, so that it may be a link.

    Raises:
        KftError: Of the kind `error`: it is missing, no regular file, too large or not readable.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if is_given else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as refused:
        why = "it is a symbolic link" if refused.errno == errno.ELOOP else refused.strerror
        raise error(f"{path}: cannot be read ({why}).") from None
    except ValueError:  # a NUL in the name
        raise error(f"{quoted(str(path))}: is no name of a file.") from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise error(f"{path}: found {_kind(about)}, expected a regular file.")
        if about.st_size > max_bytes:
            raise error(f"{path}: found {about.st_size:,} bytes, expected {max_bytes:,} at most.")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(max_bytes + 1)
    except OSError as refused:
        raise error(f"{path}: cannot be read: {refused.strerror}.") from None
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise error(f"{path}: found more than {max_bytes:,} bytes, expected that at most.")
    return content


def read_text(path: Path, error: ErrorKind, *, max_bytes: int, is_given: bool = False) -> str:
    """Likewise, as UTF-8 text."""
    content = read_bytes(path, error, max_bytes=max_bytes, is_given=is_given)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as refused:
        raise error(
            f"{path}: byte 0x{content[refused.start]:02x} at byte offset {refused.start} is not UTF-8."
        ) from None


def read_json(
    path: Path, schema: Any, error: ErrorKind, *, max_bytes: int = MAX_JSON_BYTES, is_nan_null: bool = False
) -> Any:
    """A JSON file that fits a schema.

    Args:
        path: The file.
        schema: Any type that pydantic understands: a model, a dataclass, a TypedDict, `dict[str, JsonValue]`.
        error: What is raised.
        max_bytes: The most that it may hold.
        is_nan_null: Read NaN and infinite numbers as null; they are refused otherwise.

    Returns:
        An instance of the schema.

    Raises:
        KftError: Of the kind `error`, in one line: the file is missing, no regular file, too large, not JSON, nested
            deeper than 200 levels, or another value than expected stands somewhere in it.
    """
    return parse_json(read_bytes(path, error, max_bytes=max_bytes), schema, str(path), error, is_nan_null=is_nan_null)


def read_json_lines(
    path: Path, schema: Any, error: ErrorKind, *, max_bytes: int = 2**30, max_line_bytes: int = 2**20
) -> list[Any]:
    """The values of a file of JSON lines; an empty one is left out, and so is a last one without its end."""
    found = []
    for number, line in enumerate(read_bytes(path, error, max_bytes=max_bytes).split(b"\n")[:-1], 1):
        if len(line) > max_line_bytes:
            raise error(f"{path}, line {number}: found {len(line):,} bytes, expected {max_line_bytes:,} at most.")
        if line:
            found.append(parse_json(line, schema, f"{path}, line {number}", error))
    return found


def parse_json(content: bytes | str, schema: Any, where: str, error: ErrorKind, *, is_nan_null: bool = False) -> Any:
    """JSON text as an instance of a schema; `where` begins the message of a refusal."""
    try:
        value = _finite(pydantic_core.from_json(content, allow_inf_nan=is_nan_null), is_nan_null)
    except (ValueError, RecursionError) as refused:
        raise error(f"{where}: not valid JSON ({refused}).") from None
    return fitted(value, schema, where, error)


def fitted(value: Any, schema: Any, where: str, error: ErrorKind) -> Any:
    """A value that was read as an instance of a schema, without any conversion of types.

    Raises:
        KftError: Of the kind `error`: names the first place that does not fit, what was found and what was expected.
    """
    try:
        return _adapter(schema).validate_python(value, strict=True)
    except pydantic.ValidationError as refused:
        problem = refused.errors(include_url=False)[0]
        place = ".".join(quoted(part) if isinstance(part, str) else str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        place = f"{place}: " if place else ""
        raise error(f"{where}: {place}found {quoted(problem['input'])}: {message}. The file is damaged.") from None


@functools.lru_cache(maxsize=64)
def _adapter(schema: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(schema)


def _finite(value: Any, is_nan_null: bool) -> Any:
    """A value read from JSON, whose numbers are finite: 1e999 is valid JSON, and becomes infinite."""
    if isinstance(value, dict):
        return {name: _finite(part, is_nan_null) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part, is_nan_null) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        if is_nan_null:
            return None
        raise ValueError(f"found {value}, expected finite numbers")
    return value


def _is_link_within(path: Path, about: os.stat_result, folder: Path | None) -> bool:
    if folder is None or not stat.S_ISLNK(about.st_mode):
        return False
    target = Path(os.path.realpath(path))
    return target.is_relative_to(os.path.realpath(folder)) and target.is_file()


def _kind(about: os.stat_result) -> str:
    return KINDS.get(stat.S_IFMT(about.st_mode), "neither a file nor a folder")
