"""Runs that hold a delta in place of a preset: opened on their base, and merged into ordinary ones."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kft import disk, run_directory
from kft.data import tokenise
from kft.errors import KftError, PresetError, RunError
from kft.models import finite, presets, provenance, saving, seeding
from kft.recipe import Recipe
from kft.run_directory import PRESET
from kft.training import deltas
from kft.transfer import application, strategies

if TYPE_CHECKING:
    from kft.tasks.task import Problem
    from kft.transfer.adapters import Adapter


def is_delta(path: Path) -> bool:
    """Whether the run in this directory holds a delta."""
    return (path / deltas.FILE).is_file() and not (path / PRESET).exists()


def opened(path: Path, recipe: Recipe, problem: Problem, base: str | None = None) -> tuple[Any, tuple[Adapter, ...]]:
    """The fine-tuned model of a run that holds a delta, in float32, and the adapters in it.

    Args:
        path: The directory of the run.
        recipe: Its knobs.
        problem: What it learnt.
        base: The pretrained model, where it is not where the recipe says.

    Raises:
        RunError: The base is not there or another one, or the file is damaged.
    """
    about, name = deltas.read_about(path / deltas.FILE), base or recipe.preset
    advice = f"Give the pretrained model that it was trained on: kft.load({str(path)!r}, base=...)."
    try:
        preset = presets.find(name)
        found = provenance.of(preset)
    except PresetError as error:
        raise RunError(f"{path}: its base cannot be opened: {error} {advice}") from None
    settings = {**recipe.adapter_settings, "lora_start": None}  # what it began with is in the delta
    try:
        with seeding.seeded(recipe.seed):
            model = problem.build.model(preset, max_length=tokenise.LONGEST, dtype="float32", seed=recipe.seed)
            transfer = application.apply(model, recipe.transfer, settings, seed=recipe.seed)
    except KftError as error:
        raise RunError(f"{path}: {name} cannot be its base: {error} {advice}") from None
    model.preprocessor.sequence_length = about.max_length  # as a fit does it
    changed = transfer.changed(model)
    # By what was read, not where: a base may have been moved from a hub to a directory, or have got another file.
    weights, preprocessor = deltas.sha256_of(model, changed), tokenise.fingerprint(model.preprocessor)
    if (weights, preprocessor) != (about.weights, about.preprocessor):
        what = "weights" if weights != about.weights else "tokenizer"
        differing = _difference(about.base, found)
        raise RunError(f"{path}: {name} is not the base that it was trained on: its {what} differ{differing}. {advice}")
    deltas.restore(path / deltas.FILE, model, changed)
    finite.require(model, str(path / deltas.FILE), RunError)
    return model, transfer.adapters


def merged(path: Path, recipe: Recipe, problem: Problem, base: str | None = None) -> tuple[Any, Sequence[Adapter]]:
    """The same with the adapters in its weights, and those adapters that no weights can stand for."""
    from kft.transfer import adapters

    model, found = opened(path, recipe, problem, base)
    return model, adapters.merge(found)


def merge(
    path: Path, out: Path, recipe: Recipe, problem: Problem, manifest: Mapping[str, Any], base: str | None = None
) -> None:
    """Writes a run that holds a preset in place of the delta, and all else as it is.

    Raises:
        RunError: The run holds no delta, or one that no weights can stand for; `out` is not empty or not writable.
    """
    if not is_delta(path):
        raise RunError(f"{path}: holds a whole preset already, in {path / PRESET}. There is nothing to merge.")
    with run_directory.claim(out):
        model, left = merged(path, recipe, problem, base)
        if left:
            raise RunError(
                f"{path}: {left[0].kind} cannot be merged: what they compute is not linear, so that no weights of the "
                "pretrained layers can stand for it. The run predicts and exports with them as they are."
            )
        with disk.refusals(out):
            for name in sorted(manifest["sha256"]):
                if name != deltas.FILE:
                    (out / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path / name, out / name)
            saving.save_task(model, out / PRESET)
            own = {"sha256", run_directory.OWN_SUM, "finished"}
            kept = {name: value for name, value in manifest.items() if name not in own}
            run_directory.finish(out, kept)


def write_peft(path: Path, out: Path, recipe: Recipe, problem: Problem, base: str | None = None) -> None:
    """Writes the LoRA of a run, and its head, as Hugging Face's PEFT does.

    Raises:
        RunError: The run is not one of LoRA alone, or has no such form; `out` is not empty or not writable.
    """
    from kft.transfer import peft

    if not is_delta(path) or [name for name, _ in strategies.parse(recipe.transfer)] != ["lora"]:
        raise RunError(
            f"{path}: transfer: found {recipe.transfer}, expected lora:RANK alone, which is what PEFT's files hold."
        )
    model, adapters = opened(path, recipe, problem, base)
    run_directory.refuse_occupied(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with disk.writing_folder(out, RunError) as folder:
        peft.write(folder, model, adapters, base or recipe.preset)


def _difference(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """The first file, or version, in which two bases differ, as the rest of a sentence."""
    name = next((name for name in [*expected, *found] if expected.get(name) != found.get(name)), None)
    if name is None:
        return ""
    there, here = (each.get(name, "missing")[:16] for each in (expected, found))
    return f" ({name} was {there}, and is {here} here)"
