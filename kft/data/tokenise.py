"""Tables to token stores: tokenised once, kept on disk, found again by the hash of everything the ids depend on."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

import kft
from kft import disk
from kft.data import cache, store
from kft.data.cache import Note
from kft.data.store import Store
from kft.data.table import Table
from kft.text.encoded import Encoded
from kft.text.tokens import Encoder

NO_CACHE = "none"
READ_BY_TOKENS = ("text", "tasks", "data", "models")  # the folders of kft whose code tokens depend on
LIBRARIES = ("tensorflow", "tensorflow-text", "keras", "keras-hub", "tokenizers")
SHORTEST, LONGEST, COVERED, SAMPLE = 128, 512, 0.995, 2000


def cache_dir() -> Path | None:
    """Where kft keeps what it can make again: `$KFT_CACHE`, or `~/.cache/kft`; None where `$KFT_CACHE` is `none`."""
    asked = os.environ.get("KFT_CACHE")
    return None if asked == NO_CACHE else Path(asked or Path.home() / ".cache" / "kft")


def tokenise(
    table: Table, text_columns: Sequence[str], encoder: Encoder, tokenizer_key: str, note: Note = cache.say
) -> Store:
    """The token store of a table's texts, from the cache if it is there; `note` takes what the user should know."""
    columns = [table.rows[name] for name in text_columns]
    content = Table(table.rows.select(list(text_columns)), table.source).fingerprint()
    parts = [code_version(), encoder.name, encoder.max_length, tokenizer_key, content, len(columns)]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def slices() -> Iterator[Encoded]:
        return (encoder(texts) for texts in store.sliced(columns, len(table)))

    folder = cache_dir()
    return cache.cached(key, slices, encoder, folder and folder / "tokens", num_texts=len(table), note=note)


@functools.cache
def code_version() -> str:
    """The sha256 of the code that tokens depend on, kft's own and the versions of the libraries."""
    root = Path(kft.__file__).parent
    digest = hashlib.sha256(kft.__version__.encode())
    for path in sorted(path for folder in READ_BY_TOKENS for path in (root / folder).glob("*.py")):
        digest.update(path.read_bytes())
    for name in LIBRARIES:
        digest.update(f"{name} {metadata.version(name)}\n".encode())
    return digest.hexdigest()


def fingerprint(preprocessor: Any) -> str:
    """The sha256 of a preprocessor's settings, its tokenizer's files included."""
    return _fingerprint(preprocessor, preprocessor.tokenizer)


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """The sha256 of a tokenizer's settings and files, whatever preprocessor it is in."""
    return _fingerprint(tokenizer, tokenizer)


def _fingerprint(serialized: Any, tokenizer: Any) -> str:
    settings = _without_names(keras.saving.serialize_keras_object(serialized))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    advice = "Free some space, or set TMPDIR to a folder on a larger disk."
    with disk.refusals(tempfile.gettempdir(), advice), tempfile.TemporaryDirectory(prefix="kft-") as folder:
        tokenizer.save_assets(folder)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _without_names(config: Any) -> Any:
    """A Keras config without the layers' names, which count up from layer to layer in a process."""
    if isinstance(config, dict):
        return {key: _without_names(value) for key, value in config.items() if key != "name"}
    return [_without_names(value) for value in config] if isinstance(config, list | tuple) else config


def length_that_covers(table: Table, text_columns: Sequence[str], preprocessor: Any, features: Any, limit: int) -> int:
    """The `max_length` of `"auto"`: a multiple of 32 that holds 99.5% of the rows whole, from 128 to `limit`.

    Measured on 2,000 rows at even distances. `limit` is 512 or what the backbone has positions for.
    """
    step = max(1, len(table) // SAMPLE)
    sample = table.take(np.arange(0, len(table), step))
    before = preprocessor.sequence_length
    preprocessor.sequence_length = limit
    encoder = Encoder(preprocessor, len(text_columns), features)
    slices = store.sliced([sample.rows[name] for name in text_columns], len(sample))
    lengths = [length for texts in slices for length in encoder(texts).lengths.values()]
    preprocessor.sequence_length = before
    if not encoder.has_mask:  # such a backbone pads every row to the full length
        return min(SHORTEST, limit)
    covering = int(np.quantile(np.concatenate(lengths), COVERED))
    return min(limit, max(SHORTEST, -(-covering // 32) * 32))
