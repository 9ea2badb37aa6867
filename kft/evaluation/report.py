"""The report of a run: one HTML file that says how good a model is and where it fails.

It needs nothing from outside, so it opens offline and from an archive years later.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import ArrayLike

from kft import disk
from kft.evaluation.drawing import Figure
from kft.evaluation.metrics import MOST_LABELS, scalars
from kft.evaluation.verdict import SPLITS, number, verdict

MEANINGS = {
    "accuracy": "share of rows answered rightly",
    "f1": "precision and recall of the second label in one",
    "macro_f1": "F1, each label counting alike",
    "micro_f1": "F1, each row counting alike",
    "weighted_f1": "F1, labels counting by their rows",
    "mcc": "correlation of answer and truth; 0 is chance",
    "log_loss": "surprise at the truth, in nats; lower is better",
    "pearson": "linear correlation with the truth",
    "spearman": "how well the order is kept",
    "mae": "average miss, in the unit of the target",
    "rmse": "miss, large ones weighing more",
    "r2": "share of the variance explained",
    "loss": "what training made small",
}

# In the table of all numbers, but no tiles: they say what accuracy and macro F1 say already.
_SECONDARY = {"micro_f1", "weighted_f1"}
_MAX_CHARACTERS = 800
_NUM_LABELS_SHOWN = 10


def write(
    path: str | Path,
    *,
    title: str,
    facts: Sequence[tuple[str, Any]],
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Mapping[str, Any]],
    figures: Sequence[Figure],
    examples: Sequence[Mapping[str, Any]],
) -> Path:
    """Write the report as one self-contained HTML file; an older one is replaced in one step.

    Args:
        path: Where it goes, in a directory that exists.
        title: What the run is called.
        facts: `(name, value)` pairs worth knowing: task, preset, rows, time.
        history: The lines of `history.jsonl`; those of `"kind": "epoch"` become a table.
        metrics: `{name: metrics}` as `kft.evaluation.metrics` makes them. `test` is judged, or else
            `validation`; names that are not splits are shown as rivals.
        figures: From `kft.evaluation.figures`, in the order to show them.
        examples: The worst rows, `{"texts": [str, ...], "truth", "answer", "score", "why"}`. `score` is the
            confidence in [0, 1] of an answered label, or how far an answered number is off.

    Returns:
        The path written.

    Raises:
        DataError: If there are no metrics.
        RunError: If the file cannot be written.
    """
    judged = verdict(metrics)
    found = metrics[judged.split]
    environment = Environment(
        loader=PackageLoader("kft.evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        verdict=judged,
        tiles=_tiles(found),
        rivals=_rivals(metrics, judged.split),
        rivals_meaning="accuracy, more is better" if "accuracy" in found else "average miss, less is better",
        figures=figures,
        labels=_labels(found),
        num_labels_shown=_NUM_LABELS_SHOWN,
        most_labels=MOST_LABELS,
        examples=[_example(example, is_label="accuracy" in found) for example in examples],
        splits=list(metrics),
        metrics=_metric_rows(metrics),
        epochs=_epoch_rows(history),
        facts=[(name, _cell(value)) for name, value in facts],
    )
    disk.write_text(path, page, errors="replace")
    return Path(path)


def worst_classified(scores: ArrayLike, targets: ArrayLike, count: int = 20) -> list[int]:
    """The rows answered wrongly with the highest confidence, most confident first.

    Args:
        scores: `(rows, labels)` float probabilities.
        targets: `(rows,)` int, ids of the true labels.
        count: How many rows at most.

    >>> worst_classified([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]], [1, 1, 1])
    [1, 0]
    """
    scores = np.asarray(scores, dtype=np.float64)
    wrong = np.flatnonzero(scores.argmax(axis=1) != np.asarray(targets))
    order = np.argsort(-scores[wrong].max(axis=1), kind="stable")
    return wrong[order][:count].tolist()


def worst_regressed(values: ArrayLike, targets: ArrayLike, count: int = 20) -> list[int]:
    """The rows whose predicted number is furthest from the truth, furthest first; exact ones are left out.

    Args:
        values: `(rows,)` float, the predictions.
        targets: `(rows,)` float, the truth.
        count: How many rows at most.

    >>> worst_regressed([1.0, 5.0, 2.0], [1.5, 1.0, 2.0])
    [1, 0]
    """
    misses = np.abs(np.asarray(values, dtype=np.float64) - np.asarray(targets, dtype=np.float64))
    order = np.argsort(-misses, kind="stable")
    return order[misses[order] > 0][:count].tolist()


def _tiles(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """`(metric, number, meaning)` of the metrics to show large."""
    shown = {name: value for name, value in scalars(found).items() if name not in _SECONDARY}
    return [(name, number(value), MEANINGS.get(name, "")) for name, value in shown.items()]


def _rivals(metrics: Mapping[str, Mapping[str, Any]], split: str) -> list[tuple[str, str, float]]:
    """`(name, number, length of its bar in percent)` of the model and its rivals, or nothing without any."""
    compared = {name: found for name, found in metrics.items() if name == split or name not in SPLITS}
    key = "accuracy" if "accuracy" in metrics[split] else "mae"
    if len(compared) < 2 or key not in metrics[split]:
        return []
    longest = 1.0 if key == "accuracy" else max(found[key] for found in compared.values()) or 1.0
    names = {split: "this model"}
    return [
        (
            names.get(name, name),
            f"{found[key]:.1%}" if key == "accuracy" else number(found[key]),
            round(100 * found[key] / longest, 1),
        )
        for name, found in compared.items()
    ]


def _labels(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The labels with their scores, weakest first and those without rows last."""
    rows = [{"id": i, "name": name, **score} for i, (name, score) in enumerate(found.get("per_class", {}).items())]
    return sorted(rows, key=lambda row: (row["support"] == 0, row["f1"]))


def _example(example: Mapping[str, Any], *, is_label: bool) -> dict[str, Any]:
    score = f"{example['score']:.0%} sure" if is_label else f"off by {number(float(example['score']))}"
    return {
        "texts": [_cut(str(text)) for text in example["texts"]],
        "truth": _cell(example["truth"]),
        "answer": _cell(example["answer"]),
        "score": score,
        "why": example["why"],
    }


def _metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, list[str]]]:
    """`(metric, meaning, one cell for each set of metrics)`, the row count last."""
    names = [*dict.fromkeys(name for found in metrics.values() for name in scalars(found)), "num_rows"]
    meanings = {**MEANINGS, "num_rows": "how many rows were answered"}
    return [(name, meanings.get(name, ""), [_cell(found.get(name)) for found in metrics.values()]) for name in names]


def _epoch_rows(history: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The epochs as cells, counted from 1, the first row being the header."""
    epochs = [{**line, "epoch": line["epoch"] + 1} for line in history if line["kind"] == "epoch"]
    names = [name for name in dict.fromkeys(key for line in epochs for key in line) if name != "kind"]
    return [names, *([_cell(line.get(name)) for name in names] for line in epochs)] if epochs else []


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return number(value) if is_number else str(value)


def _cut(text: str) -> str:
    left_out = len(text) - _MAX_CHARACTERS
    return text if left_out <= 0 else f"{text[:_MAX_CHARACTERS]}… ({left_out:,} characters more)"
