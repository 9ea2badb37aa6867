"""The prefix cache: what the frozen part of a network gives, computed once for each row and kept on disk.

It is found again by the weights, the tokens and the precision that it comes of. Epochs then run what is above the
frontier (`kft/transfer/prefix.py`), in batches that are padded from what is kept as they are from tokens.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

import kft
from kft import disk
from kft.accelerate import passes
from kft.data import batches, cache, feed, tokenise
from kft.data.batches import Batch
from kft.data.cache import Note
from kft.data.store import Store
from kft.data.store_files import DTYPES
from kft.models.program import without_names
from kft.text.encoded import Encoded
from kft.training import inference
from kft.training.devices import Devices
from kft.transfer import prefix, prefix_trial
from kft.transfer.prefix import Cut

FOLDER = "prefix"
LIMIT_BYTES = 16 * 2**30
"""How much the outputs of all fits may take on disk: the least recently used leave, and one fit may have no more."""
IN_MEMORY_BYTES = 256 * 2**20
"""Up to here those of a part of the rows are read into memory; more are mapped, and read as they are needed."""
BATCH_ROWS, SLICE_TOKENS, SLICE_ROWS = 64, 2**16, 2**14
"""Rows of a batch, tokens and rows of a slice: the same in each fit, so that outputs computed again are the same."""
READ_BY_OUTPUTS = ("accelerate", "models", "transfer", "training")  # the folders of kft whose code outputs depend on
LIBRARIES = ("keras", "keras-hub", "tensorflow", "jax", "torch")
CONTENT = "outputs of the frozen layers"


@dataclass(frozen=True)
class PrefixCache:
    """Computes and keeps the tensors that cross the frontier.

    Attributes:
        cut: Says which they are.
        network: From token features to them; of tokens as `(rows * tokens, …)`.
        whole: The inputs of the network that is cut.
        upper: The inputs of the network above the frontier.
        devices: Where they are computed.
        weights: The sha256 of the weights and operations that they come of.
    """

    cut: Cut
    network: keras.Model
    whole: frozenset[str]
    upper: frozenset[str]
    devices: Devices
    weights: str

    def num_bytes(self, store: Store) -> int:
        """What the tensors of the rows of a store take."""
        total = 0
        for name, kept in self.cut.kept.items():
            count = int(store.offsets[store.group_of(name)][-1]) if kept.is_of_tokens else len(store)
            total += count * int(np.prod(kept.shape, dtype=np.int64)) * DTYPES[kept.value.dtype].itemsize
        return total

    def text(self, stores: Sequence[Store]) -> str:
        """What is kept, what that saves and what it costs, in one line."""
        sizes = [self.num_bytes(store) for store in stores]
        folder = tokenise.cache_dir()
        where = "in temporary files" if folder is None else f"in {folder / FOLDER}"
        if sum(sizes) and max(sizes) <= IN_MEMORY_BYTES:
            where += " and in memory"
        return (
            f"outputs of the frozen layers are computed once and kept, {_size(sum(sizes))} {where}: each epoch "
            f"is spared {self.cut.saved:.0%} of the products of a forward pass"
        )

    def store(self, store: Store, note: Note) -> Store:
        """The rows of a store with the tensors that are kept, in place of what they come of.

        Args:
            store: Token features.
            note: Takes what the user should know.

        Raises:
            OutOfMemory: Not even one row for each device fits.
        """
        folder = tokenise.cache_dir()
        advice = "Free some space, set KFT_CACHE and TMPDIR to folders on a larger disk, or cache_features to false."
        with disk.refusals(folder or tempfile.gettempdir(), advice):
            made = cache.cached(
                self.key(store),
                lambda: self._slices(store),
                _Written(),
                folder and folder / FOLDER,
                num_texts=len(store),
                note=note,
                content=CONTENT,
                limit_bytes=LIMIT_BYTES,
            )
        read = np.array if self.num_bytes(store) <= IN_MEMORY_BYTES else np.asarray
        left = {name for name in store.names if name in self.upper or name not in self.whole}
        return replace(
            store,
            features={
                **{name: values for name, values in store.features.items() if name in left},
                **{name: read(values) for name, values in made.features.items()},
            },
            row_features={
                **{name: values for name, values in store.row_features.items() if name in left},
                **{name: read(values) for name, values in made.row_features.items()},
            },
        )

    def key(self, store: Store) -> str:
        """The sha256 of all that the tensors of these rows depend on."""
        digest = hashlib.sha256(
            json.dumps(
                [_code_version(), str(self.devices), self.weights, BATCH_ROWS, SLICE_TOKENS, SLICE_ROWS]
            ).encode()
        )
        names = sorted(self.network.input)
        arrays: dict[str, Any] = {f"offsets {group}": offsets for group, offsets in store.offsets.items()}
        arrays |= {n: values for n, values in {**store.features, **store.row_features}.items() if n in names}
        for name, values in arrays.items():
            digest.update(f"{name} {values.dtype} {values.shape} {float(store.pad_values.get(name, 0))}\n".encode())
            for start in range(0, len(values), SLICE_TOKENS):
                digest.update(np.ascontiguousarray(values[start : start + SLICE_TOKENS]).tobytes())
        return digest.hexdigest()

    def _slices(self, store: Store) -> Iterator[Encoded]:
        """The tensors of all rows, slice by slice."""
        is_by_token = any(kept.is_of_tokens for kept in self.cut.kept.values())
        for first, last in _spans(store.lengths, SLICE_TOKENS if is_by_token else None):
            compute = functools.partial(self._slice, store, first, last)
            yield inference.within_memory(compute, store, self.devices, BATCH_ROWS)

    def _slice(self, store: Store, first: int, last: int, batch_size: int) -> Encoded:
        planned = batches.plan(
            store.lengths[first:last],
            batch_size,
            shuffle=False,
            fixed_lengths=inference.shapes(store, self.devices),
            multiple_of=self.devices.count,
        )
        of_store = [Batch(batch.rows + first, batch.length, batch.num_padding) for batch in planned]
        fed = feed.for_keras(feed.to_predict(store, of_store, list(self.network.input)))
        feed.accept_any_shape(self.network, fed)
        found = {name: np.asarray(values) for name, values in self.network.predict(fed, verbose=0).items()}
        lengths = {group: np.diff(offsets[first : last + 1]) for group, offsets in store.offsets.items()}
        features, row_features, used = {}, {}, set()
        for name, kept in self.cut.kept.items():
            if not kept.is_of_tokens:
                row_features[name] = feed.in_row_order(found[name], planned)
                continue
            group, start = store.group_of(name), 0
            used.add(group)
            padded = np.zeros((last - first, int(lengths[group].max()), *kept.shape), found[name].dtype)
            for batch, rows in zip(of_store, planned, strict=True):
                width, count = store.width(group, batch.rows, batch.length), len(batch.rows)
                values = found[name][start : start + count * width].reshape(count, width, *kept.shape)
                start += count * width
                length = min(width, padded.shape[1])
                real = count - batch.num_padding
                padded[rows.rows[:real], :length] = values[:real, :length]
            features[name] = padded
        lengths = {group: each for group, each in lengths.items() if group in used}
        return Encoded(features, lengths, np.arange(last - first, dtype=np.int64), row_features)


@dataclass(frozen=True)
class _Written:
    """What a store of outputs is written and read by: they are padded with 0."""

    pad_values: Mapping[str, float] = field(default_factory=dict)
    mask_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frontier:
    """A network whose frozen part is apart.

    Attributes:
        network: What trains, of the same layers.
        cache: What keeps the outputs of the frozen part; None where the network computes it in each step.
        text: What is kept, or why nothing is; empty where no layer that costs much is frozen.
    """

    network: keras.Model
    cache: PrefixCache | None
    text: str

    @property
    def saved(self) -> float:
        """The share of a forward pass that epochs are spared."""
        return self.cache.cut.saved if self.cache else 0.0


def frontier_of(
    network: keras.Model,
    model: Any,
    is_trained: Callable[[Any], bool],
    stores: Sequence[Store],
    devices: Devices,
    *,
    accelerate: bool | str = True,
    is_asked: bool = True,
    is_collated_anew: bool = False,
) -> Frontier:
    """Cuts a network where it can be cut, and says what is kept of its frozen part. Call inside the devices' scope.

    Args:
        network: Token features to named outputs.
        model: The KerasHub task whose layers these are.
        is_trained: Whether a variable trains.
        stores: The rows that outputs would be kept for, those that are trained on first.
        devices: Where to compute.
        accelerate: As of the Recipe.
        is_asked: Whether anything is to be kept.
        is_collated_anew: Whether the tokens of a row are others in each epoch.
    """
    cut = prefix.cut_of(network, is_trained)
    if isinstance(cut, str):
        is_any_frozen = prefix.is_any_frozen(network, is_trained)
        return Frontier(network, None, f"none: {cut}" if is_any_frozen else "")
    why = None if is_asked else "switched off"
    why = "the tokens of a row are others in each epoch" if is_collated_anew else why
    found = why or prefix_trial.kept_for(cut, network, stores[0])
    if isinstance(found, str):
        return Frontier(cut.network(), None, f"none: {found}")
    upper = found.network()
    made = _cache(found, model, network, upper, devices, accelerate)
    size = sum(made.num_bytes(store) for store in stores)
    if size > LIMIT_BYTES:
        limit = f"{_size(size)}, more than {_size(LIMIT_BYTES)}"
        return Frontier(cut.network(), None, f"none: the {CONTENT} would take {limit}")
    return Frontier(upper, made, made.text(stores))


def _cache(
    cut: Cut, model: Any, whole: keras.Model, upper: keras.Model, devices: Devices, accelerate: bool | str
) -> PrefixCache:
    """What keeps the tensors of a cut."""
    inputs, calls, _ = cut.lower()
    lower = cut.lower_network()
    network = keras.Model(
        lower.input,
        {
            name: keras.ops.reshape(tensor, (-1, *cut.kept[name].shape)) if cut.kept[name].is_of_tokens else tensor
            for name, tensor in lower.output.items()
        },
    )
    if not any(kept.is_of_tokens for kept in cut.kept.values()):
        network, _ = passes.applied(passes.Facts(network, model, devices.backend, devices.platform), accelerate)
    names = {id(value): f"input {name}" for name, value in inputs.items()}
    for number, call in enumerate(calls):
        names |= {id(value): f"{number}.{place}" for place, value in enumerate(call.outputs)}
    kept = {name: names[id(one.value)] for name, one in cut.kept.items()}
    config = {} if model is None else without_names(model.backbone.get_config())
    about = [kept, sorted(passes.names_of(accelerate)), config]
    digest = hashlib.sha256(json.dumps(about, default=repr).encode())
    for call in calls:
        digest.update(json.dumps(call.signature(names)).encode())
    for weight in {id(weight): weight for call in calls for weight in getattr(call.operation, "weights", [])}.values():
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{values.dtype} {values.shape}\n".encode() + values.tobytes())
    return PrefixCache(cut, network, frozenset(whole.input), frozenset(upper.input), devices, digest.hexdigest())


def _size(num_bytes: int) -> str:
    """A size as people read it.

    >>> _size(2300), _size(19_800_000), _size(17_200_000_000)
    ('2 kB', '20 MB', '17 GB')
    """
    unit, name = next((10**power, name) for power, name in ((9, "GB"), (6, "MB"), (0, "kB")) if num_bytes >= 10**power)
    return f"{max(1, round(num_bytes / max(unit, 1000))):,} {name}"


def _spans(lengths: np.ndarray, most_tokens: int | None) -> Iterator[tuple[int, int]]:
    """Where slices of rows begin and end: by their number, and by how many tokens the longest would make of all.

    >>> list(_spans(np.array([3, 5, 2, 2]), 8))
    [(0, 1), (1, 2), (2, 4)]
    """
    first, longest = 0, 0
    for row, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        is_full = most_tokens is not None and longest * (row + 1 - first) > most_tokens
        if row > first and (is_full or row - first >= SLICE_ROWS):
            yield first, row
            first, longest = row, length
    yield first, len(lengths)


@functools.cache
def _code_version() -> str:
    """The sha256 of the code that outputs depend on, kft's own and the versions of the libraries."""
    root = Path(kft.__file__).parent
    digest = hashlib.sha256(f"{kft.__version__} {keras.config.backend()}".encode())
    for path in sorted(path for folder in READ_BY_OUTPUTS for path in (root / folder).glob("*.py")):
        digest.update(path.read_bytes())
    for name in LIBRARIES:
        try:
            digest.update(f"{name} {metadata.version(name)}\n".encode())
        except metadata.PackageNotFoundError:
            continue
    return digest.hexdigest()
