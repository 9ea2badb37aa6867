"""Classes from few rows: the task `fewshot` against plain fine-tuning, on the same rows, over several seeds.

    .venv/bin/python benchmarks/few_shot.py TRAIN.jsonl TEST.jsonl [--rows 16] [--seeds 5] [--labels 8] [--epochs 20]

Each seed draws other rows of each class from TRAIN. Both sides have kft's defaults but for epochs and batch size, and
are scored on all rows of TEST. With `--labels` each seed draws that many classes too, and only rows of those count.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path

import kft


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a JSONL file, their labels as text."""
    with path.open(encoding="utf-8") as lines:
        return [{"text": row["text"], "label": str(row["label"])} for row in map(json.loads, lines)]


def main() -> None:
    """Prints the accuracy of both tasks for each seed, and the means."""
    parser = argparse.ArgumentParser()
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--preset", default="minilm")
    parser.add_argument("--rows", type=int, default=16, help="of each class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    train, test = read(options.train), read(options.test)
    names = sorted({row["label"] for row in train})
    found: dict[str, list[float]] = {"fewshot": [], "classify": []}
    for seed in range(options.seeds):
        draw = random.Random(seed)
        labels = sorted(draw.sample(names, options.labels)) if options.labels else names
        few = [row for label in labels for row in draw.sample([r for r in train if r["label"] == label], options.rows)]
        for task, scores in found.items():
            with tempfile.TemporaryDirectory() as folder:
                run = kft.fit(
                    few,
                    task=task,
                    preset=options.preset,
                    validation=0,
                    test=[row for row in test if row["label"] in labels],
                    epochs=options.epochs,
                    batch_size=16,
                    seed=seed,
                    allow_leaks=True,
                    quiet=True,
                    out=str(Path(folder, "run")),
                )
                scores.append(run.metrics["test"]["accuracy"])
            print(f"seed {seed}: {task} {scores[-1]:.4f}", flush=True)
    means = {task: statistics.mean(scores) for task, scores in found.items()}
    print(f"{options.rows} rows of each of {options.labels or len(names)} classes, means of {options.seeds} seeds:")
    print(", ".join(f"{task} {mean:.4f}" for task, mean in means.items()))


if __name__ == "__main__":
    main()
