"""Metrics of tags, one for each word, and of the entities that they make; entities are read by seqeval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kft.evaluation import counts
from kft.evaluation.metric import Kind, Metric, RowScores, evaluate, number

OUTSIDE = "O"
Span = tuple[int, int, str]


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities of tags in any scheme, as type, first and last word; odd sequences are read as conlleval does.

    >>> entities(["B-PER", "I-PER", "O", "S-LOC"])
    [('PER', 0, 1), ('LOC', 3, 3)]
    """
    from seqeval.metrics.sequence_labeling import get_entities

    return get_entities(_seqeval(tags))


def _seqeval(tags: Sequence[str]) -> list[str]:
    """Tags with the prefixes that seqeval knows: those of BILOU become E and S."""
    return [{"L-": "E-", "U-": "S-"}.get(tag[:2], tag[:2]) + tag[2:] for tag in tags]


def of_spans(spans: Sequence[Span], length: int) -> list[str]:
    """A BIO tag for each of `length` characters.

    >>> of_spans([(1, 3, "LOC")], 4)
    ['O', 'B-LOC', 'I-LOC', 'O']
    """
    tags = [OUTSIDE] * length
    for start, end, kind in spans:
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return tags


def at_words(spans: Sequence[Span], places: Sequence[tuple[int, int]]) -> list[str]:
    """The BIO tags of words by entities in characters: a word's is that of the first one that reaches into it.

    Args:
        spans: Start, end and type, in order.
        places: Start and end of each word, in order.

    >>> at_words([(0, 8, "LOC")], [(0, 3), (4, 8), (9, 11)])
    ['B-LOC', 'I-LOC', 'O']
    """
    tags: list[str] = []
    number, before = 0, -1
    for start, end in places:
        while number < len(spans) and spans[number][1] <= start:
            number += 1
        if number == len(spans) or spans[number][0] >= end:
            tags.append(OUTSIDE)
            before = -1
            continue
        tags.append(("I-" if number == before else "B-") + spans[number][2])
        before = number
    return tags


def row_scores(
    truth: Sequence[Sequence[str]], answered: Sequence[Sequence[str]], *, is_plain: bool
) -> tuple[dict[str, np.ndarray], list[str]]:
    """How each row was answered, and the names of the classes.

    Args:
        truth: The true tags of each row.
        answered: As many.
        is_plain: Whether tags are classes of words, rather than of entities.

    Returns:
        `words` and `words_right` of each row; and `(rows, classes)` int `right`, `answered` and `true`: how many
        entities of each type (or words of each tag) were answered exactly right, were answered, and are true. The
        classes are in the order of the names.
    """
    members = _tags if is_plain else _entity_members
    sets = [[members(row) for row in rows] for rows in (truth, answered)]
    names = sorted({kind for rows in sets for row in rows for kind, *_ in row})
    column = {name: i for i, name in enumerate(names)}
    right, given, true = (np.zeros((len(truth), len(names)), np.int64) for _ in range(3))
    for row, (expected, found) in enumerate(zip(*sets, strict=True)):
        for cells, some in ((right, expected & found), (given, found), (true, expected)):
            for kind, *_ in some:
                cells[row, column[kind]] += 1
    written = (truth, answered) if is_plain else ([_seqeval(row) for row in rows] for rows in (truth, answered))
    is_right = [[a == b for a, b in zip(*pair, strict=True)] for pair in zip(*written, strict=True)]
    rows = {
        "words": np.array([len(row) for row in is_right]),
        "words_right": np.array([sum(row) for row in is_right]),
        "right": right,
        "answered": given,
        "true": true,
    }
    return rows, names


def _entity_members(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    return set(entities(tags))


def _tags(tags: Sequence[str]) -> set[tuple[str, int]]:
    return {(tag, place) for place, tag in enumerate(tags)}


def scored(truth: Sequence[Sequence[str]], answered: Sequence[Sequence[str]], *, is_plain: bool) -> dict[str, Any]:
    """How well tags, one for each word, name the true ones.

    Args:
        truth: The true tags of each row.
        answered: As many.
        is_plain: Whether tags are classes of words, rather than of entities.

    Returns:
        `token_accuracy` over all words and `num_rows`. For entities `entity_precision`, `entity_recall`, `entity_f1`
        (micro averages over exact entities, as conlleval has them), `macro_entity_f1` over the types and `per_class` as
        `{type: {precision, recall, f1, support}}`; for plain tags `macro_f1` and `per_class` by tag.

    References:
        Tjong Kim Sang and De Meulder, 2003, https://aclanthology.org/W03-0419; seqeval (Nakayama, 2018).
    """
    rows, names = row_scores(truth, answered, is_plain=is_plain)
    per_class = counts.by_class(names, *(rows[name].sum(axis=0) for name in ("right", "answered", "true")))
    return {
        **evaluate(TAG_METRICS if is_plain else ENTITY_METRICS, rows),
        "num_rows": len(truth),
        "per_class": per_class,
    }


def metric_names(labels: Sequence[str], *, is_plain: bool) -> list[str]:
    """The names of the single numbers that `scored` gives."""
    return [metric.name for metric in (TAG_METRICS if is_plain else ENTITY_METRICS)]


def _precision(rows: RowScores) -> float:
    return float(counts.ratio(rows["right"].sum(), rows["answered"].sum()))


def _recall(rows: RowScores) -> float:
    return float(counts.ratio(rows["right"].sum(), rows["true"].sum()))


def _f1(rows: RowScores) -> float:
    return float(counts.f1(rows["right"].sum(), rows["answered"].sum(), rows["true"].sum()))


def _macro_f1(rows: RowScores) -> float:
    """The mean over the classes that are true or answered somewhere."""
    right, given, true = (rows[name].sum(axis=0) for name in ("right", "answered", "true"))
    occurs = given + true > 0
    return float(counts.f1(right, given, true)[occurs].mean()) if occurs.any() else 0.0


def _token_accuracy(rows: RowScores) -> float:
    return float(counts.ratio(rows["words_right"].sum(), rows["words"].sum()))


def _entity_sentence(values: Mapping[str, Any], rows: str) -> str:
    return (
        f"Entity F1 {number(values['entity_f1'])} over {values['num_rows']:,} {rows}: {values['entity_precision']:.1%} "
        f"of the answered entities are right, and {values['entity_recall']:.1%} of the true ones are answered."
    )


def _entity_details(values: Mapping[str, Any]) -> list[str]:
    return [
        f"The right tag for {values['token_accuracy']:.1%} of the words.",
        *counts.weakest(values["per_class"], "entity"),
    ]


def _tag_sentence(values: Mapping[str, Any], rows: str) -> str:
    return f"The right tag for {values['token_accuracy']:.1%} of the words of {values['num_rows']:,} {rows}."


WORDS_RIGHT = Metric(
    "token_accuracy", "max", "share of words with the right tag", False, _token_accuracy, is_share=True
)
ENTITY_METRICS = (
    Metric(
        "entity_precision", "max", "share of the answered entities whose place and type are right", False, _precision
    ),
    Metric("entity_recall", "max", "share of the true entities that are answered rightly", False, _recall),
    Metric("entity_f1", "max", "harmonic mean of entity precision and recall, over all entities at once", True, _f1),
    Metric("macro_entity_f1", "max", "mean of the types' F1, each type counting alike", False, _macro_f1),
    WORDS_RIGHT,
)
TAG_METRICS = (
    Metric("token_accuracy", "max", "share of words with the right tag", True, _token_accuracy, is_share=True),
    Metric("macro_f1", "max", "mean of the tags' F1, each tag counting alike", False, _macro_f1),
)
ENTITIES = Kind("entities", ENTITY_METRICS, _entity_sentence, _entity_details, "entities")
TAGS = Kind("tags", TAG_METRICS, _tag_sentence, lambda values: counts.weakest(values["per_class"], "word"), "words")
