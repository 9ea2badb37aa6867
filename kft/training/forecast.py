"""What a fit will do and cost, on one screen, before its first step."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import batches
from kft.data.batches import Batch
from kft.models import presets
from kft.transfer.rules import BlockPlan

PASSES_OF_STEP, PASSES_FORWARD = 6.0, 2.5  # over the activations: written, read, and so are their gradients
BYTES_OF_UPDATE = 28  # a parameter: weight, gradient and both moments are read, all but the gradient written
GRAPH, GRAPH_OF_VARIABLE, GRAPH_OF_VALIDATION, STEP = 200.0, 1.2, 0.4, 1.0  # in `python_s`, measured for MiniLM


@dataclass(frozen=True)
class StagePlan:
    """What one stage of a fit trains.

    Attributes:
        epochs: The first and the last of its epochs, from 1.
        steps: The first and the last of its steps, from 1.
        updates: Of the weights, in it.
        warmup_updates: Those of them in which the rate rises.
        trained: How many parameters train.
        blocks: The names of those that begin to train with it.
        rates: The lowest and the highest peak learning rate of all that trains.
    """

    epochs: tuple[int, int]
    steps: tuple[int, int]
    updates: int
    warmup_updates: int
    trained: int
    blocks: tuple[str, ...]
    rates: tuple[float, float]

    def text(self) -> str:
        """All of it in one line.

        >>> StagePlan((2, 3), (11, 30), 20, 2, 1234, ("block_2", "pooler"), (3e-5, 3e-4)).text()
        'epochs 2 to 3, steps 11 to 30: with block_2, pooler; 1,234 parameters at 3e-05 to 0.0003, warmup 2 of 20'
        """
        first, last = self.epochs
        epochs = f"epoch {first}" if first == last else f"epochs {first} to {last}"
        begin = ", ".join(self.blocks if len(self.blocks) < 5 else (*self.blocks[:2], "…", *self.blocks[-2:]))
        low, high = (f"{rate:.3g}" for rate in self.rates)
        rates = low if low == high else f"{low} to {high}"
        return (
            f"{epochs}, steps {self.steps[0]:,} to {self.steps[1]:,}: with {begin}; {self.trained:,} "
            f"parameters at {rates}, warmup {self.warmup_updates:,} of {self.updates:,}"
        )


@dataclass(frozen=True)
class Work:
    """What the time of training depends on: operations, bytes passed through memory, and graphs to be made.

    Attributes:
        operations: Of products of matrices.
        num_bytes: Read and written.
        graphs: In units of `python_s`.
    """

    operations: float
    num_bytes: float
    graphs: float

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.num_bytes + other.num_bytes, self.graphs + other.graphs)

    def seconds(self, dtype: str) -> float:
        """How long this machine takes, by its rates as of now."""
        return self.operations / matmul_rate(dtype) + self.num_bytes / memory_rate() + self.graphs * python_s()


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
    blocks: tuple[BlockPlan, ...] = ()
    stages: tuple[StagePlan, ...] = ()
    """What trains when; empty where all does from the first epoch on."""
    unknown_share: float | None = None
    accelerate: str = ""
    """Which optimisations of the network apply, and why the others do not."""
    prefix_cache: str = ""
    """What of the frozen layers is kept, or why nothing is; empty where none is frozen."""
    notes: tuple[str, ...] = ()
    """What the user should know of the rows."""

    def lines(self) -> list[tuple[str, str]]:
        """Name and value of each line to show."""
        rows = ", ".join(f"{count:,} {name}" for name, count in self.rows.items())
        share = self.unknown_share
        unknown = [] if share is None else [("unknown tokens", f"{share:.1%} of the training rows' (a sample)")]
        of_stages = " (stage 1; each later one decides anew)" if self.stages else ""
        cut = f"; {self.num_cut:,} reach it and may be cut" if self.num_cut else ""
        return [
            ("rows", rows),
            ("tokens a row", f"median {self.median_length}, longest {self.longest}, max_length {self.max_length}{cut}"),
            *unknown,
            ("steps", f"{self.steps:,}"),
            ("parameters", f"{self.trained:,} trained, {self.frozen:,} frozen"),
            ("learning rate", f"{self.learning_rate:.3g} at its peak, {self.head_learning_rate:.3g} for the head"),
            *[(f"stage {number}", stage.text()) for number, stage in enumerate(self.stages, 1)],
            *[(block.name, block.text()) for block in self.blocks],
            ("devices", self.devices),
            *([("accelerate", self.accelerate + of_stages)] if self.accelerate else []),
            *([("prefix cache", self.prefix_cache + of_stages)] if self.prefix_cache else []),
            ("time", f"about {_duration(self.seconds)} of training and validation, by this machine's rates as of now"),
            ("memory", f"about {self.memory_mb:,.0f} MB for weights, optimizer and activations"),
        ]

    def show(self) -> None:
        """Prints the lines as a table on standard error."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title="plan", show_header=False, title_justify="left")
        for name, value in self.lines():
            table.add_row(name, value)
        Console(stderr=True, highlight=False, markup=False, emoji=False).print(table)


def work_of(
    model: Any,
    network: keras.Model,
    planned: Sequence[Batch],
    epochs: float,
    num_validated: int,
    shapes: int = 1,
    saved: float = 0.0,
) -> Work:
    """Estimated work of training and validation, the first steps among them, in which graphs are made.

    A trained dense weight costs 6 operations a token, a frozen
    one 2 (Kaplan et al., 2020, sec. 2.1).

    Args:
        model: The task model.
        network: What trains, of the same layers.
        planned: The batches of one epoch.
        epochs: Passes over them.
        num_validated: Tokens of the validation rows.
        shapes: Programs that are compiled, one for each shape of a batch.
        saved: The share of a forward pass that is computed once for each row rather than in each epoch.
    """
    passed = presets.weights_passed(model.backbone)
    dense = [(w, times * float(np.prod(w.shape))) for w, times in passed if _is_dense(w)]
    trained = {id(w) for w in model.trainable_weights}
    is_trained = any(id(w) in trained for w, _ in dense)
    forward = sum(2 * size for _, size in dense)
    backward = sum(4 * size for w, size in dense if id(w) in trained)
    tokens = batches.padded_tokens(planned)
    once, again = forward * saved, forward * (1 - saved)
    operations = (again + backward) * tokens * epochs + again * num_validated * math.ceil(epochs)
    operations += once * (tokens + num_validated)
    kept = sum(_activation_bytes(model, batch) for batch in planned)
    num_trained, _ = parameters(network)
    passes = (PASSES_OF_STEP if is_trained else PASSES_FORWARD) * epochs
    passes += PASSES_FORWARD * num_validated / tokens * math.ceil(epochs)
    passes = passes * (1 - saved) + PASSES_FORWARD * (1 + num_validated / tokens) * saved
    traffic = kept * passes + num_trained * BYTES_OF_UPDATE * len(planned) * epochs
    graphs = GRAPH + GRAPH_OF_VARIABLE * len(network.trainable_variables)
    graphs = graphs * shapes + (GRAPH_OF_VALIDATION * graphs if num_validated else 0.0)
    graphs += STEP * len(planned) * epochs
    return Work(operations, traffic, graphs)


def _is_dense(weight: Any) -> bool:
    return len(weight.shape) >= 2 and "embedding" not in weight.path


def matmul_rate(dtype: str) -> float:
    """Operations a second of a product of 2048x384 by 384x1536 in this dtype."""
    left = ops.cast(ops.ones((2048, 384)), dtype)
    right = ops.cast(ops.ones((384, 1536)), dtype)
    # One number, so that it is waited for; not a scalar: NumPy takes none of bfloat16.
    return 2 * 2048 * 384 * 1536 / _usual_s(lambda: ops.convert_to_numpy(ops.matmul(left, right)[:1, :1]))


def memory_rate() -> float:
    """Bytes a second of reading and writing numbers that no cache holds."""
    values = ops.ones((2**12, 2**12))
    return 2 * 4 * 2**24 / _usual_s(lambda: ops.convert_to_numpy((values * 2.0)[:1, :1]))


def python_s() -> float:
    """Seconds that Python takes for a loop over 200,000 numbers, by a tenth of it: the unit of making graphs."""
    return 10 * _usual_s(lambda: sum(number * number for number in range(20_000)))


def _usual_s(work: Callable[[], Any]) -> float:
    """The median of nine, after one that is not counted: the best would leave out what else the machine does."""
    work()
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def memory_mb_of(model: Any, network: keras.Model, planned: Sequence[Batch], saved: float = 0.0) -> float:
    """Estimated megabytes: weights, gradients and two moments, and the activations of the largest batch.

    Args:
        model: The task model.
        network: What trains, of the same layers.
        planned: The batches of one epoch.
        saved: The share of a forward pass whose activations are not held.
    """
    trained, frozen = parameters(network)
    largest = max(planned, key=lambda batch: len(batch.rows) * batch.length**2)
    return ((trained + frozen) * 4 + trained * 12 + _activation_bytes(model, largest) * (1 - saved)) / 2**20


def _activation_bytes(model: Any, batch: Batch) -> float:
    """What a batch's forward pass leaves for the backward one.

    `tokens x width x (34 + 5 x heads x length / width)` bytes a layer at 16 bits, twice that at 32 (Korthikanti et al.,
    2022, eq. 2).
    """
    width = float(getattr(model.backbone, "hidden_dim", 512))
    layers = float(getattr(model.backbone, "num_layers", 12))
    heads = float(getattr(model.backbone, "num_heads", None) or getattr(model.backbone, "num_query_heads", None) or 8)
    tokens = len(batch.rows) * batch.length
    per_layer = tokens * width * (34 + 5 * heads * batch.length / width)
    # Logits of each token and their gradients, which the loss takes in float32.
    outputs = model.output.values() if isinstance(model.output, dict) else [model.output]
    logits = tokens * 8.0 * sum(output.shape[-1] for output in outputs if len(output.shape) > 2)
    return layers * per_layer * (2 if model.compute_dtype == "float32" else 1) + logits


def parameters(model: keras.Model) -> tuple[int, int]:
    """How many parameters train, and how many are frozen."""
    trained = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    return trained, sum(int(np.prod(w.shape)) for w in model.non_trainable_weights)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
