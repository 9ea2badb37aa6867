"""Deltas: the weights in which a fine-tuned model differs from the pretrained one, in one file of a run.

`delta.safetensors` holds head, adapters and whatever else has trained. What it is a delta to, its metadata say: the
sha256 of each file of the base, and that of the weights which have stayed as they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import pydantic
import safetensors.numpy
from typing_extensions import TypedDict

from kft import disk, untrusted
from kft.errors import RunError
from kft.models import saving
from kft.training import arrays, variables

FILE = "delta.safetensors"
FORMAT = "kft delta 1"
ADVICE = "The file is damaged, or of another version of kft. Fit again."


@dataclass(frozen=True)
class About:
    """What the metadata of a delta say.

    Attributes:
        base: Where the pretrained weights are from, as `kft.models.provenance` has it.
        weights: The sha256 of those that have not changed; see `sha256_of`.
        preprocessor: The fingerprint of what turns texts into tokens.
        max_length: Tokens of the longest row.
        transfer: The strategy.
        settings: The knobs of adapters.
        roles: The roles of the layers with adapters, by path.
    """

    base: Mapping[str, str]
    weights: str
    preprocessor: str
    max_length: int
    transfer: str
    settings: Mapping[str, str | float | None]
    roles: Mapping[str, str]


@pydantic.with_config(extra="forbid")
class _Written(TypedDict):
    base: dict[str, str]
    weights: str
    preprocessor: str
    max_length: Annotated[int, pydantic.Field(ge=1)]
    transfer: str
    settings: dict[str, str | float | None]
    roles: dict[str, str]


def save(path: Path, model: Any, changed: Sequence[Any], about: About) -> None:
    """Writes the delta of a model.

    Args:
        path: The file.
        model: A KerasHub task.
        changed: Its weights that are others than those of the pretrained model.
        about: Its metadata.

    Raises:
        TrainingError: A weight is not finite. Nothing is written.
        RunError: The disk is full or not writable.
    """
    saving.refuse_not_finite(model, path)
    content = {"format": FORMAT, "about": json.dumps(asdict(about))}
    advice = f"What was written before is intact: make room, then go on with --resume {path.parent}"
    with disk.writing(path, RunError, advice) as partial:
        safetensors.numpy.save_file(arrays.of(_named(model, changed)), partial, metadata=content)


def read_about(path: Path) -> About:
    """The metadata of a delta.

    Raises:
        RunError: The file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise RunError(f"{path}: cannot be read ({error}). The file is damaged.") from None
    if metadata.get("format") != FORMAT:
        raise RunError(f"{path}: its metadata do not say {FORMAT!r}. {ADVICE}")
    return About(**untrusted.parse_json(metadata.get("about", ""), _Written, str(path), RunError))


def restore(path: Path, model: Any, changed: Sequence[Any]) -> None:
    """Puts a delta into a model that was made as the one it was saved of.

    Raises:
        RunError: The file is damaged, or of another model.
    """
    own = _named(model, changed)
    for name, array in arrays.read(path, own, path, ADVICE).items():
        own[name].assign(array)


def sha256_of(model: Any, changed: Sequence[Any]) -> str:
    """The sha256 of names and numbers of a backbone's weights that have not changed, wherever they were read from."""
    digest, kept = hashlib.sha256(), {id(weight) for weight in model.backbone.weights} - {id(each) for each in changed}
    for name, variable in variables.named(model, None):
        if id(variable) in kept:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable), np.float32).data)
    return digest.hexdigest()


def _named(model: Any, changed: Sequence[Any]) -> dict[str, Any]:
    ids = {id(variable) for variable in changed}
    return {name: variable for name, variable in variables.named(model, None) if id(variable) in ids}
