"""Metrics of a label and tags for each text: those of the tags, of the labels, and of both at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kft.evaluation import entities
from kft.evaluation.metric import Kind, Mean, Metric, count_of, evaluate, number


def row_scores(
    is_right: ArrayLike, truth: Sequence[Sequence[str]], answered: Sequence[Sequence[str]], *, is_plain: bool
) -> tuple[dict[str, np.ndarray], list[str]]:
    """What `entities.row_scores` gives, with `label_right` and `exact_match` (the label and all tags) of each row.

    Args:
        is_right: `(rows,)` whether the label is right.
        truth: The true tags of each row.
        answered: As many.
        is_plain: Whether tags are classes of words, rather than of entities.
    """
    rows, names = entities.row_scores(truth, answered, is_plain=is_plain)
    label_right = np.asarray(is_right, bool)
    same = np.array([list(a) == list(b) for a, b in zip(truth, answered, strict=True)], bool)
    return {**rows, "label_right": label_right, "exact_match": label_right & same}, names


def scored(
    is_right: ArrayLike, truth: Sequence[Sequence[str]], answered: Sequence[Sequence[str]], *, is_plain: bool
) -> dict[str, Any]:
    """`intent_accuracy`, `exact_match`, and what `entities.scored` gives; the arguments are those of `row_scores`."""
    rows, _ = row_scores(is_right, truth, answered, is_plain=is_plain)
    return {**evaluate(METRICS, rows), **entities.scored(truth, answered, is_plain=is_plain)}


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    return (
        f"Label and all tags right in {count_of(values['exact_match'], values['num_rows'])} {rows}: "
        f"{values['exact_match']:.1%}."
    )


def _details(values: Mapping[str, Any]) -> list[str]:
    tags = (
        f"entity F1 {number(values['entity_f1'])}"
        if "entity_f1" in values
        else f"the right tag for {values['token_accuracy']:.1%} of the words"
    )
    return [f"The label is right in {values['intent_accuracy']:.1%}; {tags}."]


METRICS = (
    Metric("intent_accuracy", "max", "share of rows with the right label", False, Mean("label_right"), is_share=True),
    Metric(
        "exact_match",
        "max",
        "share of rows with label and tags all right",
        True,
        Mean("exact_match"),
        is_share=True,
    ),
)


def kind(*, is_plain: bool) -> Kind:
    """The kind of a label with plain tags, or with entities."""
    tags = entities.TAG_METRICS if is_plain else entities.ENTITY_METRICS
    secondary = (dataclasses.replace(metric, headline=False) for metric in tags)
    support = "words" if is_plain else "entities"
    name = "label and tags" if is_plain else "label and entities"
    return Kind(name, (*METRICS, *secondary), _sentence, _details, support)
