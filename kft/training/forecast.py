"""What a fit will do and cost, on one screen, before its first step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import batches
from kft.data.batches import Batch
from kft.models import presets

SHARE_OF_MATMUL_RATE = 0.6  # of the time is matrix products, measured for MiniLM on two CPU cores


@dataclass(frozen=True)
class Forecast:
    """Numbers of a fit to come: all read off its data, model and plan, or measured on this machine."""

    rows: dict[str, int]
    median_length: int
    longest: int
    max_length: int
    num_cut: int
    steps: int
    trained: int
    frozen: int
    devices: str
    learning_rate: float
    head_learning_rate: float
    seconds: float
    memory_mb: float

    def lines(self) -> list[tuple[str, str]]:
        """Name and value of each line to show."""
        rows = ", ".join(f"{count:,} {name}" for name, count in self.rows.items())
        cut = f"; {self.num_cut:,} reach it and may be cut" if self.num_cut else ""
        return [
            ("rows", rows),
            ("tokens a row", f"median {self.median_length}, longest {self.longest}, max_length {self.max_length}{cut}"),
            ("steps", f"{self.steps:,}"),
            ("parameters", f"{self.trained:,} trained, {self.frozen:,} frozen"),
            ("learning rate", f"{self.learning_rate:.3g} at its peak, {self.head_learning_rate:.3g} for the head"),
            ("devices", self.devices),
            ("time", f"about {_duration(self.seconds)} of training, estimated from this machine's matrix products"),
            ("memory", f"about {self.memory_mb:,.0f} MB for weights, optimizer and activations"),
        ]

    def show(self) -> None:
        """Prints the lines as a table on standard error."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title="plan", show_header=False, title_justify="left")
        for name, value in self.lines():
            table.add_row(name, value)
        Console(stderr=True, highlight=False).print(table)


def seconds_of(model: Any, planned: list[Batch], epochs: float) -> float:
    """Estimated seconds of training: operations over the measured rate of matrix products.

    A trained dense weight costs 6 operations a token, a frozen one 2 (Kaplan et al., 2020, sec. 2.1).
    """
    passed = presets.weights_passed(model.backbone)
    dense = [(w, times) for w, times in passed if len(w.shape) >= 2 and "embedding" not in w.path]
    trained = {id(w) for w in model.trainable_weights}
    per_token = sum((6 if id(w) in trained else 2) * times * float(np.prod(w.shape)) for w, times in dense)
    return (
        per_token
        * batches.padded_tokens(planned)
        * epochs
        / matmul_rate(model.compute_dtype)
        * (1 / SHARE_OF_MATMUL_RATE)
    )


def matmul_rate(dtype: str) -> float:
    """Operations a second of a product of 2048x384 by 384x1536 in this dtype, the best of five."""
    left = ops.cast(ops.ones((2048, 384)), dtype)
    right = ops.cast(ops.ones((384, 1536)), dtype)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        ops.convert_to_numpy(ops.matmul(left, right)[:1, :1])  # not a scalar: NumPy takes none of bfloat16
        best = min(best, time.perf_counter() - began)
    return 2 * 2048 * 384 * 1536 / best


def memory_mb_of(model: Any, network: keras.Model, planned: list[Batch]) -> float:
    """Estimated megabytes: weights, gradients and two moments, and the activations of the largest batch.

    Activations: `tokens x width x (34 + 5 x heads x length / width)` bytes a layer at 16 bits, twice that at 32
    (Korthikanti et al., 2022, eq. 2).
    """
    trained, frozen = parameters(network)
    width = float(getattr(model.backbone, "hidden_dim", 512))
    layers = float(getattr(model.backbone, "num_layers", 12))
    heads = float(getattr(model.backbone, "num_heads", None) or getattr(model.backbone, "num_query_heads", None) or 8)
    largest = max(planned, key=lambda batch: len(batch.rows) * batch.length**2)
    tokens = len(largest.rows) * largest.length
    per_layer = tokens * width * (34 + 5 * heads * largest.length / width)
    is_half = model.compute_dtype != "float32"
    # Logits of each token and their gradients, which the loss takes in float32.
    logits = tokens * float(model.output.shape[-1]) * 8 if len(model.output.shape) > 2 else 0.0
    return ((trained + frozen) * 4 + trained * 12 + layers * per_layer * (1 if is_half else 2) + logits) / 2**20


def parameters(model: keras.Model) -> tuple[int, int]:
    """How many parameters train, and how many are frozen."""
    trained = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    return trained, sum(int(np.prod(w.shape)) for w in model.non_trainable_weights)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
