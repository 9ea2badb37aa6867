"""The baselines of each task, computed from the rows of a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.preprocessing import normalize

from kft.errors import DataError
from kft.evaluation import classification, entities, joint_answers, ordinal_classes, overlap, qa, regression, retrieval
from kft.evaluation.baselines import linear, lookup
from kft.evaluation.baselines.rows import (
    Rows,
    Tokens,
    gold,
    indicators,
    most_rows,
    numbers,
    spans,
    text_columns,
    texts,
    with_labels,
)
from kft.evaluation.baselines.tfidf import vectorized

if TYPE_CHECKING:
    from kft.data.table import Table

MOST_GENERATED = 500
MOST_COSINES = 20_000_000


@dataclass(frozen=True)
class Baselines:
    """What simpler models reach on the rows that a model is judged on.

    Attributes:
        metrics: `{name: metrics}`, with the names that the model's metrics have.
        notes: What to know of them: which rows they were computed on if not on all, and which are missing, and why.
    """

    metrics: Mapping[str, dict[str, Any]]
    notes: tuple[str, ...]


def of(
    task_name: str,
    parts: Mapping[str, Table],
    split: str,
    label_spec: Mapping[str, Any],
    *,
    seed: int = 0,
    tokens: Tokens | None = None,
) -> Baselines:
    """The baselines of a task. One that cannot be computed is missing, and a note says why.

    Args:
        task_name: The task.
        parts: The rows of the fit as its task has prepared them: `train`, the part that is judged, and `validation`.
        split: The part that is judged: `test` or `validation`.
        label_spec: What the targets of the training rows taught, as in labels.json.
        seed: Of what is drawn at random.
        tokens: For pretrain, the tokens of the rows.
    """
    metrics: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for name, baseline in OPPONENTS[task_name].items():
        rows = Rows(parts, split, label_spec, seed, tokens)
        try:
            reached = baseline(rows)
        except Exception as error:  # whatever it is: the model is trained, and its run must not be lost
            why = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            notes.append(f"baseline {name}: not computed. {why}")
            continue
        if reached is not None:
            metrics[name] = reached
            notes += [f"baseline {name}: {note}" for note in dict.fromkeys(rows.notes)]
    return Baselines(metrics, tuple(notes))


def _majority(rows: Rows, scored: linear.Scored = classification.scored) -> dict[str, Any]:
    truth = rows.train.texts("label"), rows.test.texts("label")
    return linear.majority(*truth, labels=rows.label_spec["labels"], scored=scored)


def _bag_of_words(rows: Rows, scored: linear.Scored = classification.scored) -> dict[str, Any]:
    labels = rows.label_spec["labels"]
    train, test = with_labels(rows, len(labels))
    learned, asked = (texts(train), train.texts("label")), (texts(test), test.texts("label"))
    return linear.bag_of_words(*learned, *asked, rows.seed, labels=labels, scored=scored)


def _frequent_label(rows: Rows) -> dict[str, Any]:
    labels = rows.label_spec["labels"]
    return linear.most_frequent_label(indicators(rows.train, labels), indicators(rows.test, labels), labels)


def _bag_of_words_sets(rows: Rows) -> dict[str, Any]:
    labels = rows.label_spec["labels"]
    train, test = with_labels(rows, len(labels))
    learned, asked = ((texts(table), indicators(table, labels)) for table in (train, test))
    tuning = None
    if "validation" in rows.parts:  # the model's thresholds were tuned there too
        table = rows.sampled("validation", text_columns(train))
        tuning = (texts(table), indicators(table, labels))
    return linear.bag_of_words_sets(*learned, *asked, rows.seed, labels=labels, tuning=tuning)


def _mean(rows: Rows) -> dict[str, Any]:
    return linear.mean(numbers(rows.train), numbers(rows.test))


def _bag_of_words_regression(rows: Rows) -> dict[str, Any]:
    columns = text_columns(rows.train)
    train, test = rows.sampled("train", columns), rows.sampled(rows.split, columns)
    return linear.bag_of_words_regression(texts(train), numbers(train), texts(test), numbers(test), rows.seed)


def _tagged(rows: Rows, label_spec: Mapping[str, Any]) -> tuple[list[list[str]], list[list[str]]]:
    """The true tags of each judged row, and those that its words have most often in training."""
    train, test = rows.train, rows.test
    if "spans" not in train.names():
        known = train.texts("words"), train.texts("tags")
        answers = lookup.frequent_tags(known, test.texts("words"), is_plain=label_spec["scheme"] == "plain")
        return test.texts("tags"), answers
    known = train.texts("text"), spans(train)
    texts = test.texts("text")
    answered = lookup.frequent_entities(known, texts)
    both = (spans(test), answered)
    truth, answers = (
        [entities.of_spans(spans, len(text)) for text, spans in zip(texts, some, strict=True)] for some in both
    )
    return truth, answers


def _frequent_tags(rows: Rows) -> dict[str, Any]:
    return entities.scored(*_tagged(rows, rows.label_spec), is_plain=rows.label_spec["scheme"] == "plain")


def _majority_and_tags(rows: Rows) -> dict[str, Any]:
    slots, labels = rows.label_spec["slots"], rows.train.texts("label")
    most = max(rows.label_spec["labels"], key=labels.count)
    is_right = np.array(rows.test.texts("label"), object) == most
    return joint_answers.scored(is_right, *_tagged(rows, slots), is_plain=slots["scheme"] == "plain")


def _words_and_tags(rows: Rows) -> dict[str, Any]:
    slots, names = rows.label_spec["slots"], rows.label_spec["labels"]
    train = rows.sampled("train", ["text"], most_rows(len(names)))
    ids = np.array([names.index(label) for label in train.texts("label")])
    scores = linear.bag_of_words_scores(train.texts("text"), ids, rows.test.texts("text"), names, rows.seed)
    is_right = np.array(names, object)[scores.argmax(axis=1)] == np.array(rows.test.texts("label"), object)
    return joint_answers.scored(is_right, *_tagged(rows, slots), is_plain=slots["scheme"] == "plain")


def _sentences(rows: Rows) -> dict[str, Any]:
    test = rows.sampled(rows.split, ["question", "context"])
    return lookup.sentences(test.texts("question"), test.texts("context"), gold(test))


def _no_answer(rows: Rows) -> dict[str, Any] | None:
    truths = gold(rows.test)
    return None if all(truths) else qa.scored([""] * len(truths), truths)


def _choices(rows: Rows) -> dict[str, Any]:
    names = [f"choice{number}" for number in range(1, len(rows.label_spec["labels"]) + 1)]
    test = rows.sampled(rows.split, ["text", *names])
    choices = list(zip(*(test.texts(name) for name in names), strict=True))
    return lookup.shared_words(test.texts("text"), choices, [int(label) for label in test.texts("label")])


def _frequent_choice(rows: Rows) -> dict[str, Any]:
    scores = _majority(rows)
    return {name: scores[name] for name in ("accuracy", "log_loss", "num_rows")}


def _tfidf_cosine(rows: Rows) -> dict[str, Any]:
    is_scored = rows.label_spec["contrastive"] == "cosine"
    train = rows.sampled("train", ["text", "text_pair"])
    # Fewer rows would be fewer texts to choose among, which is easier.
    test = rows.sampled(rows.split, ["text", "text_pair"]) if is_scored else rows.test
    # How rare a word is needs no labels, so the texts that are searched count too.
    known = [text for table in (train, test) for name in ("text", "text_pair") for text in table.texts(name)]
    vectorizer, _ = vectorized(known)
    queries, pairs = test.texts("text"), test.texts("text_pair")
    left, right = (normalize(vectorizer.transform(some)) for some in (queries, pairs))
    if is_scored:
        cosines = np.asarray(left.multiply(right).sum(axis=1)).ravel()
        low, high = rows.label_spec["low"], rows.label_spec["high"]
        return regression.scored(low + cosines * (high - low), numbers(test))
    count = min(len(queries), max(1, MOST_COSINES // len(queries)))
    asked = np.sort(np.random.default_rng(rows.seed).permutation(len(queries))[:count])
    if count < len(queries):
        rows.notes.append(f"computed with {count:,} of {len(queries):,} {rows.split} rows as queries, drawn at random")
    places, _ = retrieval.ranks_by(lambda some, others: (left[some] @ right[others].T).toarray(), queries, pairs, asked)
    return retrieval.scored(places)


def _lead(rows: Rows) -> dict[str, Any]:
    lengths = [len(lookup.words(text)) for text in rows.sampled("train", ["response"]).texts("response")]
    test = rows.sampled(rows.split, ["prompt", "response"], MOST_GENERATED)
    leads = lookup.first_words(test.texts("prompt"), max(1, int(np.median(lengths))))
    return overlap.scored(leads, test.texts("response"))


def _triggers(rows: Rows) -> dict[str, Any]:
    known = ((table.texts("text"), table.texts("events")) for table in (rows.train, rows.test))
    return lookup.frequent_triggers(*known)


def _unigrams(rows: Rows) -> dict[str, Any]:
    if rows.tokens is None:
        raise DataError("The tokens of the rows were not given.")
    return lookup.unigrams(rows.tokens.train, rows.tokens.judged, rows.tokens.vocabulary_size)


Opponents = Mapping[str, Callable[[Rows], dict[str, Any] | None]]
"""From the name of a baseline to a function that gives its metrics, or None where the rows have no use for it."""
CLASSES: Opponents = {"majority": _majority, "bag of words": _bag_of_words}
OPPONENTS: dict[str, Opponents] = {
    "answer": {"sentence with most words of the question": _sentences, "no answer": _no_answer},
    "choose": {"most frequent position": _frequent_choice, "most words in common": _choices},
    "classify": CLASSES,
    "embed": {"TF-IDF cosine": _tfidf_cosine},
    "extract": {"most frequent type of each word": _triggers},
    "fewshot": CLASSES,
    "generate": {"beginning of the prompt": _lead},
    "joint": {
        "majority and most frequent tags": _majority_and_tags,
        "bag of words and most frequent tags": _words_and_tags,
    },
    "multilabel": {"most frequent label": _frequent_label, "bag of words": _bag_of_words_sets},
    "ordinal": {
        "majority": lambda rows: _majority(rows, ordinal_classes.scored),
        "bag of words": lambda rows: _bag_of_words(rows, ordinal_classes.scored),
    },
    "pretrain": {"unigrams": _unigrams},
    "regress": {"mean": _mean, "bag of words": _bag_of_words_regression},
    "relate": CLASSES,
    "tag": {"most frequent tag of each word": _frequent_tags},
}
"""By the name of the task, its baselines by theirs."""
