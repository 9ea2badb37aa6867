"""Regular files of a known size, read without waiting, and written whole or not at all."""

import os
import stat
import tempfile
from pathlib import Path


def read(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file.

    A pipe or a device is refused before it is read: a pipe would wait for ever, a device would never end.

    Raises:
        OSError: It cannot be read, is no regular file, or is longer than `max_bytes`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise OSError(f"longer than {max_bytes:,} bytes")
    return content


def write(path: Path, text: str) -> None:
    """Replaces a file: a reader sees the old content or the new, never a part, even if the power fails."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # The server in the container runs as another user, and mkstemp makes the file private.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        flush(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def flush(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
