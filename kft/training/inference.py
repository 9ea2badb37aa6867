"""The network's outputs for many rows, in batches by length."""

from __future__ import annotations

import keras
import numpy as np

from kft.data import batches
from kft.data.feed import Feed, for_keras, in_row_order
from kft.data.store import Store
from kft.errors import OutOfMemory
from kft.training.devices import Devices, memory_errors


def outputs(network: keras.Model, store: Store, devices: Devices, batch_size: int) -> np.ndarray:
    """The network's raw outputs for every row, in row order: `(rows, …)` float32.

    Batches that the device has no memory for are halved.

    Raises:
        OutOfMemory: Not even one row for each device fits.
    """
    longest = int(store.lengths.max())
    while True:
        planned = batches.plan(
            store.lengths, batch_size, shuffle=False, fixed_lengths=shapes(store, devices), multiple_of=devices.count
        )
        try:
            with memory_errors(
                lambda: f"out of memory with a single row of {longest} tokens. Ask for a smaller max_length"
            ):
                found = network.predict(for_keras(Feed(store, planned, list(network.input))), verbose=0)
            return in_row_order(np.asarray(found, np.float32), planned)
        except OutOfMemory:
            if batch_size <= devices.count:
                raise
        batch_size //= 2


def shapes(store: Store, devices: Devices) -> tuple[int, ...]:
    """The few lengths that batches are padded to where each shape is compiled; none where any length will do."""
    return batches.fixed_lengths(int(store.lengths.max())) if devices.is_compiled else ()
