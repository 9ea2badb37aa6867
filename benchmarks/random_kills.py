"""Kills a fit with SIGKILL at random moments, resumes it each time, and compares it with one that ran through.

    KERAS_BACKEND=tensorflow .venv/bin/python benchmarks/random_kills.py [--kills 20] [--seed 0] [--streams 1 | 2] \
        [--transfer STRATEGY]

A small BERT of random weights with dropout learns random sentences, shuffled, with validation and a checkpoint every
few steps: by `kft fit` from one source, with any transfer strategy, or by `two_streams.py` from two at once, each with
a head and a loss of its own. A kill comes after a random wait, or at the moment a checkpoint or a validation is under
way; what was under way is printed, and in which stage where the fit has several. Ends with exit code 1 unless weights,
steps and history are identical to the bit.
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


def write_inputs(folder: Path, streams: int, transfer: str) -> Path:
    """Rows of so many sources, a preset and a recipe; returns the recipe without `out`."""
    import keras
    import keras_hub

    draw = random.Random(0)
    rows = [{"text": " ".join(draw.choices(WORDS, k=draw.randint(4, 40)))} for _ in range(STEPS_PER_EPOCH * 8 * 5 // 4)]
    lines = [json.dumps({**row, "label": "late" if "late" in row["text"] else "fine"}) + "\n" for row in rows]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    if streams == 2:
        write_sources(folder, [row["text"] for row in rows])
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
        "transfer": transfer,
    }
    (folder / "recipe.yaml").write_text(json.dumps(knobs), encoding="utf-8")
    return folder / "recipe.yaml"  # JSON is YAML


def write_sources(folder: Path, texts: list[str]) -> None:
    """The files of `two_streams.py`, labels as numbers: of one source, of one with fewer rows, and held back rows."""
    num_train, num_others = STEPS_PER_EPOCH * 8, STEPS_PER_EPOCH * 3 + 1
    files = {
        "rows.jsonl": [(text, int("late" in text)) for text in texts[:num_train]],
        "held_back.jsonl": [(text, int("late" in text)) for text in texts[num_train:]],
        "others.jsonl": [(text, ("lamp" in text) + ("kettle" in text)) for text in texts[-num_others:]],
    }
    for name, rows in files.items():
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
        (folder / name).write_text("".join(lines), encoding="utf-8")


def started(recipe: Path, run_dir: Path, streams: int) -> subprocess.Popen:
    """A fit in a process of its own, begun or resumed."""
    is_begun = (run_dir / "manifest.json").is_file()
    one = [*(["--resume"] if is_begun else [str(recipe), "--out"]), str(run_dir), "--quiet"]
    two = [str(Path(__file__).with_name("two_streams.py")), str(recipe.parent), str(run_dir)]
    command = [sys.executable, *(["-m", "kft.cli", "fit", *one] if streams == 1 else two)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen) -> None:
    """Waits for a fit; ends this program with its message if it failed."""
    message = process.communicate()[1]
    if process.returncode:
        raise SystemExit(message or "the fit failed")


def num_steps(run_dir: Path) -> tuple[int, bool]:
    """Steps recorded so far, and whether the last of an epoch is the latest record: validation is under way."""
    path = run_dir / "history.jsonl"
    kinds = [json.loads(line)["kind"] for line in path.read_text().split("\n")[:-1]] if path.is_file() else []
    steps = kinds.count("step")
    return steps, bool(kinds) and kinds[-1] == "step" and steps % STEPS_PER_EPOCH == 0


def stage_of(run_dir: Path) -> int | None:
    """The stage of the latest record, from 1; None in a fit without stages."""
    path = run_dir / "history.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    stage = json.loads(lines[-1]).get("stage") if lines else None
    return None if stage is None else stage + 1


def what_is_under_way(run_dir: Path) -> str:
    """Read off the files: a checkpoint, a validation, or steps."""
    if any((run_dir / "checkpoints").glob(".partial-*")):
        return "writing a checkpoint"
    return "validation" if num_steps(run_dir)[1] else "training"


def kill_once(run_dir: Path, recipe: Path, streams: int, aim: str, longest_s: float, draw: random.Random) -> str | None:
    """Starts or resumes the fit and kills it; None if it had finished before.

    Args:
        run_dir: Of the fit.
        recipe: To begin it with.
        streams: How many sources it has.
        aim: What should be under way.
        longest_s: The longest wait in training.
        draw: Draws the moments.
    """
    before = len(list((run_dir / "tensorboard").glob("*")))
    process = started(recipe, run_dir, streams)
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
        finished(process)
        return None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    has_finished = json.loads((run_dir / "manifest.json").read_text()).get("finished")
    return None if has_finished else what_is_under_way(run_dir)


def weights(run_dir: Path) -> dict[str, np.ndarray]:
    """Every array of the saved model, backbone and heads."""
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[f"{path.name}/{name}"] = item[()]

    for path in sorted((run_dir / "preset").glob("*.weights.h5")):
        with h5py.File(path) as file:
            file.visititems(add)
    return arrays


def main() -> None:
    """Prints a line a kill and the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--streams", type=int, choices=(1, 2), default=1)
    parser.add_argument("--transfer", default="full", help="With one stream.")
    options = parser.parse_args()
    if options.streams == 2 and options.transfer != "full":
        parser.error("--transfer is for one stream")
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["KFT_CACHE"] = str(folder / "cache")
        recipe = write_inputs(folder, options.streams, options.transfer)
        whole, killed = folder / "whole", folder / "killed"
        finished(started(recipe, whole, options.streams))
        train_s = json.loads((whole / "metrics.json").read_text())["train_s"]
        kills = 0
        while kills < options.kills:
            aim = draw.choice(["training", "training", "writing a checkpoint", "validation"])
            hit = kill_once(killed, recipe, options.streams, aim, train_s / 5, draw)
            if hit is None:
                print(f"finished after {kills} kills")
                break
            kills += 1
            stage = stage_of(killed)
            of_stage = "" if stage is None else f" in stage {stage}"
            print(f"kill {kills}: {hit}{of_stage}, {num_steps(killed)[0]} steps recorded", flush=True)
        else:
            finished(started(recipe, killed, options.streams))
        expected, found = weights(whole), weights(killed)
        differing = [name for name in expected if not np.array_equal(expected[name], found[name])]
        history = [(path / "history.jsonl").read_text() for path in (whole, killed)]
        print(
            f"{os.environ.get('KERAS_BACKEND', 'tensorflow')}, {options.streams} streams, {options.transfer}: "
            f"{kills} kills; {len(expected)} arrays, {len(differing)} differ; "
            f"steps {num_steps(whole)[0]} and {num_steps(killed)[0]}; "
            f"history {'equal' if history[0] == history[1] else 'differs'}"
        )
        if differing or history[0] != history[1] or kills < options.kills:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
