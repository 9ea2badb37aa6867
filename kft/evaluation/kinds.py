"""All metrics by the task, in one table: what picks the weights, what reports explain, what searches go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kft.evaluation import (
    classification,
    entities,
    extraction,
    joint_answers,
    label_sets,
    ordinal_classes,
    overlap,
    perplexity,
    qa,
    regression,
    retrieval,
)
from kft.evaluation.metric import BETTER, Kind, Metric, named
from kft.evaluation.perplexity import LOSS

Choice = Callable[[Mapping[str, Any]], Kind]


def _is_plain(label_spec: Mapping[str, Any]) -> bool:
    return label_spec["scheme"] == "plain"


KINDS: dict[str, tuple[Choice, tuple[Kind, ...]]] = {
    "answer": (lambda label_spec: qa.KIND, (qa.KIND,)),
    "choose": (lambda label_spec: classification.CHOICE, (classification.CHOICE,)),
    "classify": (lambda label_spec: classification.KIND, (classification.KIND,)),
    "embed": (
        lambda label_spec: regression.SIMILARITY if label_spec["contrastive"] == "cosine" else retrieval.KIND,
        (retrieval.KIND, regression.SIMILARITY),
    ),
    "extract": (lambda label_spec: extraction.KIND, (extraction.KIND,)),
    "fewshot": (lambda label_spec: classification.KIND, (classification.KIND,)),
    "generate": (lambda label_spec: overlap.KIND, (overlap.KIND,)),
    "joint": (
        lambda label_spec: joint_answers.kind(is_plain=_is_plain(label_spec["slots"])),
        (joint_answers.kind(is_plain=False), joint_answers.kind(is_plain=True)),
    ),
    "multilabel": (lambda label_spec: label_sets.KIND, (label_sets.KIND,)),
    "ordinal": (lambda label_spec: ordinal_classes.KIND, (ordinal_classes.KIND,)),
    "pretrain": (lambda label_spec: perplexity.KIND, (perplexity.KIND,)),
    "regress": (lambda label_spec: regression.KIND, (regression.KIND,)),
    "relate": (lambda label_spec: classification.KIND, (classification.KIND,)),
    "tag": (
        lambda label_spec: entities.TAGS if _is_plain(label_spec) else entities.ENTITIES,
        (entities.ENTITIES, entities.TAGS),
    ),
}
"""By the name of the task: (labels.json) to the kind of its answers, and all the kinds that it may have."""

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (LOSS, *(m for _, kinds in KINDS.values() for kind in kinds for m in kind.metrics))
}
"""Every metric by its name. Where kinds share a name its direction is the same; its meaning is that of one of them."""


def of(task_name: str, label_spec: Mapping[str, Any]) -> Kind:
    """The kind of a task's answers.

    Args:
        task_name: The task.
        label_spec: What the targets of its training rows taught, as in labels.json. Its `aux` are further heads.

    >>> of("regress", {}).headline.name
    'mae'
    """
    choose, _ = KINDS[task_name]
    kind = choose(label_spec)
    for name, head in label_spec.get("aux", {}).items():
        kind = _beside(kind, name, of(head["task"], head["labels"]))
    return kind


def _beside(own: Kind, name: str, other: Kind) -> Kind:
    """The kind of the answers of a task and of a further head, which a sentence of its own tells about."""
    metrics = tuple(
        replace(one, name=f"{name}/{one.name}", meaning=f"of head {name}: {one.meaning}", headline=False)
        for one in other.metrics
    )

    def details(values: Mapping[str, Any]) -> list[str]:
        found = {key.removeprefix(f"{name}/"): value for key, value in values.items() if key.startswith(f"{name}/")}
        sentence = other.sentence({**found, "num_rows": values["num_rows"]}, "rows")
        return [*own.details(values), f"Head {name}: {sentence[0].lower()}{sentence[1:]}"]

    return replace(own, metrics=(*own.metrics, *metrics), details=details)


def direction(metric_name: str) -> str:
    """Whether a larger ("max") or a smaller ("min") value of a metric is better.

    The prefix `val_`, which Keras puts before metrics of the validation set, may be there or not.

    Raises:
        RecipeError: If there is no metric of that name.

    >>> direction("macro_f1"), direction("val_loss")
    ('max', 'min')
    """
    return named(list(METRICS.values()), metric_name).direction


PAGE = """# Metrics

What metrics.json has of each kind of answers, computed over all rows of a part at once and in float64. The first of
each table is the one that a report judges by and compares baselines by. `save_best_by` takes those that are computed
of validation rows while a model trains; which one it takes by default, the page of the task says.

This page is made from `kft/evaluation/kinds.py`: `make metrics` writes it anew.
"""


def table() -> str:
    """All metrics by kind as tables of Markdown: docs/metrics.md."""
    tasks: dict[str, list[str]] = {}
    kinds: dict[str, Kind] = {}
    for task_name, (_, several) in KINDS.items():
        for kind in several:
            kinds.setdefault(kind.name, kind)
            tasks.setdefault(kind.name, []).append(task_name)
    page = [PAGE]
    for name, kind in kinds.items():
        used = ", ".join(dict.fromkeys(tasks[name]))
        page.append(f"## {name[0].upper()}{name[1:]}\n\nTask: {used}.\n")
        page.append("| metric | better | what it is |\n|---|---|---|")
        rows = sorted(kind.metrics, key=lambda metric: not metric.headline)
        page += [f"| `{metric.name}` | {BETTER[metric.direction]} | {metric.meaning} |" for metric in rows]
        page.append("")
    return "\n".join(page)
