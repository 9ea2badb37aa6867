"""What must be the same for a fit to be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import keras_hub

import kft
from kft import run_directory
from kft.data import tokenise
from kft.errors import RunError, quoted

if TYPE_CHECKING:
    from kft.job import Job

ROWS = ("columns", "readings", "labels", "data")
"""Fields of a job's identity that come of the rows, and of how they are read and split."""
LEFT_OUT = ("seconds", "memory_mb", "notes", "blocks", "stages", "prefix_cache")
"""What of a forecast is no part of a job's identity: it differs by the machine, or follows from the recipe."""


def of(job: Job) -> dict[str, Any]:
    """The versions, rows, knobs and devices of a job, as its manifest has them."""
    earlier = {one.name: one.identity for one in job.earlier}
    return {
        **({"earlier": earlier} if earlier else {}),
        "kft": kft.__version__,
        "keras": keras.__version__,
        "keras_hub": keras_hub.__version__,
        "backend": keras.config.backend(),
        "task": job.data.task.name,
        "columns": dict(job.data.columns),
        "readings": job.data.readings,
        "texts": job.data.text_columns,
        "seed": job.recipe.seed,
        "preset": job.recipe.preset,
        "base": dict(job.base),
        "labels": job.data.labels,
        "data": job.data.fingerprints(),
        "preprocessor": tokenise.fingerprint(job.model.preprocessor),
        "devices": str(job.trainer.devices),
        "forecast": {k: v for k, v in asdict(job.forecast).items() if k not in LEFT_OUT},
    }


def refuse_changes(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compares what a run was begun with and what it would be resumed with.

    Raises:
        RunError: Names the first field that differs.
    """
    for name, value in now.items():
        if name not in before:
            raise RunError(
                f"{path / run_directory.MANIFEST}: says nothing of {name}, as the kft that began this fit did not "
                "record it. Resume with that version, or fit anew."
            )
        was = before[name]
        if isinstance(value, dict) and isinstance(was, dict) and value != was:
            key = next((k for k in [*value, *was] if value.get(k) != was.get(k)), None)
            name, was, value = f"{name}.{key}", was.get(key), value.get(key)
        if value != was:
            cure = "Resume with the same, or fit anew"
            if name.partition(".")[0] in ROWS:
                cure = "Resume with the rows and the kft that it was begun with, or fit anew into another --out"
            raise RunError(f"{path}: {name} was {quoted(was)}, now {quoted(value)}. {cure}.")
