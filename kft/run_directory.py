"""The directory of a run: taken for one fit, begun, finished, and checked when it is opened."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kft import disk, documents, lock, schemas, untrusted, writable
from kft.errors import RecipeError, RunError
from kft.recipe import Recipe

RECIPE, LABELS, METRICS, MANIFEST, PRESET, REPORT = (
    "recipe.json",
    "labels.json",
    "metrics.json",
    "manifest.json",
    "preset",
    "report.html",
)
OWN_SUM = "manifest_sha256"


def verify(path: Path, manifest: dict[str, Any], expected: list[str]) -> None:
    """Compares every file that the manifest names with its sha256.

    Args:
        path: The run's directory.
        manifest: Its manifest.
        expected: Files that it must name.

    Raises:
        RunError: Names the file that is missing or damaged.
    """
    for name in expected:
        if name not in manifest["sha256"]:
            raise RunError(f"{path / MANIFEST}: has no sha256 of {name}; the run is damaged. Fit again.")
    for name, digest in manifest["sha256"].items():
        if not (path / name).is_file():
            raise RunError(f"{path / name}: missing; the run is damaged. Restore the file or fit again.")
        if disk.sha256(path / name) != digest:
            raise RunError(
                f"{path / name}: its sha256 is not the recorded one; damaged on disk. Restore it or fit again."
            )


def read_recipe(path: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        untrusted.read_bytes(path / RECIPE, RunError, max_bytes=documents.MAX_BYTES)  # not through a link
        return Recipe.read(path / RECIPE, is_recorded=True)
    except RecipeError as error:
        raise RunError(f"{error} The file is damaged.") from None


def read_unfinished(path: Path) -> dict[str, Any]:
    """The manifest of a fit to be resumed, the files that it names intact.

    Raises:
        RunError: The fit has finished, never began, or a file is damaged.
    """
    manifest = read_manifest(path)
    if manifest["finished"]:
        from kft.training import checkpoints

        shutil.rmtree(path / checkpoints.FOLDER, ignore_errors=True)  # left by a kill at the very end
        raise RunError(f"{path}: this fit has finished. Open it with kft.load({str(path)!r}).")
    verify(path, manifest, [RECIPE])
    return manifest


@contextlib.contextmanager
def claim(path: Path, *, resume: bool = False) -> Iterator[Path]:
    """Takes a run directory for one fit: made if need be, locked, and removed again if nothing was written.

    Raises:
        RunError: It holds a run or other files already, another fit is at work in it, it holds anything but regular
            files and folders, or it cannot be written.
    """
    with taken(path, _refuse_nothing_to_resume if resume else refuse_occupied, work="fit", option="--out"):
        yield path


@contextlib.contextmanager
def taken(folder: Path, refuse: Callable[[Path], None], *, work: str, option: str) -> Iterator[None]:
    """Takes a directory for one process: checked, locked, and rid of what writes that were killed have left.

    Args:
        folder: The directory.
        refuse: Raises where its content is not what may be there; called before and after it is locked.
        work: What another process may be doing there.
        option: What names the directory.

    Raises:
        RunError: Another process has it, it holds anything but regular files and folders, or it cannot be written.
    """
    refuse(folder)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.held(folder))
        except lock.Taken:
            raise RunError(
                f"{folder}: another {work} is at work here. Wait for it, or choose another {option}."
            ) from None
        except OSError as error:
            why = error.strerror or error
            raise RunError(f"{folder}: cannot be written: {why}. Choose another {option}.") from None
        untrusted.check_folder(folder, RunError)
        refuse(folder)  # now that no other process can write here
        disk.remove_partial(folder)
        yield


def refuse_occupied(path: Path) -> None:
    """Refuses a directory for a new fit that holds a run or other files.

    Those that a fit leaves that was killed before it began are none.

    Raises:
        RunError: It does, or no directory can have its name.
    """
    writable.require_name(path, RunError)
    if not path.is_dir():
        if os.path.lexists(path):
            raise RunError(f"{path} exists and is no folder. Choose another --out.")
        return
    with disk.refusals(path, "Choose another --out.", all_errors=True):
        names = {name for name in os.listdir(path) if not name.startswith(disk.PARTIAL)}
    if not names - {lock.NAME} or names == {lock.NAME, RECIPE}:
        return
    if RECIPE in names:
        raise RunError(f"{path} already holds a run. Choose another --out, or go on with --resume {path}.")
    raise RunError(f"{path} exists and is not empty. Choose another --out.")


def _refuse_nothing_to_resume(path: Path) -> None:
    writable.require_name(path, RunError)
    if (path / RECIPE).is_file() and os.path.lexists(path / MANIFEST):
        return
    if path.is_dir() and os.path.lexists(path / lock.NAME):
        raise RunError(
            f"{path}: the fit here was stopped before it began (no {MANIFEST}). Start it again with --out {path}."
        )
    raise RunError(f"{path}: no run to resume is here (no {RECIPE if path.is_dir() else 'such folder'}).")


def free_name(stem: str, root: Path = Path("runs")) -> Path:
    """The first `runs/<stem>-<number>` that does not exist."""
    number = 1
    while (root / f"{stem}-{number}").exists():
        number += 1
    return root / f"{stem}-{number}"


def begin(path: Path, recipe: Recipe, identity: dict[str, Any]) -> None:
    """Writes what a resumed fit has to find, the manifest last."""
    with disk.refusals(path):
        recipe.write(path / RECIPE)
        write_manifest(path, {**identity, "finished": False}, [RECIPE])
        disk.flush(path.parent)


def finish(path: Path, manifest: dict[str, Any]) -> None:
    """Marks a run as finished, with the sha256 of every file a loaded run reads. Its checkpoints have served."""
    from kft.training import checkpoints

    disk.remove_partial(path)
    aside = {"tensorboard", checkpoints.FOLDER, MANIFEST, lock.NAME}
    files = [p.relative_to(path) for p in sorted(path.rglob("*")) if p.is_file()]
    write_manifest(path, {**manifest, "finished": True}, [str(p) for p in files if p.parts[0] not in aside])
    shutil.rmtree(path / checkpoints.FOLDER, ignore_errors=True)


def write_manifest(path: Path, content: dict[str, Any], names: list[str]) -> None:
    """The manifest, with the sha256 of these files and of itself; all that it names is on the disk before it is."""
    disk.flush_all(path)
    content = {**content, "sha256": {name: disk.sha256(path / name) for name in names}}
    disk.write_json(path / MANIFEST, {**content, OWN_SUM: disk.json_sha256(content)})


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        RunError: It is missing or damaged.
    """
    where = path / MANIFEST
    content = untrusted.read_json(where, dict[str, Any], RunError)
    if disk.json_sha256({k: v for k, v in content.items() if k != OWN_SUM}) != content.get(OWN_SUM):
        raise RunError(f"{where}: its content is not what was written; damaged on disk. Fit again.")
    return untrusted.fitted(content, schemas.Manifest, str(where), RunError)
