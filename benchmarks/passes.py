"""What each pass gives: a training step and a prediction with all passes over those with all but one.

    .venv/bin/python benchmarks/passes.py [--rows 32] [--tokens 64] [--steps 10] [--rounds 3] [--vocabulary 250037]
        [--only sparse_embeddings]

MiniLM, or an encoder of its size with random weights where that is not installed or another vocabulary is asked for
(250,037 is that of multilingual models); 32 rows of 64 tokens, of 12,000 different ones, as about 7,000 short English
texts have. For each pass the two networks take turns, so that what else the machine does meets both. A line has the
medians with all passes and without this one, and two ratios: of seconds, and of seconds of the processor, which other
programs change less; above 1 is what the pass saves. The first step is measured once, from building the network to the
end of the step, tracing and optimizing the graph within. Last, reading the preset with and without the random numbers
that its file overwrites.

A pass that gives less than 3% everywhere is to be deleted.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import keras
import keras_hub
import numpy as np

from kft.accelerate import passes, skip_init
from kft.data import store
from kft.errors import PresetError
from kft.models import heads, presets
from kft.recipe import Recipe
from kft.tasks.classify import SmoothedCrossentropy
from kft.text.encoded import Encoded
from kft.training import devices, inference, trainers

NUM_DIFFERENT = 12_000
MINILM = {"num_layers": 6, "num_heads": 12, "hidden_dim": 384, "intermediate_dim": 1536, "max_sequence_length": 512}


class Tokens:
    """What `store.in_memory` asks of an encoder."""

    pad_values = {"token_ids": 0, "segment_ids": 0, "padding_mask": 0}
    mask_names = ("padding_mask",)


def rows_of(count: int, tokens: int) -> store.Store:
    """Random token ids, every row of the same length."""
    ids = np.random.default_rng(0).integers(1000, 1000 + NUM_DIFFERENT, (count, tokens), dtype=np.int32)
    features = {"token_ids": ids, "segment_ids": np.zeros_like(ids)}
    return store.in_memory(Encoded(features, {"": np.full(count, tokens)}, np.arange(count)), Tokens())


def model_of(dtype: str, vocabulary_size: int | None) -> Any:
    """MiniLM with a head of two classes, or an encoder of its size."""
    keras.utils.set_random_seed(0)
    if vocabulary_size is None:
        with contextlib.suppress(PresetError):
            return heads.sequence_model(presets.find("minilm"), 2, max_length=128, dtype=dtype, seed=0)
    backbone = keras_hub.models.BertBackbone(vocabulary_size=vocabulary_size or 30522, **MINILM, dtype=dtype)
    return keras_hub.models.BertTextClassifier(backbone, num_classes=2, compile=False)


def trainer_of(model: Any, recipe: Recipe, chosen: devices.Devices, rows: store.Store) -> tuple[trainers.Trainer, str]:
    """A model compiled as a fit with the recipe's passes compiles it, and what they decided."""
    facts = passes.Facts(model, model, chosen.backend, chosen.platform, [rows])
    network, decisions = passes.applied(facts, recipe.accelerate)
    trainer = trainers.prepare(
        network,
        SmoothedCrossentropy(),
        recipe,
        chosen,
        peak=1e-4,
        factors={},
        batches_per_epoch=10_000,
        fused=passes.is_applied(decisions, "fused_adam"),
    )
    return trainer, passes.summary(decisions)


def predictor_of(model: Any, asked: bool | str, chosen: devices.Devices) -> tuple[keras.Model, str]:
    """A model as a run with these passes predicts with it, and what they decided."""
    network, decisions = passes.applied(passes.Facts(model, model, chosen.backend, chosen.platform), asked)
    return network, passes.summary(decisions)


def cost(work: Callable[[], Any]) -> np.ndarray:
    """The seconds that a function takes, and those of the processor in it, which other programs change less."""
    began = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter(), time.process_time()]) - began


def in_turns(rounds: int, one: Callable[[], Any], other: Callable[[], Any]) -> tuple[np.ndarray, np.ndarray]:
    """The medians of what two functions cost, called in turns."""
    costs = np.array([[cost(one), cost(other)] for _ in range(rounds)])
    return tuple(np.median(costs, axis=0))


def line(name: str, what: str, with_all: np.ndarray, without: np.ndarray) -> str:
    """One measurement as it is printed: milliseconds with all and without, and the ratios of both kinds of seconds."""
    times = f"{with_all[0] * 1000:7.0f} ms, without it {without[0] * 1000:7.0f} ms"
    of_wall, of_processor = without / with_all
    return f"{name:18}{what:15}{times}   {of_wall:5.2f} {of_processor:5.2f}"


def main() -> None:
    """Prints a line for each pass and what it changes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocabulary", type=int, help="Tokens of an encoder with random weights; default: MiniLM.")
    parser.add_argument("--only", choices=[one.name for one in passes.PASSES])
    options = parser.parse_args()
    chosen = devices.choose("none", "auto")
    rows = rows_of(options.rows * 20, options.tokens)
    targets = np.arange(len(rows)) % 2

    def steps(trainer: trainers.Trainer, count: int) -> None:
        part = trainer.plan(rows, 0)[:count]
        trainer.network.fit(trainer.feed(rows, part, targets), verbose=0, shuffle=False)

    def begun(asked: bool | str) -> tuple[trainers.Trainer, str, np.ndarray]:
        made = []

        def begin() -> None:
            recipe = Recipe.of(batch_size=options.rows, accelerate=asked)
            made.append(trainer_of(model_of(chosen.precision, options.vocabulary), recipe, chosen, rows))
            steps(made[0][0], 1)

        costs = cost(begin)
        return *made[0], costs

    begun(True)  # the backend and its libraries start
    whole, decided, first = begun(True)
    asker, decided_of_asker = predictor_of(model_of("float32", options.vocabulary), True, chosen)
    print(f"{options.rows} rows of {options.tokens} tokens, {chosen}")
    print(f"training: {decided}")
    print(f"predicting: {decided_of_asker}")

    def ask(network: keras.Model) -> None:
        inference.outputs(network, rows, chosen, 64)

    ask(asker)
    for one in passes.PASSES:
        if options.only not in (None, one.name):
            continue
        if one.name in decided.partition(";")[0]:
            trainer, _, first_without = begun(f"-{one.name}")
            steps(trainer, 2)
            print(line(one.name, "first step", first, first_without), flush=True)
            pair = in_turns(
                options.rounds, partial(steps, whole, options.steps), partial(steps, trainer, options.steps)
            )
            print(line(one.name, "training step", *(costs / options.steps for costs in pair)), flush=True)
        if one.name in decided_of_asker.partition(";")[0]:
            other, _ = predictor_of(model_of("float32", options.vocabulary), f"-{one.name}", chosen)
            ask(other)
            pair = in_turns(options.rounds, partial(ask, asker), partial(ask, other))
            print(line(one.name, f"{len(rows)} predicted", *pair), flush=True)

    def read() -> None:
        model_of("float32", None)

    def read_drawing() -> None:
        with mock.patch.object(skip_init, "by_files", contextlib.nullcontext):
            read()

    if options.only is None and options.vocabulary is None:
        print(line("skip_init", "reading preset", *in_turns(options.rounds, read, read_drawing)))


if __name__ == "__main__":
    main()
