"""What a multilingual preset that learns from one language scores on others, whole and with a pruned vocabulary.

    python benchmarks/cross_lingual.py PRESET DATA [--train eng_Latn] [--transfer full] [--seeds 0 1 2]

DATA is a directory with a folder for each language, as SIB-200 is (https://github.com/dadelani/sib-200): train.tsv,
dev.tsv and test.tsv with the columns `category` and `text`. Each language that has a test.tsv is scored. Prints a line
for each seed and vocabulary: parameters of the backbone, seconds of training, the accuracy of the language that was
trained on, the mean over the others, and the worst. With an adapter the whole vocabulary alone is measured.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import kft
from kft.models.presets import count_parameters
from kft.transfer import strategies


def rows_of(folder, part):
    """The rows of a part of a language."""
    with Path(folder, f"{part}.tsv").open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [{"text": row["text"], "category": row["category"], "language": Path(folder).name} for row in lines]


def main():
    """Fits with each seed and vocabulary, and prints what they score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", default="eng_Latn")
    parser.add_argument("--transfer", default="full")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args()
    own = asked.data / asked.train
    test = [row for path in sorted(asked.data.glob("*/test.tsv")) for row in rows_of(path.parent, "test")]
    knobs = {"text": "text", "label": "category", "preset": asked.preset, "transfer": asked.transfer, "quiet": True}
    knobs["learning_rate"] = asked.learning_rate
    vocabularies = (False,) if strategies.is_small(asked.transfer) else (False, True)
    for seed in asked.seeds:
        for is_pruned in vocabularies:
            with tempfile.TemporaryDirectory() as folder:
                run = kft.fit(
                    rows_of(own, "train"),
                    validation=rows_of(own, "dev"),
                    test=test,
                    evaluate_by="language",
                    prune_vocabulary=is_pruned,
                    epochs=asked.epochs,
                    seed=seed,
                    out=f"{folder}/run",
                    **knobs,
                )
                values = run.metrics["test"]["by"]["language"]["values"]
                accuracy = {language: found["accuracy"] for language, found in values.items()}
                others = {language: value for language, value in accuracy.items() if language != asked.train}
                worst = min(others, key=others.get)
                size = f"{count_parameters(run.model.backbone):,} parameters"
                told = [
                    f"seed {seed}",
                    "pruned" if is_pruned else "whole",
                    size,
                    f"training {run.metrics['train_s']:.0f} s",
                    f"{asked.train} {accuracy[asked.train]:.3f}",
                    f"mean of {len(others)} others {sum(others.values()) / len(others):.3f}",
                    f"worst {worst} {others[worst]:.3f}",
                ]
                print("  ".join(told), flush=True)


if __name__ == "__main__":
    main()
