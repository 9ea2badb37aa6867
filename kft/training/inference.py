"""The network's outputs for many rows, in batches by length, a slice of texts at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kft.data import batches, feed
from kft.data.store import Store, sliced
from kft.data.streams import Stream
from kft.errors import OutOfMemory
from kft.training.devices import Devices, memory_errors
from kft.training.learner import RowValues

TEXTS, TEXTS_OF_TOKENS = 16_384, 1024


Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Slice:
    """Some of the texts with the network's outputs.

    Attributes:
        rows: Which rows of the store, all those of these texts.
        store: Their tokens.
        texts: The strings of each text column.
        outputs: By name `(rows, …)` float32; `(rows, tokens, …)` where the network answers for each token.
        extras: The features that the network does not read, `(rows, tokens, …)` or `(rows, …)`, and `text` `(rows,)`.
    """

    rows: slice
    store: Store
    texts: list[list[str]]
    outputs: Outputs
    extras: dict[str, np.ndarray]


def slices(
    network: keras.Model, store: Store, columns: Sequence[Any], devices: Devices, batch_size: int
) -> Iterator[Slice]:
    """The outputs for the texts of these columns, slice after slice, so that memory stays flat.

    Raises:
        OutOfMemory: Not even one row for each device fits.
    """
    num_rows, size = 0, TEXTS_OF_TOKENS if any(_by_token(network).values()) else TEXTS
    for number, texts in enumerate(sliced(columns, len(columns[0]), size)):
        part = store.part(number * size, number * size + len(texts[0]))
        rows = np.arange(len(part))
        names = {name for name in part.names if name not in network.input}
        extras = part.batch(rows, int(part.lengths.max()), names) if names else {}
        made = outputs(network, part, devices, batch_size)
        yield Slice(
            slice(num_rows, num_rows + len(part)), part, texts, made, {**extras, "text": part.texts.astype(np.int32)}
        )
        num_rows += len(part)


def outputs(network: keras.Model, store: Store, devices: Devices, batch_size: int) -> Outputs:
    """The network's outputs for every row, in row order: `(rows, …)` float32, those for tokens padded with 0.

    Batches that the device has no memory for are halved.

    Raises:
        OutOfMemory: Not even one row for each device fits.
    """
    longest, by_token = int(store.lengths.max()), _by_token(network)
    is_by_token = any(by_token.values())
    lengths = tuple(range(32, longest, 32)) + (longest,) if is_by_token else shapes(store, devices)

    def predicted(batch_size: int) -> Outputs:
        planned = _planned(store, devices, batch_size, lengths)
        alike = itertools.groupby(planned, lambda batch: batch.length) if is_by_token else [(longest, planned)]
        feeds = [feed.for_keras(feed.to_predict(store, list(part), list(network.input))) for _, part in alike]
        feed.accept_any_shape(network, feeds[0])
        parts = [network.predict(each, verbose=0) for each in feeds]
        found = {}
        for name, is_wide in by_token.items():
            values = [np.asarray(part[name], np.float32) for part in parts]
            whole = np.concatenate([_padded(each, longest) for each in values] if is_wide else values)
            found[name] = feed.in_row_order(whole, planned)
        return found

    return within_memory(predicted, store, devices, batch_size)


def row_values(model: RowValues, stream: Stream, devices: Devices, batch_size: int) -> dict[str, np.ndarray]:
    """Numbers of every row, such as its losses, in row order: `(rows,)` float64 each; the outputs are never held.

    Args:
        model: Computes them of a batch.
        stream: The rows with their targets.
        devices: Where it computes.
        batch_size: Rows in a batch; halved where the device has no memory for them.

    Raises:
        OutOfMemory: Not even one row for each device fits.
    """

    def computed(batch_size: int) -> dict[str, np.ndarray]:
        planned = _planned(stream.store, devices, batch_size, shapes(stream.store, devices))
        fed = feed.for_keras(feed.to_evaluate(stream, planned, list(model.network.input)))
        feed.accept_any_shape(model, fed)
        found = model.predict(fed, verbose=0)
        return {name: feed.in_row_order(np.asarray(each, np.float64), planned) for name, each in found.items()}

    return within_memory(computed, stream.store, devices, batch_size)


def _planned(store: Store, devices: Devices, batch_size: int, lengths: Sequence[int]) -> list[batches.Batch]:
    return batches.plan(store.lengths, batch_size, shuffle=False, fixed_lengths=lengths, multiple_of=devices.count)


def within_memory(compute: Callable[[int], Any], store: Store, devices: Devices, batch_size: int) -> Any:
    """What `compute` makes of a batch size, halved until its batches fit.

    Raises:
        OutOfMemory: Not even one row for each device fits.
    """
    longest = int(store.lengths.max())
    advice = f"out of memory with a single row of {longest} tokens. Ask for a smaller max_length"
    while True:
        try:
            with memory_errors(lambda: advice):
                return compute(batch_size)
        except OutOfMemory:
            if batch_size <= devices.count:
                raise
        batch_size //= 2


def _by_token(network: keras.Model) -> dict[str, bool]:
    """Whether each output is one for each token."""
    return {name: len(output.shape) > 2 for name, output in network.output.items()}


def responded(
    respond: Callable[[Sequence[Any]], Mapping[str, Any]], columns: Sequence[Any], batch_size: int
) -> dict[str, np.ndarray]:
    """The answers of a function from texts, `batch_size` rows at a time, in the order of the rows.

    Raises:
        OutOfMemory: A batch does not fit the device's memory.
    """
    parts = []
    with memory_errors(lambda: f"out of memory with {batch_size} rows at a time. Ask for a smaller batch_size"):
        for texts in sliced(columns, len(columns[0]), TEXTS):
            # Texts of like length together need fewest steps; what fits into one batch stays as it is.
            order = np.argsort([-len(text) for text in texts[0]], kind="stable")
            order = order if len(order) > batch_size else np.arange(len(order))
            parts_of = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
            found = concatenated([respond([[column[row] for row in rows] for column in texts]) for rows in parts_of])
            parts.append({name: values[np.argsort(order)] for name, values in found.items()})
    return concatenated(parts)


def concatenated(parts: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The answers of several slices as those of one: `(rows, …)` each, filled up to the widest."""
    arrays = [{name: np.asarray(value) for name, value in part.items()} for part in parts]
    return {name: np.concatenate(_equally_wide([part[name] for part in arrays])) for name in arrays[0]}


def _equally_wide(arrays: list[np.ndarray]) -> list[np.ndarray]:
    if arrays[0].ndim < 2 or len({array.shape[1:] for array in arrays}) == 1:
        return arrays
    widest = np.max([array.shape[1:] for array in arrays], axis=0)
    fill: Any = b"" if arrays[0].dtype.kind in "SO" else 0
    missing = [[(0, 0), *((0, wide - has) for wide, has in zip(widest, a.shape[1:], strict=True))] for a in arrays]
    return [np.pad(a, pads, constant_values=fill) for a, pads in zip(arrays, missing, strict=True)]


def _padded(found: np.ndarray, length: int) -> np.ndarray:
    """Outputs for tokens `(rows, tokens, …)`, filled up with 0 to `length` tokens."""
    return np.pad(found, [(0, 0), (0, length - found.shape[1]), *[(0, 0)] * (found.ndim - 2)])


def shapes(store: Store, devices: Devices) -> tuple[int, ...]:
    """The few lengths that batches are padded to where each shape is compiled; none where any length will do."""
    return batches.fixed_lengths(int(store.lengths.max())) if devices.is_compiled else ()
