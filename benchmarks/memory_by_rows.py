"""Peak memory of a fit on 200,000 rows over that on 20,000, the same number of steps each: flat is 1.

    .venv/bin/python benchmarks/memory_by_rows.py

Each fit runs in a process of its own, with its own empty token cache; rows are made of random English words.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

FEW, MANY, STEPS = 20_000, 200_000, 20
WORDS = [
    "the",
    "order",
    "lamp",
    "came",
    "late",
    "and",
    "broken",
    "please",
    "send",
    "another",
    "one",
    "today",
    "my",
    "account",
    "does",
    "not",
    "open",
    "since",
    "the",
    "update",
    "why",
    "was",
    "I",
    "charged",
    "twice",
    "for",
    "a",
    "kettle",
    "that",
    "I",
    "never",
    "ordered",
    "it",
    "works",
    "well",
    "thank",
    "you",
    "very",
    "much",
    "for",
    "your",
    "help",
]


def write_rows(path: Path, count: int) -> None:
    """Writes rows of 4 to 24 random words in two classes, all different."""
    random.seed(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for number in range(count):
            text = " ".join(random.choices(WORDS, k=random.randint(4, 24)))
            file.write(f"{text} {number},{random.choice(('good', 'bad'))}\n")


def peak_memory_mb(rows: Path, count: int, folder: Path) -> float:
    """Peak memory of the process that fits these rows, 500 of which validate."""
    command = [sys.executable, "-m", "kft.cli", "fit", str(rows), "--max-steps", str(STEPS), "--max-length", "64"]
    command += ["--validation", str(500 / count), "--out", str(folder / "run"), "--quiet"]
    environment = {**os.environ, "KFT_CACHE": str(folder / "cache"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["peak_memory_mb"]


def main() -> None:
    """Prints both peaks and their ratio."""
    found = {}
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder, "rows.csv")
            write_rows(rows, count)
            found[count] = peak_memory_mb(rows, count, Path(folder))
            print(f"{count:>9,} rows: {found[count]:,.0f} MB", flush=True)
    print(f"ratio {found[MANY] / found[FEW]:.2f}")


if __name__ == "__main__":
    main()
