"""The drawings of a report: how training went, which labels are confused, how close numbers come."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import ArrayLike

from kft.errors import DataError
from kft.evaluation.classification import most_confused
from kft.evaluation.drawing import BLUE, INK, SERIES, Figure, new_canvas, short_label, style, to_svg
from kft.evaluation.kinds import METRICS

_Line = tuple[str, np.ndarray, np.ndarray]

_MAX_NUMBERED_LABELS = 12
_MAX_POINTS = 200
_MAX_DOTS = 1000
_MIN_ROWS_OF_BIN = 5


def curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss, validation metrics and learning rate over the steps of a run.

    Args:
        history: The lines of `history.jsonl`: `{"kind": "step", "step", "loss", "learning_rate"}` and
            `{"kind": "epoch", "step", "loss", "val_loss", "val_<metric>", ...}`. Other keys are ignored.

    Raises:
        DataError: If no line has a step.
    """
    steps = [line for line in history if line["kind"] == "step"]
    epochs = [line for line in history if line["kind"] == "epoch"]
    if not steps and not epochs:
        raise DataError("Found a history without steps and epochs; expected one line at least. Train first.")
    losses = [*_column(steps or epochs, "loss", "training"), *_column(epochs, "val_loss", "validation")]
    panels = [("Loss", losses)]
    names = sorted({key[4:] for line in epochs for key in line if key.startswith("val_")} - {"loss"})
    for better, word in (("max", "higher"), ("min", "lower")):
        chosen = [name for name in names if name in METRICS and METRICS[name].direction == better]
        title = f"Validation {chosen[0] if len(chosen) == 1 else 'metrics'}, {word} is better"
        panels.append((title, [line for name in chosen for line in _column(epochs, f"val_{name}", name)]))
    panels.append(("Learning rate", _column(steps, "learning_rate", "learning rate")))
    panels = [(title, lines) for title, lines in panels if lines]
    with style():
        canvas = new_canvas(height_inches=1.6 * len(panels) + 0.4)
        axes = canvas.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        for ax, (title, lines) in zip(axes, panels, strict=True):
            _draw_lines(ax, title, lines)
        axes[-1].set_xlabel("training step")
        svg = to_svg(canvas, "curves")
    return Figure("Training", svg, _curves_caption(steps, epochs))


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> Figure:
    """Which labels are answered as which: a heat map of each true label's row, and the worst mistakes.

    Up to 12 labels each cell carries its count; above that the table beside it names the pairs.

    Args:
        matrix: `(labels, labels)` counts, one row per true label, one column per answered label.
        labels: Their names.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    numbered = len(labels) <= _MAX_NUMBERED_LABELS
    names = [short_label(label) for label in labels]
    with style():
        canvas = new_canvas(height_inches=4.4)
        ax = canvas.subplots()
        ax.imshow(_blue_with_opacity(shares), interpolation="nearest")
        ax.set_xlabel("answer")
        ax.set_ylabel("truth")
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        if numbered:
            tilt = 0 if sum(map(len, names)) < 30 else 40
            ax.set_xticks(range(len(names)), names, rotation=tilt, ha="right" if tilt else "center")
            ax.set_yticks(range(len(names)), names)
            _write_counts(ax, counts, shares)
        svg = to_svg(canvas, "confusion")
    worst = most_confused(counts.tolist(), labels, count=5 if numbered else 10)
    table = tuple((truth, answer, f"{rows:,}") for truth, answer, rows in worst)
    if table:
        table = (("truth", "answered", "rows"), *table)
    caption = "Each row is a true label, each column an answer; the bluer, the larger its share of the row."
    if not numbered:
        caption += " Labels are numbered in their order in the table of labels."
    return Figure("Confusion matrix", svg, caption, table)


def scatter(values: ArrayLike, targets: ArrayLike) -> Figure:
    """Predicted numbers against true ones, at most 1,000 evenly chosen rows of them.

    Args:
        values: `(rows,)` float, the predictions.
        targets: `(rows,)` float, the truth.
    """
    values, targets = np.asarray(values, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    drawn = np.unique(np.linspace(0, len(values) - 1, num=min(len(values), _MAX_DOTS), dtype=int))
    ends = [min(values.min(), targets.min()), max(values.max(), targets.max())]
    with style():
        canvas = new_canvas(height_inches=4.4)
        ax = canvas.subplots()
        ax.plot(ends, ends, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
        # A plot of dots is one path with one marker: a third of the size of matplotlib's scatter.
        opacity = float(np.clip(15 / np.sqrt(len(drawn)), 0.3, 0.7))
        dots: dict[str, Any] = {"markersize": 6, "markeredgewidth": 0, "alpha": opacity}
        ax.plot(targets[drawn], values[drawn], ".", color=BLUE, **dots)
        ax.set_xlabel("truth")
        ax.set_ylabel("prediction")
        ax.set_aspect("equal", adjustable="datalim")
        svg = to_svg(canvas, "scatter")
    some = f"{len(drawn):,} of {len(values):,} rows. " if len(drawn) < len(values) else ""
    return Figure("Prediction against truth", svg, f"{some}On the dashed line a prediction is exact.")


def calibration(scores: ArrayLike, targets: ArrayLike, *, num_bins: int = 10) -> Figure:
    """How often the model is right, by its confidence.

    Rows are sorted by confidence (the largest probability) into bins of equal width over [0, 1].
    The line leaves out bins with fewer than 5 rows.

    Args:
        scores: `(rows, labels)` float probabilities.
        targets: `(rows,)` int, ids of the true labels.
        num_bins: How many bins.

    Reference:
        Guo et al., 2017, https://arxiv.org/abs/1706.04599
    """
    scores = np.asarray(scores, dtype=np.float64)
    right = (scores.argmax(axis=1) == np.asarray(targets)).astype(np.float64)
    confidence = np.clip(scores.max(axis=1), 0.0, 1.0)
    counts, edges = np.histogram(confidence, bins=num_bins, range=(0.0, 1.0))
    sums = [np.histogram(confidence, edges, weights=weights)[0] for weights in (confidence, right)]
    filled = counts >= _MIN_ROWS_OF_BIN
    mean_confidence, share_right = (total[filled] / counts[filled] for total in sums)
    with style():
        canvas = new_canvas(height_inches=4.4)
        upper, lower = canvas.subplots(2, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
        upper.plot(mean_confidence, share_right, "o-", color=BLUE, markersize=5, linewidth=1.5)
        upper.set_ylabel("share that is right")
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1.02)
        lower.bar(edges[:-1], counts, width=1 / num_bins, align="edge", color=BLUE, alpha=0.5, linewidth=0)
        lower.set_ylabel("rows")
        lower.set_xlabel("confidence")
        svg = to_svg(canvas, "calibration")
    caption = f"On average the model is {confidence.mean():.1%} sure and {right.mean():.1%} right."
    return Figure("Calibration", svg, caption)


def _column(lines: Sequence[Mapping[str, Any]], key: str, name: str) -> list[_Line]:
    """`[(name, steps, values)]` of one key, or an empty list where no line has it."""
    having = [line for line in lines if line.get(key) is not None]
    if not having:
        return []
    steps, values = (np.array([line[k] for line in having], dtype=np.float64) for k in ("step", key))
    return [(name, *_thinned(steps, values))]


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of equal stretches, so that a million steps are still a small drawing."""
    if len(steps) <= _MAX_POINTS:
        return steps, values
    stretches = [np.array_split(numbers, _MAX_POINTS) for numbers in (steps, values)]
    thinned_steps, thinned_values = (np.array([stretch.mean() for stretch in part]) for part in stretches)
    return thinned_steps, thinned_values


def _draw_lines(ax: Axes, title: str, lines: Sequence[_Line]) -> None:
    for i, (name, steps, values) in enumerate(lines):
        marker = "o" if len(steps) <= 30 else ""
        dash = "-" if i < len(SERIES) else "--"
        colour = SERIES[i % len(SERIES)]
        ax.plot(steps, values, dash, label=name, color=colour, marker=marker, markersize=4, linewidth=1.5)
    ax.set_title(title)
    ax.grid(axis="y", color=INK, alpha=0.12, linewidth=0.5)
    ax.spines["left"].set_visible(False)
    ax.tick_params(length=0)
    # Without it a small learning rate puts its power of ten, alone, on top of the title.
    ax.yaxis.set_major_formatter("{x:.3g}")
    if len(lines) > 1:
        ax.legend(ncols=2)


def _curves_caption(steps: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]]) -> str:
    judged = [line for line in epochs if line.get("val_loss") is not None]
    if not judged:
        return f"{len(steps or epochs):,} recorded {'steps' if steps else 'epochs'}."
    best = min(judged, key=lambda line: line["val_loss"])
    return f"The validation loss was lowest after epoch {best['epoch'] + 1} (step {best['step']:,})."


def _blue_with_opacity(shares: np.ndarray) -> np.ndarray:
    """`(rows, columns, 4)` colours: blue over any background, from nothing for 0 to full for 1."""
    blue = to_rgb(BLUE)
    # The root lifts rare mistakes, which the eye is after, out of the background.
    return np.dstack([*(np.full(shares.shape, part) for part in blue), np.sqrt(shares)])


def _write_counts(ax: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        colour, opacity = "white" if shares[row, column] > 0.5 else INK, 1.0 if count else 0.35
        ax.text(column, row, f"{count:,}", ha="center", va="center", color=colour, alpha=opacity)
