"""What a set of metrics says, in sentences that a person takes in at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kft.errors import DataError
from kft.evaluation.metric import Kind, number

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


def verdict(
    metrics: Mapping[str, Mapping[str, Any]], kind: Kind, baselines: Mapping[str, Mapping[str, Any]] | None = None
) -> Verdict:
    """The verdict on `test`, or where there is none on `validation`, or on `train`.

    Args:
        metrics: `{split: metrics}`.
        kind: Of the answers; it says which metric is the headline, and how it reads.
        baselines: `{name: metrics}` of simpler models on the rows that are judged.

    Raises:
        DataError: If there are no metrics of a split.

    >>> from kft.evaluation import regression
    >>> verdict({"test": regression.scored([1.0, 3.0], [1.0, 2.0])}, regression.KIND).headline
    'Off by 0.500 on average over 2 test rows.'
    """
    split = judged_split(metrics)
    values = metrics[split]
    rows = f"{split} row" if values.get("num_rows") == 1 else f"{split} rows"
    sentences = [*kind.details(values), *_comparison(values, kind, baselines or {})]
    return Verdict(split, kind.sentence(values, rows), tuple(sentences))


def judged_split(metrics: Mapping[str, Any]) -> str:
    """The split whose rows the model has seen least of.

    Raises:
        DataError: There is none.
    """
    for name in SPLITS:
        if name in metrics:
            return name
    raise DataError("Found no metrics; expected those of one split at least. Evaluate before reporting.")


def _comparison(values: Mapping[str, Any], kind: Kind, baselines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence on the strongest baseline."""
    metric = kind.headline
    compared = {name: found[metric.name] for name, found in baselines.items() if metric.name in found}
    if not compared:
        return []
    name = max(compared, key=lambda one: metric.gain(compared[one], 0.0))
    gain = metric.gain(values[metric.name], compared[name])
    amount = f"{abs(100 * gain):.1f} points" if metric.is_share else number(abs(gain))
    better = "better" if gain >= 0 else "worse"
    return [f"{amount} {better} than the baseline “{name}”, by {metric.name} ({metric.written(compared[name])})."]
