"""The token store: token ids of many rows on disk, read through a memory map.

Rows are tokenised once, in slices, and written one after the other without padding; memory stays flat however many
there are. A store is kept under a key of tokenizer, texts and length, so a second fit on the same rows reads it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SLICE_ROWS = 1024
CACHE_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Store:
    """Token features of `(rows,)` rows of different lengths.

    Attributes:
        ids: For each feature, all rows' values one after the other: `(tokens,)` int32, memory-mapped.
        offsets: Where each row begins, and the end of the last: `(rows + 1,)` int64.
        pad_values: For each input of the backbone, the value of padding; masks included.
        mask_names: The inputs that are padding masks.
    """

    ids: dict[str, np.ndarray]
    offsets: np.ndarray
    pad_values: dict[str, int]
    mask_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each row: `(rows,)`."""
        return np.diff(self.offsets)

    def batch(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """The features of these rows, padded to `length`: each `(len(rows), length)`."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        features = {}
        for name, values in self.ids.items():
            padded = np.full((len(rows), length), self.pad_values.get(name, 0), np.int32)
            for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
                padded[i, : end - start] = values[start:end]
            features[name] = padded
        # Integers, as the backbones take them: mirrored training averages the first batch, which bools do not allow.
        mask = (np.arange(length)[None, :] < (ends - starts)[:, None]).astype(np.int32)
        return {**features, **{name: mask for name in self.mask_names}}


def cached(
    key: str, slices: Callable[[], Iterator[tuple[dict[str, np.ndarray], np.ndarray]]], encoder: Any, cache_dir: Path
) -> Store:
    """The store under `key`, written first if it is not there.

    Args:
        key: A hash of everything the ids depend on.
        slices: Gives the features of slices of rows, each `(rows, tokens)`, and their lengths, in row order.
        encoder: Has `pad_values` and `mask_names`.
        cache_dir: Folder of all stores; the least recently used ones leave once they pass 4 GiB together.
    """
    target = cache_dir / key
    if not (target / "meta.json").is_file():
        cache_dir.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=cache_dir))
        try:
            _write(partial, slices(), encoder)
            if target.exists():
                shutil.rmtree(target)
            partial.rename(target)
        except OSError:
            # Another process may have put the same store there first.
            if not (target / "meta.json").is_file():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _forget_oldest(cache_dir, keep=target)
    os.utime(target)
    return _open(target)


def _write(folder: Path, slices: Iterator[tuple[dict[str, np.ndarray], np.ndarray]], encoder: Any) -> None:
    files: dict[str, Any] = {}
    all_lengths = [np.zeros(0, np.int64)]
    try:
        for features, lengths in slices:
            keep = np.arange(next(iter(features.values())).shape[1])[None, :] < lengths[:, None]
            for name, values in features.items():
                if name not in files:
                    files[name] = (folder / f"{name}.int32").open("wb")
                files[name].write(np.ascontiguousarray(values[keep], np.int32).tobytes())
            all_lengths.append(lengths.astype(np.int64))
    finally:
        for file in files.values():
            file.close()
    np.save(folder / "offsets.npy", np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(all_lengths))]))
    meta = {"features": list(files), "pad_values": encoder.pad_values, "mask_names": encoder.mask_names}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _open(folder: Path) -> Store:
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    ids: dict[str, np.ndarray] = {
        name: np.memmap(folder / f"{name}.int32", np.int32, mode="r") for name in meta["features"]
    }
    return Store(ids, np.load(folder / "offsets.npy"), meta["pad_values"], tuple(meta["mask_names"]))


def _forget_oldest(cache_dir: Path, keep: Path) -> None:
    """Removes the least recently used stores until all together are below the limit. Open maps stay readable."""
    stores = sorted((p for p in cache_dir.iterdir() if p.is_dir() and p != keep), key=lambda p: p.stat().st_mtime)
    sizes = {p: sum(f.stat().st_size for f in p.iterdir()) for p in [*stores, keep]}
    while stores and sum(sizes.values()) > CACHE_BYTES:
        oldest = stores.pop(0)
        shutil.rmtree(oldest, ignore_errors=True)
        del sizes[oldest]


def in_memory(features: dict[str, np.ndarray], lengths: np.ndarray, encoder: Any) -> Store:
    """A store of a few rows, such as those of one predict call, that never touches the disk."""
    keep = np.arange(next(iter(features.values())).shape[1])[None, :] < lengths[:, None]
    ids = {name: values[keep] for name, values in features.items()}
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    return Store(ids, offsets, encoder.pad_values, tuple(encoder.mask_names))


def sliced(columns: Sequence[Any], num_rows: int) -> Iterator[list[list[str]]]:
    """Slices of text columns, each a list of strings for each column.

    >>> [[len(texts) for texts in part] for part in sliced([["a", "b"]], 2)]
    [[2]]
    """
    for start in range(0, num_rows, SLICE_ROWS):
        yield [_strings(column, start, min(start + SLICE_ROWS, num_rows)) for column in columns]


def _strings(column: Any, start: int, end: int) -> list[str]:
    part = column[start:end]
    return part.to_pylist() if hasattr(part, "to_pylist") else list(part)
