"""Models that begin with random weights, and a tokenizer trained on the texts of the fit."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kft import disk, writable
from kft.errors import RecipeError
from kft.models import saving, seeding
from kft.models.presets import SCRATCH, Preset
from kft.text import vocabularies

SIZES = {"num_layers": 4, "hidden_dim": 256, "num_heads": 4, "vocabulary_size": 8000}
FAMILIES = tuple(SCRATCH)
TOKENIZERS = {"scratch:bert": vocabularies.word_piece, "scratch:gpt2": vocabularies.byte_pair}


def begin(
    name: str,
    texts: Iterable[str],
    fingerprint: str,
    cache_dir: Path | None,
    *,
    max_length: int,
    seed: int,
    **sizes: int | None,
) -> Preset:
    """A preset with random weights for these texts, kept under a hash of all it depends on.

    Args:
        name: One of `FAMILIES`.
        texts: What the tokenizer is trained on; read once, if the preset is not there yet.
        fingerprint: The hash of the texts.
        cache_dir: Where such presets are kept, in the folder `scratch`; None, or one that cannot be written: in a
            temporary folder until the process ends.
        max_length: Positions of the backbone.
        seed: Of its weights.
        **sizes: Those of `SIZES`; None for the default. The feed-forward layers are four times as wide.

    Raises:
        RecipeError: The width is no multiple of the heads.
    """
    chosen: dict[str, int] = {key: sizes.get(key) or default for key, default in SIZES.items()}
    if chosen["hidden_dim"] % chosen["num_heads"]:
        raise RecipeError(
            f"hidden_dim: found {chosen['hidden_dim']}, expected a multiple of num_heads, which is "
            f"{chosen['num_heads']}."
        )
    settings: dict[str, Any] = {**chosen, "max_length": max_length, "seed": seed, "texts": fingerprint}
    key = hashlib.sha256(json.dumps([name, settings], sort_keys=True).encode()).hexdigest()
    target = _place(cache_dir, key)
    if not (target / "config.json").is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=disk.PARTIAL, dir=target.parent))
        try:
            _write(name, texts, partial, max_length, seed, chosen)
            disk.flush_all(partial)
            with contextlib.suppress(OSError):  # another process may have put the same preset there first
                partial.rename(target)
        finally:
            disk.remove(partial)
    with contextlib.suppress(OSError):  # a cache may be read-only
        os.utime(target)
    return Preset(name, str(target), SCRATCH[name])


def _place(cache_dir: Path | None, key: str) -> Path:
    """Where such a preset is or is to be written."""
    if cache_dir is not None:
        target = cache_dir / "scratch" / key
        if (target / "config.json").is_file() or writable.may_write_in(target.parent):
            return target
    return _of_this_process() / key


@functools.cache
def _of_this_process() -> Path:
    """A folder that is removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="kft-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _write(name: str, texts: Iterable[str], folder: Path, max_length: int, seed: int, sizes: dict[str, int]) -> None:
    tokenizer = TOKENIZERS[name](texts, sizes["vocabulary_size"])
    seeding.set_seed(seed)
    backbone = SCRATCH[name](
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=sizes["num_layers"],
        num_heads=sizes["num_heads"],
        hidden_dim=sizes["hidden_dim"],
        intermediate_dim=4 * sizes["hidden_dim"],
        max_sequence_length=max_length,
        dtype="float32",
    )
    saving.save_to_preset(folder, backbone, tokenizer)
