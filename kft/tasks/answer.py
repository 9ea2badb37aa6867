"""Extractive question answering: the part of a text that answers a question about it, or that there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kft.data import checks, task_columns
from kft.data.reach import Missed
from kft.data.store import Store
from kft.data.table import Table
from kft.evaluation import qa, worst_rows
from kft.losses.objective import Objective, Term
from kft.losses.tokens import span_crossentropy
from kft.models import heads
from kft.recipe import Recipe
from kft.tasks.task import Answers, Build, Evaluator, Examples, Forward, Labels, Problem, Schema, Targets, Task, View
from kft.text import answers as graph
from kft.text import layout, windows

ALWAYS = 1.0  # the threshold of a model that answers every question
COVERED = 0.995
"""The share of the answers of train that are no longer than the longest that is given."""


def prepare(table: Table) -> Table:
    """Finds the place of each gold answer in its context."""
    return checks.located_answers(table) if "answers" in table.names() else table


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """From which probability on there is no answer, tuned on the validation rows; and the longest answer in characters.

    Answers of up to 30 tokens are given in any case.
    """
    has_none = any(not gold for table in parts.values() for gold in table.texts("answers"))
    lengths = [len(one["text"]) for gold in parts["train"].texts("answers") for one in gold]
    longest = int(np.quantile(lengths, COVERED, method="higher")) if lengths else 0
    return {"threshold": 0.5 if has_none else ALWAYS, "longest": longest}


def token_notes(labels: Labels, preprocessor: Any, tokens: Store, table: Table) -> list[str]:
    """Notes on answers that cannot be given (in no window whole, too long, not of whole tokens), and cut questions."""
    found = spans(table, tokens)
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
        if last - first >= graph.LONGEST_ANSWER and end - start > labels["longest"]:
            long.append(text)
        elif (tokens.features["start"][first], tokens.features["end"][last]) != (start, end):
            inexact.append(text)
    total, length = sum(answer is not None for answer in gold), preprocessor.sequence_length
    kinds = {
        f"are in no window of {length} tokens whole and are learnt as no answer. Ask for a larger max_length": absent,
        f"are longer than {graph.LONGEST_ANSWER} tokens and {labels['longest']} characters, which no answer is": long,
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
        len(found := np.flatnonzero(tokens.features["start"][offsets[row] : offsets[row + 1]] >= 0))
        and found[0] == rest
        for row in first_rows
    ]
    return np.flatnonzero(is_full).tolist()


def spans(table: Table, tokens: Store) -> np.ndarray:
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
        starts, ends = tokens.features["start"][part], tokens.features["end"][part]
        inside = np.flatnonzero((starts >= 0) & (ends > first[text]) & (starts < last[text]))
        # A window that cuts the answer does not have it.
        if len(inside) and starts[inside[0]] <= first[text] and ends[inside[-1]] >= last[text]:
            found[row, :2] = inside[0], inside[-1]
    return found


def targets(table: Table, tokens: Store) -> Targets:
    """The `span` of the first gold answer in each window."""
    return {"span": spans(table, tokens)}


def loss(outputs: Any, targets: Any) -> Any:
    """Cross-entropy over the tokens of a window of the answer's first and of its last."""
    return span_crossentropy(outputs["logits"], targets["span"])


def answers(
    labels: Labels, outputs: Mapping[str, Any], extras: Mapping[str, Any], texts: Sequence[Any]
) -> dict[str, Any]:
    """`answer`, `start`, `end`, `score`, `no_answer` and `nbest`."""
    return graph.answers(outputs["logits"], labels["threshold"], extras, texts[1], labels.get("longest", 0))


def _answered(answers: Answers) -> list[str]:
    return [answer.decode() for answer in answers["answer"].tolist()]


def _gold(table: Table) -> list[list[str]]:
    return [[answer["text"] for answer in row] for row in table.texts("answers")]


def scored(answers: Answers, table: Table) -> dict[str, Any]:
    """Exact match and F1 by SQuAD's definition."""
    return qa.scored(_answered(answers), _gold(table))


def view(answers: Answers, table: Table) -> View:
    """The answers that share least with the truth."""
    answered, gold = _answered(answers), _gold(table)
    return worst_rows.extracted(gold, answered, list(qa.best_f1(answered, gold)), table)


def calibrate(labels: Labels, answers: Answers, table: Table) -> Labels:
    """The threshold of the best F1 on these rows, where some have no answer."""
    if labels["threshold"] == ALWAYS:
        return labels
    best = [row[0].decode() for row in answers["nbest.answer"].tolist()]
    return {**labels, "threshold": qa.best_threshold(answers["no_answer"].tolist(), best, _gold(table))}


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of finding the answer in a text."""
    return Problem(
        labels,
        SCHEMA,
        Examples(graph.encode, targets, token_notes=partial(token_notes, labels)),
        Build(partial(heads.token_model, num_outputs=2), widths={"logits": 2}),
        Objective((Term("span", loss),)),
        Forward(partial(answers, labels)),
        Evaluator(("exact_match", "f1"), ("f1",), of_answers=scored, view=view, calibrate=partial(calibrate, labels)),
    )


SCHEMA = Schema(task_columns.COLUMNS["answer"], prepare=prepare)
ANSWER = Task("answer", SCHEMA, learn, restore)
