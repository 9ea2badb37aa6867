"""All metrics by the task, in one table: what picks the weights, what reports explain, what searches go by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
from kft.evaluation.metric import Kind, Metric, named
from kft.evaluation.perplexity import LOSS

Choice = Callable[[Mapping[str, Any]], Kind]


def _is_plain(learnt: Mapping[str, Any]) -> bool:
    return learnt["scheme"] == "plain"


KINDS: dict[str, tuple[Choice, tuple[Kind, ...]]] = {
    "answer": (lambda learnt: qa.KIND, (qa.KIND,)),
    "choose": (lambda learnt: classification.CHOICE, (classification.CHOICE,)),
    "classify": (lambda learnt: classification.KIND, (classification.KIND,)),
    "embed": (
        lambda learnt: regression.SIMILARITY if learnt["contrastive"] == "cosine" else retrieval.KIND,
        (retrieval.KIND, regression.SIMILARITY),
    ),
    "extract": (lambda learnt: extraction.KIND, (extraction.KIND,)),
    "fewshot": (lambda learnt: classification.KIND, (classification.KIND,)),
    "generate": (lambda learnt: overlap.KIND, (overlap.KIND,)),
    "joint": (
        lambda learnt: joint_answers.kind(is_plain=_is_plain(learnt["slots"])),
        (joint_answers.kind(is_plain=False), joint_answers.kind(is_plain=True)),
    ),
    "multilabel": (lambda learnt: label_sets.KIND, (label_sets.KIND,)),
    "ordinal": (lambda learnt: ordinal_classes.KIND, (ordinal_classes.KIND,)),
    "pretrain": (lambda learnt: perplexity.KIND, (perplexity.KIND,)),
    "regress": (lambda learnt: regression.KIND, (regression.KIND,)),
    "relate": (lambda learnt: classification.KIND, (classification.KIND,)),
    "tag": (
        lambda learnt: entities.TAGS if _is_plain(learnt) else entities.ENTITIES,
        (entities.ENTITIES, entities.TAGS),
    ),
}
"""By the name of the task: (labels.json) to the kind of its answers, and all the kinds that it may have."""

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (LOSS, *(m for _, kinds in KINDS.values() for kind in kinds for m in kind.metrics))
}
"""Every metric by its name. Where kinds share a name its direction is the same; its meaning is that of one of them."""


def of(task_name: str, learnt: Mapping[str, Any]) -> Kind:
    """The kind of a task's answers.

    Args:
        task_name: The task.
        learnt: What its training rows taught, as in labels.json.

    >>> of("regress", {}).headline.name
    'mae'
    """
    choose, _ = KINDS[task_name]
    return choose(learnt)


def of_names(names: Collection[str]) -> Kind:
    """The kind that most of these metrics belong to, its headline among them."""
    known = [kind for _, kinds in KINDS.values() for kind in kinds if kind.headline.name in names]
    return max(known, key=lambda kind: (len({m.name for m in kind.metrics} & {*names}), -len(kind.metrics)))


def direction(metric_name: str) -> str:
    """Whether a larger ("max") or a smaller ("min") value of a metric is better.

    The prefix `val_`, which Keras puts before metrics of the validation set, may be there or not.

    Raises:
        RecipeError: If there is no metric of that name.

    >>> direction("macro_f1"), direction("val_loss")
    ('max', 'min')
    """
    return named(list(METRICS.values()), metric_name).direction
