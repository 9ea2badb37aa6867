"""Extractive question answering: the part of a text that answers a question about it, or that there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import checks, task_columns
from kft.data.reach import Missed
from kft.data.store import Store
from kft.data.table import Table
from kft.evaluation import qa, shown
from kft.models import heads
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.task import Task, Vocabulary
from kft.text import answers as graph
from kft.text import layout, windows
from kft.text.answers import IMPOSSIBLE

ALWAYS = 1.0  # the threshold of a model that answers every question
COVERED = 0.995
"""The share of the answers of train that are no longer than the longest that is given."""


def prepare(table: Table) -> Table:
    """Finds the place of each gold answer in its context."""
    return checks.located_answers(table) if "answers" in table.names() else table


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
    """From which probability on there is no answer, tuned on the validation rows; and the longest answer in characters.

    Answers of up to 30 tokens are given in any case.
    """
    has_none = any(not gold for table in parts.values() for gold in table.texts("answers"))
    lengths = [len(one["text"]) for gold in parts["train"].texts("answers") for one in gold]
    longest = int(np.quantile(lengths, COVERED, method="higher")) if lengths else 0
    return {"threshold": 0.5 if has_none else ALWAYS, "longest": longest}


def remarks(preprocessor: Any, tokens: Store, table: Table, vocabulary: Vocabulary) -> list[str]:
    """Notes on answers that cannot be given (in no window whole, too long, not of whole tokens), and cut questions."""
    found = targets(table, vocabulary, tokens)
    gold = [row[0] if row else None for row in table.texts("answers")]
    offsets = tokens.offsets[tokens.group_of("start")]
    best: dict[int, int] = {}  # the first window that holds the answer of a text
    for row in np.flatnonzero(found[:, 1] > 0):
        best.setdefault(int(tokens.texts[row]), int(row))
    absent, long, inexact = [], [], []
    for text, answer in enumerate(gold):
        if answer is None:
            continue
        if text not in best:
            absent.append(text)
            continue
        first, last = (offsets[best[text]] + found[best[text], :2]).tolist()
        start, end = answer["start"], answer["start"] + len(answer["text"])
        if last - first >= graph.LONGEST_ANSWER and end - start > vocabulary["longest"]:
            long.append(text)
        elif (tokens.ids["start"][first], tokens.ids["end"][last]) != (start, end):
            inexact.append(text)
    total, length = sum(answer is not None for answer in gold), preprocessor.sequence_length
    kinds = {
        f"are in no window of {length} tokens whole and are learnt as no answer. Ask for a larger max_length": absent,
        f"are longer than {graph.LONGEST_ANSWER} tokens and {vocabulary['longest']} characters, which no answer "
        "is": long,
        "begin or end inside a token of the preset's tokenizer, and are answered with all of it": inexact,
    }
    notes = [
        f"{table.where(texts[0])}: {Missed(len(texts), total).told('answers of train')} {what}."
        for what, texts in kinds.items()
        if texts
    ]
    if full := _full_questions(preprocessor, tokens):
        notes.append(
            f"{table.where(full[0])}: {Missed(len(full), len(table)).told('questions of train')} fill the room that a "
            f"window of {length} tokens has for them, and may be cut. Ask for a larger max_length."
        )
    return notes


def _full_questions(preprocessor: Any, tokens: Store) -> list[int]:
    """The texts whose question leaves the context no more than the least part of a window."""
    packing, length = layout.of(preprocessor), preprocessor.sequence_length
    rest = length - windows.least_room(length) - len(packing.end)  # where the context begins then
    offsets = tokens.offsets[tokens.group_of("start")]
    _, first_rows = np.unique(tokens.texts, return_index=True)
    is_full = [
        len(found := np.flatnonzero(tokens.ids["start"][offsets[row] : offsets[row + 1]] >= 0)) and found[0] == rest
        for row in first_rows
    ]
    return np.flatnonzero(is_full).tolist()


def targets(table: Table, vocabulary: Vocabulary, tokens: Store) -> np.ndarray:
    """The first and last token of the first gold answer in each window, 0 where it has none, and the window's tokens.

    `(rows, 3)` int32.
    """
    gold = [row[0] if row else None for row in table.texts("answers")]
    first = np.array([g["start"] if g else -1 for g in gold])
    last = np.array([g["start"] + len(g["text"]) if g else -1 for g in gold])
    offsets = tokens.offsets[tokens.group_of("start")]
    found = np.stack([np.zeros_like(np.diff(offsets))] * 2 + [np.diff(offsets)], axis=1).astype(np.int32)
    for row, text in enumerate(tokens.texts):
        if first[text] < 0:
            continue
        part = slice(offsets[row], offsets[row + 1])
        starts, ends = tokens.ids["start"][part], tokens.ids["end"][part]
        inside = np.flatnonzero((starts >= 0) & (ends > first[text]) & (starts < last[text]))
        # A window that cuts the answer does not have it.
        if len(inside) and starts[inside[0]] <= first[text] and ends[inside[-1]] >= last[text]:
            found[row, :2] = inside[0], inside[-1]
    return found


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """A model with two logits for each token: is the answer's first, is its last?"""
    return heads.token_model(preset, 2, **settings)


class SpanCrossentropy(keras.losses.Loss):
    """Mean of the cross-entropies over the tokens of where the answer begins and where it ends.

    Padding is none of them, so that a window costs the same however far its batch is padded.
    """

    def __init__(self) -> None:
        super().__init__(name="crossentropy", reduction="sum")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        places = ops.cast(y_true, "int32")
        is_token = ops.arange(ops.shape(y_pred)[1], dtype="int32")[None, :] < places[:, 2:]  # (batch, tokens)
        logits = ops.where(is_token[:, :, None], ops.cast(y_pred, "float32"), IMPOSSIBLE)
        log_probs = ops.log_softmax(logits, axis=1)  # (batch, tokens, 2)
        one_hot = ops.one_hot(places[:, :2], ops.shape(y_pred)[1])  # (batch, 2, tokens)
        return -ops.sum(one_hot * ops.transpose(log_probs, (0, 2, 1)), axis=(1, 2)) / 2.0


def loss(recipe: Recipe, vocabulary: Vocabulary) -> SpanCrossentropy:
    """Cross-entropy over the tokens of a window."""
    return SpanCrossentropy()


def answers(outputs: Any, vocabulary: Vocabulary, extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """`answer`, `start`, `end`, `score`, `no_answer` and `nbest`."""
    return graph.answers(outputs, vocabulary["threshold"], extras, texts[1], vocabulary.get("longest", 0))


def score(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> dict[str, Any]:
    """Exact match and F1 by SQuAD's definition."""
    return qa.scored(_answered(found), _gold(table))


def _answered(found: Mapping[str, np.ndarray]) -> list[str]:
    return [answer.decode() for answer in found["answer"].tolist()]


def _gold(table: Table) -> list[list[str]]:
    return [[answer["text"] for answer in row] for row in table.texts("answers")]


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those that every set of rows has."""
    return ["exact_match", "f1"]


def worst(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> tuple[list[Any], list[Any]]:
    """The answers that share least with the truth."""
    answered, gold = _answered(found), _gold(table)
    return shown.extracted(gold, answered, list(qa.best_f1(answered, gold)), table)


def calibrate(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary with the threshold of the best F1 on these rows, where some have no answer."""
    if vocabulary["threshold"] == ALWAYS:
        return vocabulary
    best = [row[0].decode() for row in found["nbest.answer"].tolist()]
    return {**vocabulary, "threshold": qa.best_threshold(found["no_answer"].tolist(), best, _gold(table))}


ANSWER = Task(
    name="answer",
    columns=task_columns.COLUMNS["answer"],
    prepare=prepare,
    vocabulary=vocabulary,
    targets=targets,
    features=graph.encode,
    head=head,
    loss=loss,
    answers=answers,
    score=score,
    metrics=metric_names,
    shown=worst,
    best_by=("f1",),
    calibrate=calibrate,
    remarks=remarks,
)
