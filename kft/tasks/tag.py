"""Tagging: a tag for each word (parts of speech), or entities with their place in the text (names, slots).

Rows have words with their tags, or a text with spans of characters. The network reads texts in either case. A given
word is read off its first token, however many parts it has, and so it is scored; in raw text words are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import checks, detokenized, edges, reach, store, task_columns
from kft.data.reach import Missed
from kft.data.store import Aligned, Store
from kft.data.table import Table
from kft.errors import DataError, did_you_mean
from kft.evaluation import entities, shown
from kft.evaluation.entities import Span
from kft.models import heads
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.task import Task, Vocabulary
from kft.text import tagging as graph
from kft.text import words
from kft.text.tagging import OUTSIDE

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


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
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
    learnt: Vocabulary = {"labels": classes, "scheme": scheme, "missing": missing, "words": _rule(train)}
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


def rule_of(vocabulary: Vocabulary) -> str:
    """The rule that words are found by; runs of versions that had one only do not name it."""
    return vocabulary.get("words", words.FIRST)


def _off_edges(table: Table, rule: str) -> Missed:
    if "spans" not in table.names():
        return Missed()
    return reach.off_edges(table.texts("text"), _gold(table), _found_words(table, rule))


def limits(parts: Mapping[str, Table], vocabulary: Vocabulary) -> list[str]:
    """Notes on spans that begin or end inside a word, and on what was made of that."""
    notes, rule = [], rule_of(vocabulary)
    if rule == words.CHARACTERS:
        found = _off_edges(parts["train"], words.WORDS)
        notes.append(
            f"{parts['train'].where(found.row)}: the span {found.example} is part of a word; "
            f"{found.told('spans of train')} are, so texts are read by the character rather than by the word."
        )
    inside = "character" if rule == words.CHARACTERS else "word"
    for name, table in parts.items():
        if (found := _off_edges(table, rule)).count:
            notes.append(
                f"{table.where(found.row)}: the span {found.example} begins or ends inside a {inside}; "
                f"{found.told(f'spans of {name}')} do, and no answer can equal them."
            )
    return notes


def remarks(preprocessor: Any, tokens: Store, table: Table, vocabulary: Vocabulary) -> list[str]:
    """A note on what shares a token with something else, and so cannot be told from it."""
    labels, is_plain = vocabulary["labels"], vocabulary["scheme"] == "plain"
    tags = list(_word_tags(table, vocabulary))
    found = reach.by_tokens(tags, labels[vocabulary["missing"]], tokens, is_plain=is_plain)
    if not found.count:
        return []
    what = "words" if is_plain else "entities"
    return [
        f"{table.where(found.row)} and others: {found.told(f'{what} of train')} begin or end inside a token of the "
        "preset's tokenizer, or have none, and no answer can equal them. The tokens of another preset may fit better."
    ]


def _check_known(table: Table, vocabulary: Vocabulary) -> None:
    """Refuses a tag or a type that training never saw."""
    known = vocabulary["labels"] if vocabulary["scheme"] == "plain" else sorted(_kinds(vocabulary))
    column = "spans" if "spans" in table.names() else "tags"
    for index, row in enumerate(table.texts(column)):
        for value in row:
            name = value["label"] if column == "spans" else value
            if column == "tags" and vocabulary["scheme"] != "plain":
                name = name.partition("-")[2]
                if not name:
                    continue
            if name not in known:
                raise DataError(
                    f"{table.where(index)}: the tag {name!r} is unknown in the training data."
                    f"{did_you_mean(name, known)} Expected one of: {', '.join(known)}."
                )


def _kinds(vocabulary: Vocabulary) -> set[str]:
    return {name[2:] for name in vocabulary["labels"] if name != OUTSIDE}


def targets(table: Table, vocabulary: Vocabulary, tokens: Store) -> Aligned:
    """The class of the word that is read off each token, -1 for tokens of which none is."""
    ids = {name: i for i, name in enumerate(vocabulary["labels"])}
    classes, num_words = [], []
    for tags in _word_tags(table, vocabulary):
        classes += [ids[tag] for tag in tags]
        num_words.append(len(tags))
    begins = np.concatenate([[0], np.cumsum(num_words)])[:-1]
    group = tokens.group_of("word")
    text = np.repeat(tokens.texts, np.diff(tokens.offsets[group]))
    word = np.asarray(tokens.ids["word"])
    # The last stands for tokens that no word is read off.
    return Aligned(np.array([*classes, -1], np.int32)[np.where(word >= 0, begins[text] + word, -1)], group)


def _word_tags(table: Table, vocabulary: Vocabulary) -> Iterator[list[str]]:
    """The true class of each word, text by text: of the given words, else of those that the graph finds."""
    if "spans" in table.names():
        for spans, places in zip(_gold(table), _found_words(table, rule_of(vocabulary)), strict=True):
            yield entities.at_words(spans, places)
    elif vocabulary["scheme"] == "plain":
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


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """A model with the classes' logits for each token."""
    return heads.token_model(preset, len(vocabulary["labels"]), **settings)


class WordCrossentropy(keras.losses.Loss):
    """Cross-entropy of the tokens that words are read off, their mean in each row."""

    def __init__(self) -> None:
        super().__init__(name="crossentropy", reduction="sum")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        logits = ops.cast(y_pred, "float32")  # (batch, tokens, classes)
        targets = ops.cast(y_true, "int32")  # (batch, tokens)
        is_read = ops.cast(targets >= 0, "float32")
        log_probs = ops.log_softmax(logits, axis=-1)
        losses = -ops.sum(ops.one_hot(ops.maximum(targets, 0), logits.shape[-1]) * log_probs, axis=-1)
        return ops.sum(losses * is_read, axis=-1) / ops.maximum(ops.sum(is_read, axis=-1), 1.0)


def loss(recipe: Recipe, vocabulary: Vocabulary) -> WordCrossentropy:
    """Cross-entropy over the words."""
    return WordCrossentropy()


def counts(aligned: Aligned, vocabulary: Vocabulary, tokens: Store) -> np.ndarray:
    """The words of each row, or what else its tokens have a class for: `(rows,)`."""
    return np.add.reduceat(np.append(aligned.values >= 0, 0), tokens.offsets[aligned.group][:-1])


def answers(outputs: Any, vocabulary: Vocabulary, extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """`words` with their places, their `tags`, and `entities` unless the tags are plain."""
    labels, scheme, missing = (vocabulary[name] for name in ("labels", "scheme", "missing"))
    return graph.answers(outputs, labels, scheme, missing, extras, texts, rule_of(vocabulary))


def learnt(vocabulary: Vocabulary) -> dict[str, Any]:
    """Texts are read by the rule that the run was trained with."""
    return {"features": graph.reader(rule_of(vocabulary))}


def score(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> dict[str, Any]:
    """Entity precision, recall and F1 by seqeval, and the accuracy of tags, over the words or spans of the rows."""
    return entities.scored(*compared(found, table, vocabulary), is_plain=vocabulary["scheme"] == "plain")


def compared(
    found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary
) -> tuple[list[list[str]], list[list[str]]]:
    """True and answered tags, one for each word of the rows, or for each character where rows have spans."""
    if "spans" not in table.names():
        answered = [[tag.decode() for tag in row if tag] for row in found["tags"]]
        return table.texts("tags"), answered
    truth, answered = [], []
    for text, gold, spans in zip(table.texts("text"), _gold(table), _predicted(found), strict=True):
        truth.append(entities.of_spans(gold, len(text)))
        answered.append(entities.of_spans(spans, len(text)))
    return truth, answered


def _predicted(found: Mapping[str, np.ndarray]) -> Iterator[list[Span]]:
    """The answered entities of each text."""
    names = ("entities.start", "entities.end", "entities.type")
    for starts, ends, kinds in zip(*(found[name] for name in names), strict=True):
        filled = [(int(start), int(end), kind.decode()) for start, end, kind in zip(starts, ends, kinds, strict=True)]
        yield [span for span in filled if span[2]]


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those of the right answers."""
    labels = vocabulary["labels"]
    return list(entities.metric_names(labels, is_plain=vocabulary["scheme"] == "plain"))


def worst(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> tuple[list[Any], list[Any]]:
    """The rows with most wrong words."""
    return shown.tagged(*compared(found, table, vocabulary), table)


TAG = Task(
    name="tag",
    columns=task_columns.COLUMNS["tag"],
    prepare=prepare,
    derived=("marks",),
    reads=("text",),
    vocabulary=vocabulary,
    targets=targets,
    features=graph.encode,
    head=head,
    loss=loss,
    counts=counts,
    answers=answers,
    score=score,
    metrics=metric_names,
    shown=worst,
    best_by=("entity_f1", "token_accuracy"),
    limits=limits,
    remarks=remarks,
    learnt=learnt,
)
