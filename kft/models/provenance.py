"""Which pretrained weights a fit began with: what they came from, and what they were."""

from __future__ import annotations

from pathlib import Path

from kft import disk
from kft.accelerate.internals import get_file
from kft.errors import PresetError
from kft.models.presets import HUBS, SCRATCH, Preset

READ = (".json", ".txt", ".model", ".spm", ".proto", ".h5", ".safetensors", ".bin")
"""The endings of files that KerasHub reads configurations, vocabularies and weights from."""


def of(preset: Preset) -> dict[str, str]:
    """Names to values that are other ones where the weights are, or the tokenizer is.

    Of a directory the sha256 of each file that could be read; of a hub or a built-in preset handle, version and the
    sha256 of its configuration; of a model begun anew the hash of its texts and settings.

    Raises:
        PresetError: A file cannot be read.
    """
    if preset.name in SCRATCH:
        return {"handle": preset.name, "version": Path(preset.handle).name}
    try:
        folder = Path(preset.handle)
        if not preset.handle.startswith(HUBS) and folder.is_dir():
            files = [*folder.iterdir(), *folder.glob("assets/**/*")]
            found = {str(path.relative_to(folder)): path for path in files if path.suffix in READ and path.is_file()}
            return {name: disk.sha256(path) for name, path in sorted(found.items())}
        config = Path(get_file(preset.handle, "config.json"))
        return {"handle": preset.handle, "version": config.parent.name, "config.json": disk.sha256(config)}
    except OSError as error:
        raise PresetError(f"preset {preset.name!r}: cannot be read: {error.strerror or error}.") from None
