"""Kills a fit with SIGKILL at random moments, resumes it each time, and compares it with one that ran through.

    KERAS_BACKEND=tensorflow .venv/bin/python benchmarks/random_kills.py [--kills 20] [--seed 0]

A small BERT of random weights with dropout learns random sentences, shuffled, with validation and a checkpoint every
few steps. A kill comes after a random wait, or at the moment a checkpoint or a validation is under way; what was under
way is printed. Ends with exit code 1 unless weights, steps and history are identical to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from memory_by_rows import WORDS

STEPS_PER_EPOCH, EPOCHS = 40, 20


def write_inputs(folder: Path) -> Path:
    """Rows, a preset and a recipe; returns the recipe without `out`."""
    import keras
    import keras_hub

    draw = random.Random(0)
    rows = [{"text": " ".join(draw.choices(WORDS, k=draw.randint(4, 40)))} for _ in range(STEPS_PER_EPOCH * 8 * 5 // 4)]
    lines = [json.dumps({**row, "label": "late" if "late" in row["text"] else "fine"}) + "\n" for row in rows]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    never = [f"never{number}" for number in range(len(WORDS))]  # rows of the table that do not train
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS), *never]
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary), num_layers=2, num_heads=4, hidden_dim=64, intermediate_dim=128, dropout=0.1
    )
    backbone.save_to_preset(str(folder / "preset"))
    keras_hub.models.BertTokenizer(vocabulary=vocabulary).save_to_preset(str(folder / "preset"))
    knobs = {
        "train": str(folder / "rows.jsonl"),
        "preset": str(folder / "preset"),
        "validation": 0.2,
        "epochs": EPOCHS,
        "batch_size": 8,
        "checkpoint_every": 7,
        "deterministic": True,
        "precision": "float32",
        "learning_rate": 1e-3,
    }
    (folder / "recipe.yaml").write_text(json.dumps(knobs), encoding="utf-8")
    return folder / "recipe.yaml"  # JSON is YAML


def started(arguments: list[str]) -> subprocess.Popen:
    """`kft fit` in a process of its own."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "kft.cli", "fit", *arguments, "--quiet"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def num_steps(run_dir: Path) -> tuple[int, bool]:
    """Steps recorded so far, and whether the last of an epoch is the latest record: validation is under way."""
    path = run_dir / "history.jsonl"
    kinds = [json.loads(line)["kind"] for line in path.read_text().split("\n")[:-1]] if path.is_file() else []
    steps = kinds.count("step")
    return steps, bool(kinds) and kinds[-1] == "step" and steps % STEPS_PER_EPOCH == 0


def what_is_under_way(run_dir: Path) -> str:
    """Read off the files: a checkpoint, a validation, or steps."""
    if any((run_dir / "checkpoints").glob(".partial-*")):
        return "writing a checkpoint"
    return "validation" if num_steps(run_dir)[1] else "training"


def kill_once(run_dir: Path, recipe: Path, aim: str, longest_s: float, draw: random.Random) -> str | None:
    """Starts or resumes the fit and kills it; None if it had finished before.

    Args:
        run_dir: Of the fit.
        recipe: To begin it with.
        aim: What should be under way.
        longest_s: The longest wait in training.
        draw: Draws the moments.
    """
    is_begun = (run_dir / "recipe.json").is_file()
    process = started(["--resume", str(run_dir)] if is_begun else [str(recipe), "--out", str(run_dir)])
    before = len(list((run_dir / "tensorboard").glob("*"))) if is_begun else 0
    # Training has begun when its TensorBoard file is there.
    while len(list((run_dir / "tensorboard").glob("*"))) == before and process.poll() is None:
        time.sleep(0.002)
    # The second or third time it is under way, so that most resumed fits come further than those before.
    deadline, to_pass, seen = (
        time.monotonic() + (draw.uniform(0, longest_s) if aim == "training" else 60),
        draw.randint(0, 2),
        -1,
    )
    while process.poll() is None and time.monotonic() < deadline:
        if aim != "training" and what_is_under_way(run_dir) == aim:
            steps = num_steps(run_dir)[0]
            to_pass -= steps != seen
            seen = steps
            if to_pass < 0:
                break
        time.sleep(0.0005)
    if process.poll() is not None:
        if process.returncode:
            raise SystemExit(process.stderr.read() if process.stderr else "the fit failed")
        return None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    has_finished = json.loads((run_dir / "manifest.json").read_text()).get("finished")
    return None if has_finished else what_is_under_way(run_dir)


def weights(run_dir: Path) -> dict[str, np.ndarray]:
    """Every array of the saved model."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(run_dir / "preset" / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def main() -> None:
    """Prints a line a kill and the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["KFT_CACHE"] = str(folder / "cache")
        recipe = write_inputs(folder)
        whole, killed = folder / "whole", folder / "killed"
        process = started([str(recipe), "--out", str(whole)])
        if process.wait():
            raise SystemExit(process.stderr.read() if process.stderr else "the fit failed")
        train_s = json.loads((whole / "metrics.json").read_text())["train_s"]
        kills = 0
        while kills < options.kills:
            aim = draw.choice(["training", "training", "writing a checkpoint", "validation"])
            hit = kill_once(killed, recipe, aim, train_s / 5, draw)
            if hit is None:
                print(f"finished after {kills} kills")
                break
            kills += 1
            print(f"kill {kills}: {hit}, {num_steps(killed)[0]} steps recorded", flush=True)
        else:
            process = started(["--resume", str(killed)])
            if process.wait():
                raise SystemExit(process.stderr.read() if process.stderr else "the fit failed")
        expected, found = weights(whole), weights(killed)
        differing = [name for name in expected if not np.array_equal(expected[name], found[name])]
        history = [(path / "history.jsonl").read_text() for path in (whole, killed)]
        print(
            f"{os.environ.get('KERAS_BACKEND', 'tensorflow')}: {kills} kills; {len(expected)} arrays, "
            f"{len(differing)} differ; steps {num_steps(whole)[0]} and {num_steps(killed)[0]}; history "
            f"{'equal' if history[0] == history[1] else 'differs'}"
        )
        if differing or history[0] != history[1] or kills < options.kills:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
