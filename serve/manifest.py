"""What shows that a version is a whole export of kft: the sha256 of each of its files, in `assets.extra/kft.json`.

It finds damaged, incomplete and foreign exports. It is no signature: who can write a folder can write its manifest.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from kft.errors import ServeError
from serve import files

CONTRACT = "assets.extra/kft.json"
DIGESTS = "sha256"
MAX_CONTRACT_BYTES = 64 * 2**20
MAX_FILES = 10_000
WHAT_TO_DO = (
    "A SavedModel is a program that can read and write files. "
    "Export the run again, or serve it all the same with --any-saved-model."
)


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file of a version but the contract itself, by its path in the folder.

    Raises:
        ServeError: Something in the folder is neither a regular file nor a folder, or there are too many files.
    """
    found = {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name != CONTRACT:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(sorted(found.items()))


def verify(folder: Path) -> None:
    """Compares every file of a version with the manifest that the export has written.

    Raises:
        ServeError: There is no manifest, or a file is missing, damaged or not named in it.
    """
    try:
        contract = json.loads(files.read(folder / CONTRACT, max_bytes=MAX_CONTRACT_BYTES))
        expected = contract[DIGESTS]
        if not isinstance(expected, dict):
            raise TypeError(f"{DIGESTS} is no object")
    except FileNotFoundError:
        raise ServeError(f"{folder} is no export of kft: it has no {CONTRACT}. {WHAT_TO_DO}") from None
    except KeyError:
        raise ServeError(f"{folder / CONTRACT} names no sha256 of the files. {WHAT_TO_DO}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ServeError(f"{folder / CONTRACT} cannot be read: {error}. {WHAT_TO_DO}") from None
    found = digests(folder)
    for name in sorted({*expected, *found}):
        if name not in found:
            raise ServeError(f"{folder / name} is missing; the export is damaged. Export the run again.")
        if name not in expected:
            raise ServeError(f"{folder / name} is no part of the export. {WHAT_TO_DO}")
        if expected[name] != found[name]:
            raise ServeError(f"{folder / name}: its sha256 is not the recorded one. {WHAT_TO_DO}")


def is_ours(folder: Path) -> bool:
    """Whether an export of kft has written a version."""
    return (folder / CONTRACT).is_file()


def _files(folder: Path) -> Iterator[Path]:
    """The files in a folder and in those below it, none of them a link."""
    waiting, num_files = [folder], 0
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                num_files += 1
                if num_files > MAX_FILES:
                    raise ServeError(f"{folder} holds more than {MAX_FILES:,} files. {WHAT_TO_DO}")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)
                else:
                    raise ServeError(f"{entry.path} is a link or no regular file. {WHAT_TO_DO}")
