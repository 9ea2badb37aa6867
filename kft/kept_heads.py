"""Heads of earlier tasks, kept in a run that was trained from them: each answers by the backbone as it is now.

`heads/NAME` holds what a run holds, with the weights of the head alone in place of a whole model.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
import safetensors.numpy
from typing_extensions import TypedDict

from kft import disk, run_directory, untrusted
from kft.data import tokenise
from kft.errors import RunError, did_you_mean, quoted
from kft.models import finite, saving, seeding
from kft.models.presets import Preset
from kft.models.program import without_names
from kft.recipe import Recipe
from kft.run_directory import LABELS, MANIFEST, METRICS, PRESET, RECIPE
from kft.schemas import Sha256
from kft.tasks.task import Labels, Problem
from kft.training import arrays, variables
from kft.transfer import adapters

FOLDER, FILE = "heads", "head.safetensors"
FORMAT = "kft head 1"
ADVICE = "The file is damaged, or of another version of kft. Fit again."
SUMS = ("sha256", run_directory.OWN_SUM, "finished")
"""What of a manifest is said anew wherever it is written."""


@dataclass(frozen=True)
class About:
    """What the metadata of the file of a head say.

    Attributes:
        tokenizer: The fingerprint of the tokenizer that it was trained with.
        backbone: That of the kind and the sizes of its backbone.
        max_length: Tokens of the longest row.
        source: The sha256 of the manifest of the run that first learnt the task.
    """

    tokenizer: str
    backbone: str
    max_length: int
    source: str


@pydantic.with_config(extra="forbid")
class _Written(TypedDict):
    tokenizer: Sha256
    backbone: Sha256
    max_length: Annotated[int, pydantic.Field(ge=1)]
    source: Sha256


@dataclass(frozen=True)
class Head:
    """The head of a task, apart from the backbone.

    Attributes:
        values: Its weights by name.
        about: What it needs of the model that it is put on.
    """

    values: Mapping[str, np.ndarray]
    about: About


def of_model(model: Any, source: str) -> Head:
    """The head of a KerasHub task model.

    Args:
        model: The model.
        source: The sha256 of the manifest of its run.
    """
    return Head(arrays.of(weights(model)), about(model, int(model.preprocessor.sequence_length), source))


def about(model: Any, max_length: int, source: str) -> About:
    """What a head of so many tokens at most needs of the model that it is put on: to be as this one."""
    tokenizer = tokenise.tokenizer_fingerprint(model.preprocessor.tokenizer)
    return About(tokenizer, _shape_of(model.backbone), max_length, source)


def refuse_other(head: Head, name: str, backbone: Any, tokenizer: Any) -> None:
    """Refuses a model that did not begin with the same pretrained model as that of a head.

    Raises:
        RunError: Its tokenizer is another one, or its backbone of another kind or size.
    """
    is_other_tokenizer = tokenise.tokenizer_fingerprint(tokenizer) != head.about.tokenizer
    if is_other_tokenizer or _shape_of(backbone) != head.about.backbone:
        what = "another tokenizer" if is_other_tokenizer else "a backbone of another kind or size"
        raise RunError(
            f"head {quoted(name)} was trained with {what} than this model has, so it cannot answer by it. Expected a "
            "run whose model began with the same pretrained model."
        )


def _shape_of(backbone: Any) -> str:
    """The sha256 of the kind of a backbone and of its settings but for precision."""
    settings = {name: value for name, value in without_names(backbone.get_config()).items() if name != "dtype"}
    return disk.json_sha256(
        {"kind": type(backbone).__name__, "settings": json.loads(json.dumps(settings, default=repr))}
    )


def weights(model: Any) -> dict[str, Any]:
    """The weights of a task model that are not its backbone's, by name."""
    own = {id(weight) for weight in model.weights} - {id(weight) for weight in model.backbone.weights}
    return {name: variable for name, variable in variables.named(model, None) if id(variable) in own}


def put_on(head: Head, name: str, problem: Problem, seed: int, backbone: Any, tokenizer: Any) -> Any:
    """A task model of a backbone and a head, which shares the layers of the backbone.

    Args:
        head: The head.
        name: What refusals call it.
        problem: What it learnt.
        seed: Of dropout.
        backbone: A KerasHub backbone.
        tokenizer: The one that goes with it.

    Raises:
        RunError: They are not those of a model that the head can be put on.
    """
    refuse_other(head, name, backbone, tokenizer)
    preset = Preset(name, "", type(backbone), ready=(backbone, tokenizer))
    dtype = backbone.dtype_policy.name
    with seeding.seeded(seed):
        model = problem.build.model(preset, max_length=tokenise.LONGEST, dtype=dtype, seed=seed)
    model.preprocessor.sequence_length = head.about.max_length
    own = weights(model)
    shapes, given = ({one: tuple(value.shape) for one, value in each.items()} for each in (own, head.values))
    if shapes != given:
        raise RunError(
            f"head {quoted(name)}: its weights are of other names or shapes than those of its task. {ADVICE}"
        )
    for one, value in head.values.items():
        own[one].assign(value)
    return model


def write(folder: Path, head: Head, recipe: Recipe, labels: Labels, manifest: Mapping[str, Any]) -> None:
    """Writes a head with what a run of its task holds beside the model.

    Args:
        folder: `heads/NAME` of a run; what is there is replaced.
        head: The head.
        recipe: Of the run that learnt the task, and so are `labels` and `manifest`.
        labels: The label spec.
        manifest: The manifest.

    Raises:
        RunError: The disk is full or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    with disk.refusals(folder):
        recipe.write(folder / RECIPE)
        disk.write_json(folder / LABELS, labels)
    content = {"format": FORMAT, "about": json.dumps(dataclasses.asdict(head.about))}
    with disk.writing(folder / FILE, RunError, "Make room, and fit again.") as partial:
        safetensors.numpy.save_file(dict(head.values), partial, metadata=content)
    kept = {one: value for one, value in manifest.items() if one not in SUMS}
    run_directory.write_manifest(folder, {**kept, "finished": True}, [RECIPE, LABELS, FILE])


def read(folder: Path) -> Head:
    """A head that was written.

    Raises:
        RunError: The file is damaged, or holds numbers that are not finite.
    """
    path = folder / FILE
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (safetensors.SafetensorError, OSError) as error:
        raise RunError(f"{path}: cannot be read ({error}). The file is damaged.") from None
    if metadata.get("format") != FORMAT or not all(np.isfinite(value).all() for value in values.values()):
        raise RunError(f"{path}: found no head of {FORMAT!r} with finite weights. {ADVICE}")
    return Head(values, About(**untrusted.parse_json(metadata.get("about", ""), _Written, str(path), RunError)))


def opened(folder: Path, problem: Problem, recipe: Recipe, model: Any) -> Any:
    """The task model of a kept head, on the backbone of a model of the run that it was kept in.

    Raises:
        RunError: The file is damaged, or does not go with the model.
    """
    backbone, tokenizer = model.backbone, model.preprocessor.tokenizer
    made = put_on(read(folder), folder.name, problem, recipe.seed, backbone, tokenizer)
    finite.require(made, str(folder / FILE), RunError)
    return made


def save(folder: Path, out: Path, problem: Problem, recipe: Recipe, manifest: Mapping[str, Any], of_run: Any) -> None:
    """Writes a kept head as a run of its own.

    Args:
        folder: The head.
        out: The directory of the new run.
        problem: What it learnt, and so are `recipe` and `manifest`.
        recipe: Its knobs.
        manifest: Its manifest.
        of_run: The model of the run that it was kept in, with its adapters merged.

    Raises:
        RunError: The model has adapters that cannot be merged; `out` is not empty or not writable.
    """
    if left := adapters.of_layers(of_run.backbone):
        raise RunError(
            f"{folder}: cannot be written as a run of its own: the model has {left[0].name}, which no weights of the "
            "pretrained layers can stand for. The head predicts and evaluates where it is."
        )
    with run_directory.claim(out):
        model = opened(folder, problem, recipe, of_run)
        with disk.refusals(out):
            for name in (RECIPE, LABELS):
                shutil.copyfile(folder / name, out / name)
            disk.write_json(out / METRICS, {"train_s": 0.0, "examples_per_s": 0.0, "peak_memory_mb": 0.0})
            saving.save_task(model, out / PRESET)
        run_directory.finish(out, {name: value for name, value in manifest.items() if name not in SUMS})


def names(run_dir: Path) -> list[str]:
    """The names of the heads that a run has kept."""
    return sorted(path.parent.name for path in (run_dir / FOLDER).glob(f"*/{MANIFEST}"))


def find(run_dir: Path, name: str) -> Path:
    """The folder of a head.

    Raises:
        RunError: The run has kept none of this name.
    """
    known = names(run_dir)
    if name not in known:
        raise RunError(
            f"{run_dir}: no head {quoted(name)} of an earlier task is kept here.{did_you_mean(name, known)} "
            f"Heads: {', '.join(known) or 'none'}."
        )
    return run_dir / FOLDER / name
