"""One fit of two sources, begun or resumed: the program that `random_kills.py --streams 2` kills.

    .venv/bin/python benchmarks/two_streams.py FOLDER RUN_DIR

A BERT with a head for each source learns `rows.jsonl` and, beside each of its batches, one of `others.jsonl`, which has
fewer rows, so that it begins anew in the middle of an epoch, and whose words are in another order in each epoch. Kft's
own parts do it all: readers, token cache, streams, passes, loop and checkpoints. Validation is on rows of the first.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.special import log_softmax

from kft import disk, run_directory
from kft.accelerate import passes, sparse_embeddings
from kft.data import masking, tokenise
from kft.data.batches import Batch
from kft.data.store import Store
from kft.data.streams import Features, Stream
from kft.losses.objective import Objective, Term, ones
from kft.losses.row_losses import crossentropy
from kft.models import multi_head, presets, saving, seeding
from kft.readers import formats
from kft.recipe import Recipe
from kft.text.tokens import Encoder
from kft.training import checkpoints, devices, inference, loop, trainers

HEADS: dict[str, multi_head.HeadSpec] = {
    "train": {"num_outputs": 2, "reads": "first"},
    "others": {"num_outputs": 3, "reads": "mean"},
}
FILES = {"train": "rows.jsonl", "others": "others.jsonl", "validation": "held_back.jsonl"}
OTHERS_WEIGHT = 0.5
MAX_LENGTH = 64


@dataclass(frozen=True)
class Shuffled:
    """A `Collator`: the tokens between the first and the last of each row, in another order in each epoch."""

    seed: int

    def __call__(
        self, store: Store, batch: Batch, features: Features, targets: Features, epoch: int | None
    ) -> tuple[Features, Features]:
        """The features with other `token_ids`: `(batch, tokens)`."""
        ids = features["token_ids"].copy()
        for row, number in enumerate(batch.rows):
            inner = slice(1, int(store.lengths[number]) - 1)
            ids[row, inner] = masking.random(self.seed, epoch, int(number)).permutation(ids[row, inner])
        return {**features, "token_ids": ids}, targets


def source(folder: Path, name: str, term: str, encoder: Encoder, key: str, seed: int) -> Stream:
    """The rows of a file with their labels, which are numbers."""
    table = formats.read(str(folder / FILES[name]))
    store = tokenise.tokenise(table, ["text"], encoder, key)
    counts = ones({}, store)
    stream = Stream(
        store, {"label": np.array(table.rows["label"].to_pylist(), np.int32)}, {term: counts}, {term: counts}
    )
    return replace(stream, collate=Shuffled(seed)) if name == "others" else stream


def term(name: str) -> Term:
    """The crossentropy of a source's own head."""
    weight = OTHERS_WEIGHT if name == "others" else 1.0
    return Term(name, lambda outputs, targets: crossentropy(outputs[name], targets["label"]), weight, stream=name)


def fit(folder: Path, run_dir: Path, recipe: Recipe) -> None:
    """Trains from the newest checkpoint, or from the beginning, and saves the model."""
    chosen = devices.choose("none", recipe.precision)
    preset = presets.find(recipe.preset)
    with run_directory.claim(run_dir, resume=(run_dir / run_directory.MANIFEST).is_file()), chosen.scope():
        model = multi_head.multi_head_model(preset, HEADS, MAX_LENGTH, chosen.precision, recipe.seed)
        encoder, key = Encoder(model.preprocessor, 1), tokenise.fingerprint(model.preprocessor)
        sources = {name: source(folder, name, name, encoder, key, recipe.seed) for name in HEADS}
        held_back = source(folder, "validation", "train", encoder, key, recipe.seed)
        stores = [stream.store for stream in sources.values()]
        whole = keras.Model(model.input, model.output)
        facts = passes.Facts(whole, model, chosen.backend, chosen.platform, stores)
        network, decisions = passes.applied(facts)
        trainer = trainers.prepare(
            network,
            Objective(tuple(term(name) for name in HEADS)),
            recipe,
            chosen,
            peak=float(recipe.learning_rate),
            batches_per_epoch=-(-len(stores[0]) // recipe.batch_size),
            fused=passes.is_applied(decisions, "fused_adam"),
        )

        def validate() -> dict[str, float]:
            logits = inference.outputs(network, held_back.store, chosen, recipe.batch_size)["train"]
            labels: Any = held_back.targets["label"]
            losses = -log_softmax(logits, axis=-1)[np.arange(len(labels)), labels]
            return {
                "val_loss": float(losses.mean()),
                "val_accuracy": float((logits.argmax(axis=-1) == labels).mean()),
            }

        if not (run_dir / run_directory.MANIFEST).is_file():
            run_directory.begin(run_dir, recipe, {})
        start, _ = checkpoints.newest_intact(run_dir / checkpoints.FOLDER)
        outcome = loop.train(
            trainer, sources, run_dir=run_dir, validate=validate, best_by="accuracy", start=start, quiet=True
        )
        sparse_embeddings.put_back(network)
        saving.save_task(model, run_dir / run_directory.PRESET)
        disk.write_json(run_dir / run_directory.METRICS, {"train_s": outcome.position.train_s})
        run_directory.finish(run_dir, {"passes": passes.summary(decisions)})


def main() -> None:
    """Fits by the recipe in the folder."""
    folder, run_dir = map(Path, sys.argv[1:])
    recipe = Recipe.read(folder / "recipe.yaml")
    with seeding.seeded(recipe.seed), devices.deterministic(recipe.deterministic):
        fit(folder, run_dir, recipe)


if __name__ == "__main__":
    main()
