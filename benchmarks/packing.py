"""Rows on shared lines against rows by themselves: rows a second in training, and how much of the batches is padding.

    .venv/bin/python benchmarks/packing.py TRAIN.jsonl [--preset scratch:gpt2] [--max-length 128] [--rounds 3]

TRAIN.jsonl has a prompt and a response in each row. Both sides see all rows once, about as many tokens in each batch;
they take turns, and the median of the ratios is printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import kft
from kft import job
from kft.data import batches
from kft.recipe import Recipe
from kft.training import trainers


def batches_of(train: str, **knobs: object) -> tuple[float, float]:
    """Tokens of the mean batch, and the share of them that is padding."""
    rows = {"train": train, "validation": 0, "test": None}
    made = job.prepare(Recipe.of(train=train, **knobs), rows)
    store = made.stores["train"]
    steps = trainers.plan({"train": store}, made.recipe, made.trainer.devices, epoch=0)
    planned = [step["train"] for step in steps]
    tokens = batches.padded_tokens(planned)
    return tokens / len(planned), 1 - int(store.lengths.sum()) / tokens


def main() -> None:
    """Prints a line a round and the median."""
    parser = argparse.ArgumentParser()
    parser.add_argument("train")
    parser.add_argument("--preset", default="scratch:gpt2")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    knobs = {"task": "generate", "preset": options.preset, "max_length": options.max_length, "epochs": 1}
    tokens, padding = batches_of(options.train, **knobs, batch_size=options.batch_size)
    lines = max(1, round(tokens / options.max_length))
    packed_tokens, packed_padding = batches_of(options.train, **knobs, batch_size=lines, packing=True)
    print(f"rows: {tokens:.0f} tokens a batch, {padding:.1%} of them padding")
    print(f"packed: {packed_tokens:.0f} tokens a batch, {packed_padding:.1%} of them padding")
    sides = {"rows": {"batch_size": options.batch_size}, "packed": {"batch_size": lines, "packing": True}}
    count = len(Path(options.train).read_text(encoding="utf-8").splitlines())
    ratios = []
    for seed in range(options.rounds):
        speed = {}
        for name, knob in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                out = str(Path(folder, "run"))
                run = kft.fit(options.train, validation=0, seed=seed, out=out, quiet=True, **knobs, **knob)
                speed[name] = count / run.metrics["train_s"]
        ratios.append(speed["packed"] / speed["rows"])
        print(f"round {seed}: rows {speed['rows']:.1f} rows/s, packed {speed['packed']:.1f} rows/s", flush=True)
    print(f"median ratio packed / rows: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
