"""A run as a SavedModel: strings in, answers out, in the signatures that TensorFlow Serving defines.

The model is rebuilt on the TensorFlow backend in a process of its own, whatever backend trained it, and loaded again in
another that knows nothing of kft; only when that one answers as `predict` does is the version given its number.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kft import disk
from kft.errors import ExportError
from kft.export import gates
from serve import bundle

if TYPE_CHECKING:
    from kft.run import Run


def export(run: Run, model_dir: Path) -> Path:
    """Writes the next version of `run` under `model_dir` and returns the version directory.

    Raises:
        ExportError: The model could not be built, or one of the gates found a difference. Nothing is left behind.
    """
    why = run.task.unserved(run.vocabulary) if run.task.unserved is not None else None
    if why is not None:
        raise ExportError(f"{run.path}: {why}")
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".tmp-", dir=model_dir))
    except OSError as error:
        raise ExportError(f"{model_dir}: cannot be written: {error.strerror}. Choose another path.") from None
    try:
        partial.chmod(0o755)
        probe = partial / "probe.json"
        texts = gates.probe_texts(len(run.text_columns))
        probe.write_text(
            json.dumps({"inputs": run.text_columns, "texts": texts, "answers": _expected(run, texts)}), encoding="utf-8"
        )
        _in_a_process("kft.export.build", run.path.resolve(), partial)
        difference = json.loads(_in_a_process("kft.export.gates", partial, probe))["largest_difference"]
        contract = partial / "assets.extra" / "kft.json"
        contract.write_text(
            json.dumps({**_contract(run), "largest_difference": difference}, indent=2), encoding="utf-8"
        )
        probe.unlink()
        for path in [*partial.rglob("*"), partial]:
            disk.flush(path)
        version = _publish(partial, model_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    bundle.update(model_dir.parent)
    return version


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
        "labels": run.vocabulary.get("labels"),
        "metrics": {name: value for name, value in run.metrics.items() if name in ("validation", "test")},
    }


def _in_a_process(module: str, *arguments: Path) -> str:
    """Runs a module of ours on the TensorFlow backend in a fresh process, and returns what it printed last."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    package_root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise ExportError(f"{module} failed; nothing was exported.\n{tail}")
    return done.stdout.strip().splitlines()[-1]


def _publish(partial: Path, model_dir: Path) -> Path:
    """Renames a whole export to the next free version number; TF Serving sees it in one step."""
    while True:
        versions = [int(p.name) for p in model_dir.iterdir() if p.name.isdigit()]
        target = model_dir / str(max(versions, default=0) + 1)
        try:
            partial.rename(target)
        except OSError:
            if not target.exists():
                raise
        else:
            return target
