"""Training on one accelerator, against Hugging Face on torch: rows a second, and the share of the chip's matmul rate.

    KERAS_BACKEND=jax .venv/bin/python benchmarks/gpu_rate.py --peer-python PYTHON [--rows 256] [--tokens 128]

BERT of MiniLM's and of BERT-base's size, with random weights and token ids, in bfloat16. kft trains by its own loop,
its record of each step included; the peer, `peer_rate.py`, by Trainer with torch.compile, SDPA and fused AdamW. The
sides take turns; medians are printed. The first steps, which compile, are not in the rates: they stand beside them.
The rate of matrix products is that of a large one in bfloat16, measured in the same process as kft's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SIZES = {
    "minilm": {"num_layers": 6, "num_heads": 12, "hidden_dim": 384, "intermediate_dim": 1536},
    "base": {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072},
}
VOCABULARY, WARM_STEPS = 30_522, 5


def products(size: str, num_rows: int, tokens: int, of_first: bool) -> float:
    """Operations of the matrix products of one step: forward, and twice that backward.

    Args:
        size: Key of `SIZES`.
        num_rows: Rows of a batch.
        tokens: Tokens of a row.
        of_first: Whether the last layer is computed for the first token alone, but for keys and values.
    """
    width, inner, layers = (SIZES[size][name] for name in ("hidden_dim", "intermediate_dim", "num_layers"))
    weights, scores = 4 * width**2 + 2 * width * inner, 2 * tokens * width
    layer = tokens * (weights + scores)
    last = tokens * 2 * width**2 + weights - 2 * width**2 + scores if of_first else layer
    head = width**2 + 2 * width  # pooler and two classes, of one token
    return 3 * 2 * num_rows * ((layers - 1) * layer + last + head)


def matmul_rate(platform: str) -> float:
    """Operations a second of a large bfloat16 product, the best of five times ten in a row, after one that compiles."""
    import keras
    from keras import ops

    size = 1024 if platform == "cpu" else 8192
    random = keras.random.SeedGenerator(0)
    left, right = (ops.cast(keras.random.normal((size, size), seed=random), "bfloat16") for _ in range(2))
    right = right * size**-0.5  # so that numbers keep their size

    def ten(value: Any) -> Any:
        for _ in range(10):
            value = ops.matmul(value, right)
        return value

    if keras.config.backend() == "jax":
        import jax

        ten = jax.jit(ten)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        ops.convert_to_numpy(ten(left)[0, 0])
        best = min(best, time.perf_counter() - began)
    return 10 * 2 * size**3 / best


def ours(size: str, num_rows: int, tokens: int, num_steps: int) -> dict[str, Any]:
    """kft's rows a second, seconds to the end of the first steps, and the rate of matrix products."""
    import keras
    import keras_hub
    import numpy as np

    from kft.accelerate import passes
    from kft.data import store
    from kft.data.streams import Stream
    from kft.losses.objective import Objective, Term
    from kft.losses.row_losses import crossentropy
    from kft.recipe import Recipe
    from kft.text.encoded import Encoded
    from kft.training import devices, loop, trainers

    random = np.random.default_rng(0)
    count = num_rows * num_steps
    ids = random.integers(1000, VOCABULARY, (count, tokens), dtype=np.int32)
    encoded = Encoded(
        {"token_ids": ids, "segment_ids": np.zeros_like(ids)}, {"": np.full(count, tokens)}, np.arange(count)
    )
    encoder = SimpleNamespace(
        pad_values={"token_ids": 0, "segment_ids": 0, "padding_mask": 0}, mask_names=("padding_mask",)
    )
    ones = np.ones(count, np.float32)
    targets = {"label": random.integers(0, 2, count)}
    stream = Stream(store.in_memory(encoded, encoder), targets, {"label": ones}, {"label": ones})
    chosen = devices.choose("none", "mixed_bfloat16")
    recipe = Recipe.of(batch_size=num_rows, epochs=1, precision="mixed_bfloat16")
    began = time.perf_counter()
    with chosen.scope():
        keras.utils.set_random_seed(0)
        backbone = keras_hub.models.BertBackbone(
            VOCABULARY, **SIZES[size], max_sequence_length=512, dtype=chosen.precision
        )
        model = keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=None, compile=False)
        whole = keras.Model(model.input, {"logits": model.output})
        facts = passes.Facts(whole, model, chosen.backend, chosen.platform, [stream.store])
        trainer = trainers.prepare(
            passes.applied(facts, "-sparse_embeddings")[0],  # the peer updates every row of the table
            Objective((Term("label", lambda outputs, own: crossentropy(outputs["logits"], own["label"])),)),
            recipe,
            chosen,
            peak=1e-4,
            batches_per_epoch=num_steps,
        )

        def trained(recipe: Recipe) -> float:
            with tempfile.TemporaryDirectory() as folder:
                part = replace(trainer, recipe=recipe)
                outcome = loop.train(
                    part, {"train": stream}, run_dir=Path(folder), validate=None, best_by="accuracy", quiet=True
                )
            return outcome.examples_per_s

        trained(recipe.model_copy(update={"max_steps": WARM_STEPS}))
        first_s = time.perf_counter() - began
        rate = trained(recipe)
    return {
        "device": str(chosen),
        "examples_per_s": rate,
        "first_s": first_s,
        "matmul_rate": matmul_rate(chosen.platform),
    }


def main() -> None:
    """Prints a line a round, and the medians of each size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-python", default=sys.executable, help="has torch, transformers and accelerate")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="kft's side of one size, in this process")
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(ours(options.sizes[0], options.rows, options.tokens, options.steps)))
        return
    for size in options.sizes:
        kft = [sys.executable, __file__, "--alone", "--sizes", size]
        peer = [options.peer_python, str(Path(__file__).with_name("peer_rate.py")), json.dumps(SIZES[size])]
        asked = [f"--{name}={getattr(options, name)}" for name in ("rows", "tokens", "steps")]
        rounds = []
        for number in range(options.rounds):
            kfts, peers = (_measured([*command, *asked]) for command in (kft, peer))
            shares = [
                side["examples_per_s"]
                / options.rows
                * products(size, options.rows, options.tokens, of_first)
                / kfts["matmul_rate"]
                for side, of_first in ((kfts, True), (peers, False))
            ]
            rounds.append((kfts["examples_per_s"] / peers["examples_per_s"], *shares))
            print(
                f"{size}, round {number}: kft {kfts['examples_per_s']:.0f} rows/s on {kfts['device']}, "
                f"{kfts['first_s']:.0f} s to the end of step {WARM_STEPS}; "
                f"peer {peers['examples_per_s']:.0f} rows/s on {peers['device']}, {peers['first_s']:.0f} s; "
                f"matrix products {kfts['matmul_rate'] / 1e12:.2f} TFLOP/s",
                flush=True,
            )
        ratio, our_share, peer_share = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"{size}, {options.rows} x {options.tokens} tokens: median ratio of rows a second kft / peer {ratio:.2f}; "
            f"share of the rate of matrix products: kft {our_share:.2f}, peer {peer_share:.2f}",
            flush=True,
        )


def _measured(command: list[str]) -> dict[str, Any]:
    """The JSON that a side prints last."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
