"""Baselines that look words up: the most frequent tag of a word, the sentence with the words of a question."""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kft.evaluation import entities, extraction, overlap, perplexity, qa
from kft.evaluation.classification import ACCURACY
from kft.evaluation.entities import OUTSIDE, Span
from kft.evaluation.metric import evaluate

SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")


def words(text: str) -> list[str]:
    """The words of a text in lower case, as ROUGE has them."""
    return overlap.WORD.findall(text.lower())


def frequent_tags(
    train: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
    test_words: Sequence[Sequence[str]],
    *,
    is_plain: bool,
) -> list[list[str]]:
    """The tag that each word has most often in training; of unknown words the most frequent one, or that of no entity.

    Args:
        train: The words of each row, and their tags.
        test_words: The words to tag.
        is_plain: Whether tags are classes of words, rather than of entities.

    >>> known = [["in", "Rome"], ["in", "Bath"]], [["O", "B-LOC"], ["O", "B-LOC"]]
    >>> frequent_tags(known, [["Bath", "is"]], is_plain=False)
    [['B-LOC', 'O']]
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row, tags in zip(*train, strict=True):
        for word, tag in zip(row, tags, strict=True):
            counts[word][tag] += 1
    best = {word: counter.most_common(1)[0][0] for word, counter in counts.items()}
    total: Counter[str] = sum(counts.values(), Counter())
    other = total.most_common(1)[0][0] if is_plain else OUTSIDE
    return [[best.get(word, other) for word in row] for row in test_words]


def frequent_entities(
    train: tuple[Sequence[str], Sequence[Sequence[Span]]], test_texts: Sequence[str]
) -> list[list[Span]]:
    """The entities in texts by `frequent_tags` of their words.

    Args:
        train: Texts, and the true entities of each: start, end and type, in order.
        test_texts: The texts to tag.
    """
    pieces, tags = [], []
    for text, spans in zip(*train, strict=True):
        places = _places(text)
        pieces.append([text[start:end] for start, end in places])
        tags.append(entities.at_words(spans, places))
    answers = []
    asked = [(text, _places(text)) for text in test_texts]
    given = [[text[start:end] for start, end in places] for text, places in asked]
    for (_, places), row in zip(asked, frequent_tags((pieces, tags), given, is_plain=False), strict=True):
        answers.append([(places[first][0], places[last][1], kind) for kind, first, last in entities.entities(row)])
    return answers


def _places(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in overlap.WORD.finditer(text)]


def nearest_sentence(question: str, context: str) -> str:
    """The sentence of a context that shares most words with a question, the first one of equals.

    >>> nearest_sentence("Who drinks tea?", "Ann is here. Bob drinks tea. Cy is not.")
    'Bob drinks tea.'
    """
    asked = set(words(question))
    sentences = _sentences(context)
    return max(sentences, key=lambda one: len(asked & one[1]))[0] if sentences else ""


@functools.lru_cache(maxsize=1024)
def _sentences(context: str) -> tuple[tuple[str, frozenset[str]], ...]:
    texts = [sentence.strip() for sentence in SENTENCE.findall(context)]
    return tuple((text, frozenset(words(text))) for text in texts if text)


def sentences(questions: Sequence[str], contexts: Sequence[str], truths: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Metrics of answering with `nearest_sentence`."""
    return qa.scored([nearest_sentence(*one) for one in zip(questions, contexts, strict=True)], truths)


def shared_words(texts: Sequence[str], choices: Sequence[Sequence[str]], truth: Sequence[int]) -> dict[str, Any]:
    """The accuracy of the choice with the largest share of its words in the text, the first one of equals.

    Args:
        texts: One a row.
        choices: The choices of each row.
        truth: The number of the right one.

    >>> shared_words(["Tea is hot."], [["a cold cup", "hot tea"]], [1])["accuracy"]
    1.0
    """
    correct = []
    for text, row, number in zip(texts, choices, truth, strict=True):
        known = set(words(text))
        shares = [len(known & set(words(choice))) / max(len(set(words(choice))), 1) for choice in row]
        correct.append(int(np.argmax(shares)) == number)
    return {**evaluate([ACCURACY], {"correct": np.array(correct)}), "num_rows": len(correct)}


def first_words(prompts: Sequence[str], count: int) -> list[str]:
    """The beginning of each prompt, up to its `count`-th word.

    >>> first_words(["Tea, hot and sweet."], 2)
    ['Tea, hot']
    """
    leads = []
    for prompt in prompts:
        ends = [match.end() for _, match in zip(range(count), overlap.WORD.finditer(prompt), strict=False)]
        leads.append(prompt[: ends[-1]] if ends else "")
    return leads


def frequent_triggers(
    train: tuple[Sequence[str], Sequence[Sequence[Mapping[str, Any]]]],
    test: tuple[Sequence[str], Sequence[Sequence[Mapping[str, Any]]]],
) -> dict[str, Any]:
    """Metrics of taking a word for the trigger that it most often is in training, if it is one more often than not.

    Triggers of several words, and arguments, are never answered.

    Args:
        train: Texts and their events: `type`, `start`, `end` and `arguments`.
        test: Likewise.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, row in zip(*train, strict=True):
        types = {(event["start"], event["end"]): event["type"] for event in row}
        for place in _places(text):
            counts[text[slice(*place)]][types.get(place, "")] += 1
    best = {word: counter.most_common(1)[0][0] for word, counter in counts.items()}
    answered = [
        {(kind, *place) for place in _places(text) if (kind := best.get(text[slice(*place)], ""))} for text in test[0]
    ]
    triggers = [{(event["type"], event["start"], event["end"]) for event in row} for row in test[1]]
    arguments = [
        {(event["type"], one["label"], one["start"], one["end"]) for event in row for one in event["arguments"]}
        for row in test[1]
    ]
    nothing: list[set[Any]] = [set() for _ in answered]
    return extraction.scored({"trigger": triggers, "argument": arguments}, {"trigger": answered, "argument": nothing})


def unigrams(train_ids: np.ndarray, test_ids: np.ndarray, vocabulary_size: int) -> dict[str, Any]:
    """The perplexity of tokens by their frequency in training, with one added to each count.

    Args:
        train_ids: The tokens of the training rows, one after another, without special ones.
        test_ids: Those that are scored.
        vocabulary_size: How many different tokens the tokenizer has.

    >>> round(unigrams(np.array([0, 0, 1]), np.array([0, 1]), 2)["perplexity"], 3)
    2.041
    """
    counts = np.bincount(train_ids, minlength=vocabulary_size) + 1.0
    return {"perplexity": perplexity.of_loss(float(-np.log(counts / counts.sum())[test_ids].mean()))}
