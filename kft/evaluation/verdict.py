"""What a set of metrics says, in sentences that a person takes in at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kft.errors import DataError
from kft.evaluation.metrics import most_confused, scalars

SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class Verdict:
    """How good a model is, and where it fails.

    Attributes:
        split: The name of the metrics that were judged.
        headline: The one thing to know.
        sentences: What to know next.
    """

    split: str
    headline: str
    sentences: tuple[str, ...]


def verdict(metrics: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """The verdict on `test`, or where there is none on `validation`, or on the first set of metrics given.

    Every name that is not a split (`bag of words`, say) is a rival, and the verdict compares with it.

    Args:
        metrics: `{split or rival: metrics}` as `kft.evaluation.metrics` makes them.

    Raises:
        DataError: If there are no metrics.

    >>> from kft.evaluation.metrics import regression
    >>> verdict({"test": regression([1.0, 3.0], [1.0, 2.0])}).headline
    'Off by 0.500 on average over 2 test rows.'
    """
    if not metrics:
        raise DataError("Found no metrics; expected those of one split at least. Evaluate before reporting.")
    split = next((name for name in SPLITS if name in metrics), next(iter(metrics)))
    found = metrics[split]
    others = {name: rival for name, rival in metrics.items() if name not in (*SPLITS, split)}
    if "accuracy" in found:
        sentences = [*_class_sentences(found), *_rival_sentences(found, others)]
        return Verdict(split, _right_of(split, found), tuple(sentences))
    if "mae" in found:
        headline = f"Off by {number(found['mae'])} on average over {found['num_rows']:,} {split} rows."
        return Verdict(split, headline, (_correlation(found), *_rival_sentences(found, others)))
    parts = [f"{name} {number(value)}" for name, value in scalars(found).items()]
    return Verdict(split, f"{', '.join(parts) or 'No single number'} on the {split} rows.", ())


def number(value: float | int) -> str:
    """A number as people read it: three digits after the point where it is small, none where it is huge.

    >>> number(0.90361), number(1234567), number(12345.678), number(0.00002)
    ('0.904', '1,234,567', '12,345.7', '2e-05')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if 0 < abs(value) < 0.001:
        return f"{value:.3g}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.3f}"


def _right_of(split: str, found: Mapping[str, Any]) -> str:
    num_right = round(found["accuracy"] * found["num_rows"])
    return f"Right in {num_right:,} of {found['num_rows']:,} {split} rows: {found['accuracy']:.1%}."


def _class_sentences(found: Mapping[str, Any]) -> list[str]:
    if "confusion" not in found and "confused" not in found:
        return []
    labels = list(found["per_class"])
    if "confused" in found:
        mistakes = [tuple(pair) for pair in found["confused"]]
    else:
        mistakes = most_confused(found["confusion"], labels, count=1)
    if not mistakes:
        return ["It made no mistakes on these rows."]
    occurring = [label for label in labels if found["per_class"][label]["support"]]
    weakest = min(occurring, key=lambda label: found["per_class"][label]["f1"])
    score, (truth, answer, rows) = found["per_class"][weakest], mistakes[0]
    share = rows / found["per_class"][truth]["support"]
    return [
        f"Weakest on “{weakest}”: F1 {number(score['f1'])} over {_rows(score['support'])}.",
        f"Most frequent mistake: “{truth}” answered as “{answer}”, {_rows(rows)} ({share:.0%} of “{truth}”).",
    ]


def _correlation(found: Mapping[str, Any]) -> str:
    return (
        f"Predictions and truth correlate by {number(found['pearson'])} (Pearson) and "
        f"{number(found['spearman'])} (Spearman); R² is {number(found['r2'])}."
    )


def _rival_sentences(found: Mapping[str, Any], rivals: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for the strongest rival."""
    if not rivals:
        return []
    if "accuracy" in found:
        name = max(rivals, key=lambda rival: rivals[rival]["accuracy"])
        points = 100 * (found["accuracy"] - rivals[name]["accuracy"])
        where = "above" if points >= 0 else "below"
        return [f"{abs(points):.1f} points {where} {name} ({rivals[name]['accuracy']:.1%})."]
    name = min(rivals, key=lambda rival: rivals[rival]["mae"])
    return [f"The strongest rival, {name}, is off by {number(rivals[name]['mae'])}."]


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
