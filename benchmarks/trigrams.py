"""A causal language model from nothing against trigrams of the same tokens, by perplexity on held-out text.

    .venv/bin/python benchmarks/trigrams.py TEXT.txt [--epochs 6] [--out DIR]

The last tenth of the paragraphs is held out. kft trains a byte-level BPE tokenizer and a small GPT-2 on the rest; the
trigrams are those of nltk over the very same tokens, interpolated with bigrams and unigrams by absolute discounting or
as Witten and Bell do, whichever foresees the held-out text better. Every token of the vocabulary is counted once more,
so that none is impossible.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from nltk import lm
from nltk.util import everygrams

import kft

ORDER = 3
START = ("<first>", "<second>")
"""Stand for the tokens before the first."""


def paragraphs(path: Path) -> list[str]:
    """What blank lines part."""
    return [part.strip() for part in path.read_text(encoding="utf-8").split("\n\n") if part.strip()]


def trigram_perplexity(train: list[str], test: list[str], vocabulary: list[str]) -> dict[str, float]:
    """Perplexity of a stream of tokens, by smoothing."""
    found = {}
    for name, model in (
        ("absolute discounting", lm.AbsoluteDiscountingInterpolated(ORDER)),
        ("Witten-Bell", lm.WittenBellInterpolated(ORDER)),
    ):
        model.fit([everygrams([*START, *train], max_len=ORDER)], [*START, *vocabulary])
        model.fit([[(token,)] for token in vocabulary])
        padded = [*START, *test]
        logs = [model.logscore(token, padded[i : i + 2]) for i, token in enumerate(test)]
        found[name] = 2 ** -(math.fsum(logs) / len(logs))
    return found


def main() -> None:
    """Prints both perplexities and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("text", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--vocabulary-size", type=int, default=2000)
    parser.add_argument("--out", default=None, help="where the run is kept; runs/pretrain-<number> by default")
    options = parser.parse_args()
    texts = paragraphs(options.text)
    cut = len(texts) * 9 // 10
    run = kft.fit(
        [{"text": text} for text in texts[:cut]],
        task="pretrain",
        preset="scratch:gpt2",
        validation=0,
        test=[{"text": text} for text in texts[cut:]],
        allow_leaks=True,
        epochs=options.epochs,
        batch_size=8,
        learning_rate=1e-3,
        num_layers=3,
        hidden_dim=192,
        num_heads=6,
        vocabulary_size=options.vocabulary_size,
        max_length=128,
        out=options.out,
    )
    tokenizer = run.model.preprocessor.tokenizer

    def stream(part: list[str]) -> list[str]:
        return [str(int(token)) for text in part for token in [*tokenizer(text), tokenizer.end_token_id]]

    train, test = stream(texts[:cut]), stream(texts[cut:])
    by_smoothing = trigram_perplexity(train, test, list(map(str, range(tokenizer.vocabulary_size()))))
    best, model = min(by_smoothing.values()), run.metrics["test"]["perplexity"]
    print(f"{len(train)} tokens to learn from, {len(test)} held out, {tokenizer.vocabulary_size()} different ones")
    print("trigrams: " + ", ".join(f"{name} {value:.2f}" for name, value in by_smoothing.items()))
    print(f"kft, {options.epochs} epochs: {model:.2f}, which is {model / best:.2f} of the trigrams' best")


if __name__ == "__main__":
    main()
