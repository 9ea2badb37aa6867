"""The report of a run: one HTML file that says how good a model is and where it fails.

It needs nothing from outside, so it opens offline and from an archive years later.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from kft import disk
from kft.evaluation.classification import MOST_LABELS
from kft.evaluation.drawing import Figure
from kft.evaluation.metric import BETTER, Kind, Metric, number
from kft.evaluation.slices import sentence
from kft.evaluation.verdict import verdict

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
    kind: Kind,
    baselines: Mapping[str, Mapping[str, Any]],
    figures: Sequence[Figure],
    examples: Sequence[Mapping[str, Any]],
) -> Path:
    """Write the report as one self-contained HTML file; an older one is replaced in one step.

    Args:
        path: Where it goes, in a directory that exists.
        title: What the run is called.
        facts: `(name, value)` pairs worth knowing: task, preset, rows, time.
        history: The lines of `history.jsonl`; those of `"kind": "epoch"` become a table.
        metrics: `{split: metrics}`. `test` is judged, or else `validation`.
        kind: Of the answers.
        baselines: `{name: metrics}` of simpler models on the rows that are judged.
        figures: From `kft.evaluation.figures`, in the order to show them.
        examples: The worst rows, from `kft.evaluation.worst_rows`: `{"texts": [str, ...], "truth", "answer", "why"}`.

    Returns:
        The path written.

    Raises:
        DataError: If there are no metrics.
        RunError: If the file cannot be written.
    """
    judged = verdict(metrics, kind, baselines)
    values = metrics[judged.split]
    environment = Environment(
        loader=PackageLoader("kft.evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = {**metrics, **{f"baseline: {name}": found for name, found in baselines.items()}}
    page = environment.get_template("report.html.j2").render(
        title=title,
        verdict=judged,
        tiles=_tiles(values, kind),
        baselines=_bars(values, baselines, kind.headline),
        headline=kind.headline,
        better=BETTER[kind.headline.direction],
        figures=figures,
        slices=_slices(values, kind),
        labels=_labels(values),
        num_labels_shown=_NUM_LABELS_SHOWN,
        most_labels=MOST_LABELS,
        support=kind.support,
        examples=[_example(example) for example in examples],
        splits=list(named),
        metrics=_metric_rows(named, kind),
        epochs=_epoch_rows(history),
        facts=[(name, _cell(value)) for name, value in facts],
    )
    disk.write_text(path, page, errors="replace")
    return Path(path)


def _tiles(values: Mapping[str, Any], kind: Kind) -> list[tuple[str, str, str]]:
    """`(metric, number, meaning)` of the metrics to show large, the headline first."""
    known = [metric for metric in kind.metrics if metric.name in values]
    tiles = [metric for metric in known if metric.headline or metric.name not in _SECONDARY]
    tiles.sort(key=lambda metric: not metric.headline)
    return [(metric.name, metric.written(values[metric.name]), metric.meaning) for metric in tiles]


def _bars(
    values: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]], metric: Metric
) -> list[tuple[str, str, float]]:
    """`(name, number, length of its bar in percent)` of the model and the baselines, or nothing without any."""
    compared = {name: found[metric.name] for name, found in baselines.items() if metric.name in found}
    if not compared:
        return []
    compared = {"this model": values[metric.name], **compared}
    longest = 1.0 if metric.is_share else max(compared.values())
    return [
        (name, metric.written(value), round(100 * max(value, 0.0) / longest, 1) if longest > 0 else 0.0)
        for name, value in compared.items()
    ]


def _labels(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The labels with their scores, weakest first and those without rows last."""
    rows = [{"id": i, "name": name, **score} for i, (name, score) in enumerate(values.get("per_class", {}).items())]
    return sorted(rows, key=lambda row: (row["support"] == 0, row["f1"]))


def _slices(values: Mapping[str, Any], kind: Kind) -> list[tuple[str, list[list[str]]]]:
    """For each column that rows are scored by: a sentence, and a table of its values, the worst first."""
    found = []
    for column, about in values.get("by", {}).items():
        named = about["values"]
        known = [metric for metric in kind.metrics if any(metric.name in each for each in named.values())]
        known.sort(key=lambda metric: not metric.headline)
        headline, sign = kind.headline.name, 1 if kind.headline.direction == "max" else -1
        order = sorted(named, key=lambda name: (headline not in named[name], sign * named[name].get(headline, 0.0)))
        rows = [
            [name, _cell(named[name]["num_rows"])]
            + [
                metric.written(named[name][metric.name]) if metric.name in named[name] else _cell(None)
                for metric in known
            ]
            for name in order
        ]
        found.append((sentence(column, about, kind), [[column, "num_rows", *(m.name for m in known)], *rows]))
    return found


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "texts": [_cut(str(text)) for text in example["texts"]],
        "truth": _cell(example["truth"]),
        "answer": _cell(example["answer"]),
        "why": example["why"],
    }


def _metric_rows(named: Mapping[str, Mapping[str, Any]], kind: Kind) -> list[tuple[str, str, list[str]]]:
    """`(metric, meaning, one cell for each set of metrics)`, the row count last."""
    given = {name for values in named.values() for name in values}
    rows = [
        (
            metric.name,
            f"{metric.meaning}; {BETTER[metric.direction]} is better",
            [
                metric.written(values[metric.name]) if metric.name in values else _cell(None)
                for values in named.values()
            ],
        )
        for metric in kind.metrics
        if metric.name in given
    ]
    counts = [_cell(values.get("num_rows")) for values in named.values()]
    return [*rows, ("num_rows", "how many rows were answered", counts)] if "num_rows" in given else rows


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
