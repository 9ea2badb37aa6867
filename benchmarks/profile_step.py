"""Where a training step's time goes: MiniLM, 32 rows of 64 tokens, against the floor of its matrix products.

    .venv/bin/python benchmarks/profile_step.py [--rows 32] [--tokens 64] [--steps 20]

The floor is the operations of the matrix products over the rate at which this machine does one of them. Each line
below it leaves something out of the step; the medians of alternating rounds are printed. Also: seconds from the start
of building the model to the end of the first step, how often rows of mixed lengths make `model.fit` trace its graph
anew, and a checkpoint's time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kft.accelerate import passes
from kft.data import feed, store
from kft.data.streams import Stream
from kft.losses.objective import Objective, Term
from kft.losses.row_losses import crossentropy
from kft.models import heads, presets
from kft.recipe import Recipe
from kft.text.encoded import Encoded
from kft.training import checkpoints, devices, forecast, optimizers, trainers


class Idle(optimizers.FusedAdamW):
    """Takes the norm of the gradients and changes nothing."""

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        self.gradient_norm.assign(self._global_norm([keras.ops.convert_to_tensor(gradient) for gradient in grads]))


TRACES: list[str] = []
"""One entry for each time that the loss is traced: Python code runs then only."""


def counted(outputs: Any, targets: Any) -> Any:
    """Cross-entropy, whose traces are counted."""
    TRACES.append("loss")
    return crossentropy(outputs["logits"], targets["label"])


class Tokens:
    """What `store.in_memory` asks of an encoder."""

    pad_values = {"token_ids": 0, "segment_ids": 0, "padding_mask": 0}
    mask_names = ("padding_mask",)


def rows_of(count: int, tokens: int) -> store.Store:
    """Random token ids, every row of the same length; 0 tokens: of lengths from 4 to 63."""
    random = np.random.default_rng(0)
    ids = random.integers(1000, 20000, (count, tokens or 64), dtype=np.int32)
    lengths = np.full(count, tokens) if tokens else random.integers(4, 64, count)
    return store.in_memory(
        Encoded({"token_ids": ids, "segment_ids": np.zeros_like(ids)}, {"": lengths}, np.arange(count)), Tokens()
    )


def stream_of(rows: store.Store) -> Stream:
    """The rows with two classes that take turns."""
    ones = np.ones(len(rows), np.float32)
    return Stream(rows, {"label": np.arange(len(rows)) % 2}, {"label": ones}, {"label": ones})


def train(trainer: trainers.Trainer, rows: store.Store, epoch: int, num_steps: int | None = None) -> int:
    """Trains on the first steps of an epoch; how many these were."""
    sources = {"train": stream_of(rows)}
    part = trainer.plan(sources, epoch)[:num_steps]
    totals = {"label": np.array([len(step["train"].rows) for step in part], np.float64)}
    trainer.learner.fit(trainer.feed(sources, part, totals, epoch), verbose=0, shuffle=False)
    return len(part)


def predict(trainer: trainers.Trainer, rows: store.Store, num_batches: int | None = None) -> None:
    """The forward pass of the batches of the first epoch."""
    part = [step["train"] for step in trainer.plan({"train": stream_of(rows)}, 0)][:num_batches]
    fed = feed.to_predict(rows, part, list(trainer.network.input))
    trainer.network.predict(feed.for_keras(fed), verbose=0)


def built(
    recipe: Recipe, chosen: devices.Devices, rows: store.Store, *, dropout: bool = True, update: bool = True
) -> trainers.Trainer:
    """MiniLM with a head of two classes, compiled as a fit on these rows compiles it."""
    preset = presets.find("minilm")
    model = heads.sequence_model(preset, 2, max_length=128, dtype=chosen.precision, seed=0)
    for layer in model._flatten_layers():
        if not dropout and isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    peak = 1e-4
    whole = keras.Model(model.input, {"logits": model.output})
    facts = passes.Facts(whole, model, chosen.backend, chosen.platform, [rows])
    # Every row of the table is updated, as the floor has it.
    network, _ = passes.applied(facts, "-sparse_embeddings")
    objective = Objective((Term("label", counted),))
    trainer = trainers.prepare(network, objective, recipe, chosen, peak=peak, batches_per_epoch=10_000)
    if not update:
        idle = Idle(peak)
        idle.build(trainer.network.trainable_variables)
        trainer.learner.compile(optimizer=idle, jit_compile=chosen.jit_compile)
    return trainer


def operations(model: keras.Model, num_rows: int, tokens: int) -> float:
    """Operations of the matrix products of one step: forward, and twice that backward.

    Of the last layer only keys and values are of all tokens, and what follows it is of the first.
    """
    backbone = next(layer for layer in model._flatten_layers() if hasattr(layer, "num_layers"))

    def dense(weights: list[Any]) -> float:
        return sum(float(np.prod(w.shape)) for w in weights if len(w.shape) >= 2 and "embedding" not in w.path)

    of_all = (
        dense([w for layer in backbone.transformer_layers[:-1] for w in layer.weights]) + 2 * backbone.hidden_dim**2
    )
    of_first = dense(model.weights) - of_all
    attention = 4 * num_rows * tokens * backbone.hidden_dim * ((backbone.num_layers - 1) * tokens + 1)
    return 3 * (2 * num_rows * (of_all * tokens + of_first) + attention)


def main() -> None:
    """Prints the floor, the table, the first step and the traces."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    recipe = Recipe.of(batch_size=options.rows)
    keras.ops.convert_to_numpy(keras.ops.ones((2, 2)) @ keras.ops.ones((2, 2)))  # the backend starts
    chosen = devices.choose("auto", "auto")
    rows = rows_of(options.rows * options.steps, options.tokens)

    def fitted(trainer: trainers.Trainer, num_steps: int) -> float:
        began = time.perf_counter()
        count = train(trainer, rows, 0, num_steps)
        return (time.perf_counter() - began) / count

    began = time.perf_counter()
    whole = built(recipe, chosen, rows)
    fitted(whole, 1)
    print(f"from the start of building the model to the end of the first step: {time.perf_counter() - began:.1f} s")

    variants = {
        "the whole step": whole,
        "without dropout": built(recipe, chosen, rows, dropout=False),
        "without the update of the weights": built(recipe, chosen, rows, update=False),
        "without both": built(recipe, chosen, rows, dropout=False, update=False),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    forward: list[float] = []
    rates = []
    for trainer in variants.values():
        fitted(trainer, 2)
    predict(whole, rows, 1)
    for _ in range(options.rounds):
        rates.append(forecast.matmul_rate(keras.DTypePolicy(chosen.precision).compute_dtype))
        for name, trainer in variants.items():
            times[name].append(fitted(trainer, options.steps))
        began = time.perf_counter()
        predict(whole, rows)
        forward.append((time.perf_counter() - began) / options.steps)
    rate = max(rates)  # the floor is what the machine can do
    floor = operations(whole.network, options.rows, options.tokens) / rate
    print(f"{options.rows} rows of {options.tokens} tokens, {chosen}; matrix products: {rate / 1e9:.0f} GF/s")
    print(f"{'floor':36}{floor * 1000:7.0f} ms")
    for name, seconds in [*times.items(), ("the forward pass alone", forward)]:
        median = statistics.median(seconds)
        print(f"{name:36}{median * 1000:7.0f} ms  {median / floor:.2f} of the floor")
    mixed = rows_of(options.rows * 12, 0)
    for epoch in range(3):
        before = len(TRACES)
        train(whole, mixed, epoch)
        print(f"rows of 4 to 63 tokens, pass {epoch + 1}: {len(TRACES) - before} traces of the loss")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        history = Path(folder, "history.jsonl")
        history.touch()
        checkpoints.save(Path(folder), whole.network, whole.learner.optimizer, checkpoints.Position(), history)
        print(f"a checkpoint: {(time.perf_counter() - began) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
