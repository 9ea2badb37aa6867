"""Tagging: a tag for each word (parts of speech), or entities with their place in the text (names, slots).

Rows have words with their tags, or a text with spans of characters. The network reads texts in either case. A given
word is read off its first token, however many parts it has, and so it is scored; in raw text words are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from kft.data import checks, detokenized, edges, reach, store, task_columns
from kft.data.reach import Missed
from kft.data.store import Aligned, Store
from kft.data.table import Table
from kft.errors import DataError, did_you_mean
from kft.evaluation import entities, worst_rows
from kft.evaluation.entities import Span
from kft.losses.objective import Objective, Term
from kft.losses.tokens import num_tokens, tag_crossentropy
from kft.models import heads
from kft.recipe import Recipe
from kft.tasks.task import Answers, Build, Evaluator, Examples, Forward, Labels, Problem, Schema, Targets, Task, View
from kft.text import tag_sequences, words
from kft.text import tagging as graph
from kft.text.tag_sequences import OUTSIDE

BEST_BY = ("entity_f1", "token_accuracy")
RARE = 0.02
"""Up to this share of spans off the edges of words is put down to slips of those who marked them."""


def prepare(table: Table) -> Table:
    """Checks what belongs together; words become a text, and what is known of them spans of it."""
    if "words" not in table.names():
        if "spans" in table.names():
            table = edges.spans(table)
            checks.check_spans(table)
        return table
    if "tags" in table.names():
        checks.check_tags(table)
        table = table.with_notes(*checks.odd_sequences(table))
    return detokenized.with_text(table)


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """The classes of words, how tags of entities are written, the class of a word without a token, what a word is."""
    train = parts["train"]
    if "spans" in train.names():
        tags = {f"B-{span['label']}" for row in train.texts("spans") for span in row}
        scheme = "bio"
    else:
        tags = {tag for row in train.texts("tags") for tag in row}
        scheme = checks.scheme(tags)
    if not tags - {OUTSIDE}:
        raise DataError(f"{train.source}: no row has an entity or a tag; expected some to learn from.")
    if scheme == "plain":
        if len(tags) < 2:
            raise DataError(f"{train.source}: all words have the tag {min(tags)!r}; expected at least two.")
        classes = sorted(tags)
        counts = {name: 0 for name in classes}
        for row in train.texts("tags"):
            for tag in row:
                counts[tag] += 1
        missing = classes.index(max(classes, key=lambda name: counts[name]))
    else:
        kinds = sorted({tag.partition("-")[2] for tag in tags - {OUTSIDE}})
        classes, missing = [OUTSIDE, *(f"{position}-{kind}" for kind in kinds for position in "BI")], 0
    learnt: Labels = {"labels": classes, "scheme": scheme, "missing": missing, "words": _rule(train)}
    for table in parts.values():
        _check_known(table, learnt)
    return learnt


def _rule(train: Table) -> str:
    """What a word is: a character where spans need it, since more than a few of them begin or end inside words."""
    by_words = _off_edges(train, words.WORDS)
    if by_words.share <= RARE:
        return words.WORDS
    won = by_words.share - _off_edges(train, words.CHARACTERS).share
    return words.CHARACTERS if won > RARE else words.WORDS


def rule_of(labels: Labels) -> str:
    """The rule that words are found by; runs of versions that had one only do not name it."""
    return labels.get("words", words.FIRST)


def _off_edges(table: Table, rule: str) -> Missed:
    if "spans" not in table.names():
        return Missed()
    return reach.off_edges(table.texts("text"), _gold(table), _found_words(table, rule))


def notes(labels: Labels, parts: Mapping[str, Table]) -> list[str]:
    """Notes on spans that begin or end inside a word, and on what was made of that."""
    told, rule = [], rule_of(labels)
    if rule == words.CHARACTERS:
        found = _off_edges(parts["train"], words.WORDS)
        told.append(
            f"{parts['train'].where(found.row)}: the span {found.example} is part of a word; "
            f"{found.told('spans of train')} are, so texts are read by the character rather than by the word."
        )
    inside = "character" if rule == words.CHARACTERS else "word"
    for name, table in parts.items():
        if (found := _off_edges(table, rule)).count:
            told.append(
                f"{table.where(found.row)}: the span {found.example} begins or ends inside a {inside}; "
                f"{found.told(f'spans of {name}')} do, and no answer can equal them."
            )
    return told


def token_notes(labels: Labels, preprocessor: Any, tokens: Store, table: Table) -> list[str]:
    """A note on what shares a token with something else, and so cannot be told from it."""
    is_plain = labels["scheme"] == "plain"
    tags = list(_word_tags(table, labels))
    found = reach.by_tokens(tags, labels["labels"][labels["missing"]], tokens, is_plain=is_plain)
    if not found.count:
        return []
    what = "words" if is_plain else "entities"
    return [
        f"{table.where(found.row)} and others: {found.told(f'{what} of train')} begin or end inside a token of the "
        "preset's tokenizer, or have none, and no answer can equal them. The tokens of another preset may fit better."
    ]


def _check_known(table: Table, labels: Labels) -> None:
    """Refuses a tag or a type that training never saw."""
    known = labels["labels"] if labels["scheme"] == "plain" else sorted(_kinds(labels))
    column = "spans" if "spans" in table.names() else "tags"
    for index, row in enumerate(table.texts(column)):
        for value in row:
            name = value["label"] if column == "spans" else value
            if column == "tags" and labels["scheme"] != "plain":
                name = name.partition("-")[2]
                if not name:
                    continue
            if name not in known:
                raise DataError(
                    f"{table.where(index)}: the tag {name!r} is unknown in the training data."
                    f"{did_you_mean(name, known)} Expected one of: {', '.join(known)}."
                )


def _kinds(labels: Labels) -> set[str]:
    return {name[2:] for name in labels["labels"] if name != OUTSIDE}


def word_classes(labels: Labels, table: Table, tokens: Store) -> Aligned:
    """The class of the word that is read off each token, -1 for tokens of which none is."""
    ids = {name: i for i, name in enumerate(labels["labels"])}
    classes, num_words = [], []
    for tags in _word_tags(table, labels):
        classes += [ids[tag] for tag in tags]
        num_words.append(len(tags))
    begins = np.concatenate([[0], np.cumsum(num_words)])[:-1]
    group = tokens.group_of("word")
    text = np.repeat(tokens.texts, np.diff(tokens.offsets[group]))
    word = np.asarray(tokens.features["word"])
    # The last stands for tokens that no word is read off.
    return Aligned(np.array([*classes, -1], np.int32)[np.where(word >= 0, begins[text] + word, -1)], group)


def _word_tags(table: Table, labels: Labels) -> Iterator[list[str]]:
    """The true class of each word, text by text: of the given words, else of those that the graph finds."""
    if "spans" in table.names():
        for spans, places in zip(_gold(table), _found_words(table, rule_of(labels)), strict=True):
            yield entities.at_words(spans, places)
    elif labels["scheme"] == "plain":
        yield from table.texts("tags")
    else:
        for tags in table.texts("tags"):
            spans = [(first, last + 1, kind) for kind, first, last in entities.entities(tags)]
            yield entities.of_spans(spans, len(tags))


def _found_words(table: Table, rule: str | None = None) -> Iterator[list[tuple[int, int]]]:
    """Start and end of the words that the graph finds in each text, by default as a fit on these rows would have it."""
    find = words.finder(rule or _rule(table))
    for (texts,) in store.sliced([table.rows["text"]], len(table)):
        found = find(texts)
        for starts, ends in zip(found.starts.to_list(), found.ends.to_list(), strict=True):
            yield list(zip(starts, ends, strict=True))


def _gold(table: Table) -> Iterator[list[Span]]:
    """Where the true entities of each text are, with their type."""
    for row in table.texts("spans"):
        yield [(span["start"], span["end"], span["label"]) for span in row]


def objective_of(focal_gamma: float) -> Objective:
    """Cross-entropy, or focal loss, over the words."""

    def loss(outputs: Any, targets: Any) -> Any:
        return tag_crossentropy(outputs["logits"], targets["tags"], focal_gamma)

    return Objective((Term("tags", loss, count=num_tokens("tags")),))


def answers_of(labels: Labels, logits: Any, extras: Mapping[str, Any], texts: Any) -> dict[str, Any]:
    """`words` with their places, their `tags`, and `entities` unless the tags are plain."""
    names, scheme, missing = (labels[name] for name in ("labels", "scheme", "missing"))
    return tag_sequences.answers(logits, names, scheme, missing, extras, texts, rule_of(labels))


def examples_of(labels: Labels) -> Examples:
    """Texts read by the rule that the run was trained with, and the class of each word, `tags`."""

    def targets(table: Table, tokens: Store) -> Targets:
        return {"tags": word_classes(labels, table, tokens)}

    features = graph.reader(rule_of(labels))
    return Examples(features, targets, notes=partial(notes, labels), token_notes=partial(token_notes, labels))


def scored(labels: Labels, answers: Answers, table: Table) -> dict[str, Any]:
    """Entity precision, recall and F1 by seqeval, and the accuracy of tags, over the words or spans of the rows."""
    return entities.scored(*compared(answers, table), is_plain=labels["scheme"] == "plain")


def compared(answers: Answers, table: Table) -> tuple[list[list[str]], list[list[str]]]:
    """True and answered tags, one for each word of the rows, or for each character where rows have spans."""
    if "spans" not in table.names():
        answered = [[tag.decode() for tag in row if tag] for row in answers["tags"]]
        return table.texts("tags"), answered
    truth, answered = [], []
    for text, gold, spans in zip(table.texts("text"), _gold(table), _predicted(answers), strict=True):
        truth.append(entities.of_spans(gold, len(text)))
        answered.append(entities.of_spans(spans, len(text)))
    return truth, answered


def _predicted(answers: Answers) -> Iterator[list[Span]]:
    """The answered entities of each text."""
    names = ("entities.start", "entities.end", "entities.type")
    for starts, ends, kinds in zip(*(answers[name] for name in names), strict=True):
        filled = [(int(start), int(end), kind.decode()) for start, end, kind in zip(starts, ends, kinds, strict=True)]
        yield [span for span in filled if span[2]]


def metric_names(labels: Labels) -> list[str]:
    """The single numbers among the metrics."""
    return list(entities.metric_names(labels["labels"], is_plain=labels["scheme"] == "plain"))


def view(answers: Answers, table: Table) -> View:
    """The rows with most wrong words."""
    return worst_rows.tagged(*compared(answers, table), table)


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of telling the class of each word."""
    num_classes = len(labels["labels"])
    return Problem(
        labels,
        SCHEMA,
        examples_of(labels),
        Build(partial(heads.token_model, num_outputs=num_classes), widths={"logits": num_classes}),
        objective_of(recipe.focal_gamma),
        Forward(lambda outputs, extras, texts: answers_of(labels, outputs["logits"], extras, texts)),
        Evaluator(metric_names(labels), BEST_BY, of_answers=partial(scored, labels), view=view),
    )


SCHEMA = Schema(task_columns.COLUMNS["tag"], prepare=prepare, derived=("marks",), answered=("text",))
TAG = Task("tag", SCHEMA, learn, restore)
