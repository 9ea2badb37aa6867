"""What the prefix cache gives: epochs with it over epochs without, and `features` over one prediction.

    .venv/bin/python benchmarks/features.py [--rows 516] [--epochs 4] [--batch-size 32]

MiniLM on the messages of `kft demo`, whose topics are told apart. The fits share a cache, which begins empty.
An epoch is what passes between the ends of two validations: steps and a checkpoint. Of several the median counts, the
first left out, in which graphs are made. `features` counts from the frozen pass to the end of ten epochs, with
validation; the prediction is of the same training rows, by a run whose weights have just been read.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS = Path(__file__).parents[1] / "kft" / "demo" / "messages.jsonl"


@dataclass(frozen=True)
class Timed:
    """Seconds of a fit.

    Attributes:
        frozen_s: The pass through the frozen layers.
        epochs_s: Each epoch, without its validation.
        train_s: From the frozen pass to the end of training, validation within.
        kept: What the plan says of the prefix cache.
    """

    frozen_s: float
    epochs_s: list[float]
    train_s: float
    kept: str

    @property
    def later_s(self) -> float:
        """The median of the epochs after the first."""
        return statistics.median(self.epochs_s[1:])


def timed(rows: dict[str, Any], out: Path, **knobs: Any) -> Timed:
    """A fit up to the end of its training."""
    from kft import job
    from kft.models import seeding
    from kft.recipe import Recipe
    from kft.training import loop

    recipe = Recipe.of(preset="minilm", text="text", label="topic", **knobs)
    out.mkdir()
    with seeding.seeded(recipe.seed):
        ready = job.prepare(recipe, rows)
        began = time.perf_counter()
        trainer, train = ready.enter(0, print)
        frozen_s = time.perf_counter() - began
        marks = [time.perf_counter()]
        epochs_s = []

        def validate() -> dict[str, float]:
            epochs_s.append(time.perf_counter() - marks[-1])
            found = ready.validate()
            marks.append(time.perf_counter())
            return found

        loop.train(trainer, train, run_dir=out, validate=validate, best_by="accuracy", quiet=True)
        return Timed(frozen_s, epochs_s, time.perf_counter() - began, ready.forecast.prefix_cache)


def main() -> None:
    """Prints seconds and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=516, help="Training rows; the rest of 645 is for validation.")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KFT_CACHE"] = f"{folder}/cache"
        import kft
        from kft.readers import formats

        table = formats.read(ROWS).rows.select(["text", "topic"])
        train, validation = table.slice(0, options.rows), table.slice(options.rows)
        rows = {"train": train, "validation": validation, "test": None}
        asked = {"batch_size": options.batch_size, "epochs": options.epochs}
        full = timed(rows, Path(folder, "full"), transfer="full", **asked)
        without = timed(rows, Path(folder, "without"), transfer="last:2", cache_features=False, **asked)
        with_cache = timed(rows, Path(folder, "with"), transfer="last:2", **asked)
        again = timed(rows, Path(folder, "again"), transfer="last:2", **asked)
        features = timed(rows, Path(folder, "features"), transfer="features", **{**asked, "epochs": 10})
        second = timed(rows, Path(folder, "second"), transfer="features", **{**asked, "epochs": 10})
        run = kft.fit(
            train, validation=validation, out=f"{folder}/run", preset="minilm", text="text", label="topic",
            transfer="features", epochs=1, quiet=True,
        )  # fmt: skip
        texts = train.column("text").to_pylist()
        opened = kft.load(run.path)
        assert opened.model is not None, "its weights are read now"
        began = time.perf_counter()
        opened.predict(texts)
        predict_s = time.perf_counter() - began
    print(f"{options.rows} rows, batches of {options.batch_size}")
    print(f"last:2    {with_cache.kept}")
    print(f"features  {features.kept}")
    for name, each in {"full": full, "last:2, no cache": without, "last:2": with_cache, "last:2 again": again}.items():
        first_s, later_s = each.epochs_s[0], each.later_s
        print(f"{name:18} frozen pass {each.frozen_s:5.2f} s   first epoch {first_s:6.2f} s   later {later_s:6.2f} s")
    print(f"an epoch of full over one of last:2                    {full.later_s / with_cache.later_s:5.2f}")
    print(f"an epoch of last:2 without the cache over one with it  {without.later_s / with_cache.later_s:5.2f}")
    print(f"one prediction of the training rows                    {predict_s:5.2f} s")
    for name, each in {"features, 10 epochs": features, "features, once more": second}.items():
        over = each.train_s - 1.25 * predict_s
        parts = f"{each.train_s:6.2f} s, of it frozen pass {each.frozen_s:5.2f} s"
        print(f"{name:20} {parts}: 1.25 predictions and {over:5.2f} s")


if __name__ == "__main__":
    main()
