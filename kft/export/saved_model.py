"""A run as a SavedModel: strings in, answers out, in the signatures that TensorFlow Serving defines.

The model is rebuilt on the TensorFlow backend in a process of its own, whatever backend trained it, and loaded again in
another that knows nothing of kft; only when that one answers as `predict` does is the version given its number.
Whatever can refuse an export does so before that; what goes wrong after it is a warning.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kft import disk, lock, writable
from kft.errors import ExportError, ServeError
from kft.export import gates
from serve import bundle, folders, manifest

if TYPE_CHECKING:
    from kft.run import Run


PARTIAL = ".tmp-"
LAST_VERSION = ".last-version"
LOCK_POLL_S = 0.2
CHOOSE = "Choose another path."


def export(run: Run, model_dir: Path) -> Path:
    """Writes the next version of `run` under `model_dir` and returns the version directory.

    A `model_dir` in a folder named `saved_models` has its place in `serve/models.config` beside that folder, which is
    brought up to date; for any other, nothing outside `model_dir` is written.

    Raises:
        ExportError: The place or the name cannot be used, the model could not be built, or one of the gates found a
            difference. Nothing is left behind.
    """
    why = run.problem.predictor.unserved
    if why is not None:
        raise ExportError(f"{run.path}: {why}")
    _check_place(model_dir)
    texts = gates.probe_texts(len(run.text_columns))
    probe = {"inputs": run.text_columns, "texts": texts, "answers": _expected(run, texts)}
    with disk.refusals(model_dir, CHOOSE, ExportError, all_errors=True), _alone(model_dir):
        for leftover in model_dir.glob(f"{PARTIAL}*"):
            disk.remove(leftover)
        _next_version(model_dir)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=model_dir))
        try:
            _fill(partial, run, probe)
            version = _publish(partial, model_dir)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    _announce(model_dir)
    return version


def _check_place(model_dir: Path) -> None:
    """Refuses what would be refused only once the version is there: its name, and the config that names it."""
    writable.require_name(model_dir, ExportError)
    place = model_dir.resolve()
    above = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "may not be written to" if above.is_dir() else "is not a folder"
        raise ExportError(f"{model_dir}: cannot be written: {above} {why}. {CHOOSE}")
    problem = folders.name_problem(place.name)
    if problem is not None:
        raise ExportError(f"{model_dir}: {problem}. {CHOOSE}")
    if bundle.belongs_to(place.parent):
        try:
            bundle.check(place.parent)
        except ServeError as error:
            raise ExportError(f"{error} Nothing was exported.") from None


@contextlib.contextmanager
def _alone(model_dir: Path) -> Iterator[None]:
    """Holds the lock of the model's folder; what is unfinished in it then belongs to nobody."""
    with contextlib.ExitStack() as stack:
        is_waiting = False
        while True:
            try:
                stack.enter_context(lock.held(model_dir))
                break
            except lock.Taken:
                if not is_waiting:
                    _warn(f"another export into {model_dir} is at work; waiting for it")
                is_waiting = True
                time.sleep(LOCK_POLL_S)
        yield


def _fill(partial: Path, run: Run, probe: dict[str, Any]) -> None:
    """Makes the whole version in a folder: the SavedModel, through its gates, and the contract with all digests."""
    partial.chmod(0o755)
    probe_file = partial / "probe.json"
    probe_file.write_text(json.dumps(probe), encoding="utf-8")
    base = [run.base] if run.base else []
    _in_a_process("kft.export.child", "kft.export.build", run.path.resolve(), partial, *base)
    found = _in_a_process("kft.export.child", "kft.export.gates", partial, probe_file)
    probe_file.unlink()
    contract = {**_contract(run), **json.loads(found), manifest.DIGESTS: manifest.digests(partial)}
    (partial / manifest.CONTRACT).write_text(json.dumps(contract, indent=2), encoding="utf-8")
    disk.flush_all(partial)


def _announce(model_dir: Path) -> None:
    """Brings `models.config` up to date. The version is published, so that what goes wrong is only said."""
    models = model_dir.resolve().parent
    try:
        if bundle.belongs_to(models):
            bundle.update(models)
            for note in folders.find(models).notes:
                _warn(note)
        else:
            name = f"{models.name}/" if models.name else "its folder"
            _warn(f"no serve/models.config was written, since {name} is not named {bundle.MODELS_NAME}/")
    except (ServeError, OSError) as error:
        _warn(f"the version is published, but models.config is as it was: {error}")


def _warn(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _expected(run: Run, texts: list[list[str]]) -> dict[str, Any]:
    """What predict answers to the probe, as the arrays that the model must give back.

    The texts go past the checks of a user's rows, as those do that a served model is asked.
    """
    import pyarrow as pa

    from kft.data.table import Table

    columns = {
        name: pa.array(column, pa.large_string()) for name, *column in zip(run.text_columns, *texts, strict=True)
    }
    answers = run.answers(Table(pa.table(columns), "probe"))
    return {name: gates.as_text(values.tolist()) for name, values in answers.items()}


def _contract(run: Run) -> dict[str, Any]:
    """What a server may show of the model; TensorFlow Serving does not read it."""
    return {
        "kft": run.manifest["kft"],
        "task": run.task.name,
        "preset": run.recipe.preset,
        "inputs": run.text_columns,
        "labels": run.labels.get("labels"),
        "metrics": {name: value for name, value in run.metrics.items() if name in ("validation", "test")},
    }


def _in_a_process(module: str, *arguments: str | Path) -> str:
    """Runs a module of ours on the TensorFlow backend in a fresh process, and returns what it printed last."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    package_root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    ours, held = os.pipe()  # `kft.export.child` ends when `held` is closed, by us or by our end
    try:
        done = subprocess.run(
            # Without -P the user's folder comes first on the path of modules: a `keras.py` there would run.
            [sys.executable, "-P", "-m", module, *map(str, arguments)],
            env=environment,
            stdin=ours,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(held)
    if done.returncode:
        what = next((name for name in map(str, arguments) if name.startswith("kft.")), module)
        raise ExportError(f"{what} failed: {_reason(done)}. Nothing was exported.")
    return done.stdout.strip().splitlines()[-1]


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Why a child failed: the signal that ended it, or the last line that it wrote, which names the error."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"it was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return next(reversed(done.stderr.strip().splitlines()), f"exit code {done.returncode}").strip().rstrip(".")


def _next_version(model_dir: Path) -> int:
    """The number after the highest that was ever in the folder, as far as is known.

    A server keeps a version that it has loaded, so that a number stands for one model for ever.
    """
    path = model_dir / LAST_VERSION
    last = folders.version_number(path.read_text(encoding="utf-8")[:32]) if path.is_file() else 0
    if last is None:
        raise ExportError(f"{path}: expected the number of the last version. Correct or remove it.")
    found = [number for child in model_dir.iterdir() if (number := folders.version_number(child.name)) is not None]
    number = max([0, last, *found]) + 1
    if number > folders.MAX_VERSION:
        raise ExportError(f"{model_dir}: version {number - 1} is the last that 64 bits hold. {CHOOSE}")
    return number


def _publish(partial: Path, model_dir: Path) -> Path:
    """Renames a whole export to the next version number; TF Serving sees it in one step."""
    number = _next_version(model_dir)
    # First of all, so that no power cut lets a number be given twice.
    disk.write_text(model_dir / LAST_VERSION, f"{number}\n", ExportError)
    target = model_dir / str(number)
    partial.rename(target)
    disk.flush(model_dir)
    return target
