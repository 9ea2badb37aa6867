"""Metrics of tags and entities, computed by seqeval and scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    if is_plain:
        return _of_classes(truth, answered)
    from seqeval.metrics import classification_report

    truth, answered = ([_seqeval(row) for row in rows] for rows in (truth, answered))
    found: dict[str, Any] = {name: dict.fromkeys(MEASURES.values(), 0.0) for name in AVERAGES}
    # Of rows without any entity seqeval makes NaN.
    if any(entities(row) for rows in (truth, answered) for row in rows):
        found = classification_report(truth, answered, output_dict=True, zero_division=0)
    return {
        **{f"entity_{name}": float(found["micro avg"][key]) for name, key in MEASURES.items()},
        "macro_entity_f1": float(found["macro avg"]["f1-score"]),
        "token_accuracy": _accuracy(truth, answered),
        "num_rows": len(truth),
        "per_class": {
            name: {
                **{measure: float(values[key]) for measure, key in MEASURES.items()},
                "support": int(values["support"]),
            }
            for name, values in found.items()
            if name not in AVERAGES
        },
    }


def _of_classes(truth: Sequence[Sequence[str]], answered: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The metrics of plain tags: each word is a row of its class."""
    from sklearn import metrics as sk

    flat = [[tag for row in rows for tag in row] for rows in (truth, answered)]
    names = sorted({*flat[0], *flat[1]})
    scores = sk.precision_recall_fscore_support(*flat, labels=names, zero_division=0.0) if names else [[]] * 4
    return {
        "token_accuracy": _accuracy(truth, answered),
        "macro_f1": float(sum(scores[2]) / max(len(names), 1)),
        "num_rows": len(truth),
        "per_class": {
            name: {**dict(zip(MEASURES, map(float, values), strict=True)), "support": int(support)}
            for name, *values, support in zip(names, *scores, strict=True)
        },
    }


def _accuracy(truth: Sequence[Sequence[str]], answered: Sequence[Sequence[str]]) -> float:
    """The share of words whose tag is right; 0 of no words."""
    is_right = [a == b for rows in zip(truth, answered, strict=True) for a, b in zip(*rows, strict=True)]
    return sum(is_right) / max(len(is_right), 1)


def metric_names(labels: Sequence[str], *, is_plain: bool) -> list[str]:
    """The names of the single numbers that `scored` gives."""
    row = list(labels) if is_plain else [OUTSIDE, labels[1]]
    return [name for name, value in scored([row], [row], is_plain=is_plain).items() if isinstance(value, float)]


MEASURES = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
AVERAGES = ("micro avg", "macro avg", "weighted avg")
