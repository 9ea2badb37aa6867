"""What no answer can equal: spans whose edges are inside a word or a token, counted and told in notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kft.data.cells import shown
from kft.data.store import Store
from kft.evaluation import entities
from kft.evaluation.entities import Span
from kft.text.tag_sequences import continued


@dataclass(frozen=True)
class Missed:
    """Spans that cannot be answered.

    Attributes:
        count: How many.
        total: Of how many.
        row: The index of the first one's row.
        example: The first one, in words.
    """

    count: int = 0
    total: int = 0
    row: int = 0
    example: str = ""

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.count / max(self.total, 1)

    def told(self, what: str) -> str:
        """The count and the share.

        >>> Missed(1, 40).told("spans")
        '1 of 40 spans (2.5%)'
        """
        return f"{self.count:,} of {self.total:,} {what} ({100 * self.share:.3g}%)"


def off_edges(
    texts: Iterable[str], gold: Iterable[Sequence[Span]], places: Iterable[Sequence[tuple[int, int]]]
) -> Missed:
    """The spans that begin or end elsewhere than words do.

    Args:
        texts: Of the rows.
        gold: Start, end and type of the spans of each.
        places: Start and end of the words of each.

    >>> found = off_edges(["das EUweite"], [[(4, 6, "ORG"), (4, 11, "X")]], [[(0, 3), (4, 11)]])
    >>> found.count, found.total, found.example
    (1, 2, "'EU' in 'EUweite'")
    """
    count = total = first = 0
    example = ""
    for index, (text, spans, words) in enumerate(zip(texts, gold, places, strict=True)):
        starts, ends = ({place[side] for place in words} for side in (0, 1))
        total += len(spans)
        for start, end, _ in spans:
            if start in starts and end in ends:
                continue
            count += 1
            if not example:
                first = index
                cut = next(((a, b) for a, b in words if a < start < b or a < end < b), (start, end))
                example = f"{shown(text[start:end])} in {shown(text[slice(*cut)])}"
    return Missed(count, total, first, example)


def by_tokens(tags: Sequence[Sequence[str]], missing: str, tokens: Store, *, is_plain: bool) -> Missed:
    """The entities, or words where tags are plain, that no classes of tokens stand for.

    Words that are read off one token have the class of the first; those that no token stands for have `missing`.

    Args:
        tags: The true class of each word, text by text.
        missing: The class of words without a token.
        tokens: The store of the texts, as `kft.text.tagging.encode` makes it.
        is_plain: Whether tags are classes of words, rather than of entities.
    """
    names = sorted({missing, *(tag for row in tags for tag in row), *(continued(t) for row in tags for t in set(row))})
    number = {name: i for i, name in enumerate(names)}
    further = np.array([i if is_plain else number[continued(name)] for i, name in enumerate(names)])
    begins = np.concatenate([[0], np.cumsum([len(row) for row in tags], dtype=np.int64)])
    truth = np.array([number[tag] for row in tags for tag in row], np.int64)
    text = np.repeat(tokens.texts, np.diff(tokens.offsets[tokens.group_of("word")]))
    word, num_words = np.asarray(tokens.features["word"]), np.asarray(tokens.features["num_words"])
    is_read = num_words > 0
    first = begins[text[is_read]] + word[is_read]
    count = num_words[is_read]
    read_off = np.repeat(first, count)  # for each word that is read the first of its token
    places = read_off + np.arange(len(read_off)) - np.repeat(np.cumsum(count) - count, count)
    best = np.full(len(truth), number[missing])
    best[places] = np.where(places == read_off, truth[read_off], further[truth[read_off]])
    is_wrong = best != truth
    if is_plain:
        rows = np.flatnonzero(is_wrong)
        at = int(np.searchsorted(begins, rows[0], side="right") - 1) if len(rows) else 0
        return Missed(len(rows), len(truth), at)
    lost = [0] * len(tags)
    for row in np.unique(np.searchsorted(begins, np.flatnonzero(is_wrong), side="right") - 1):
        answered = [names[i] for i in best[begins[row] : begins[row + 1]]]
        lost[row] = len(set(entities.entities(tags[row])) - set(entities.entities(answered)))
    total = sum(tag.startswith("B-") for row in tags for tag in row)
    return Missed(sum(lost), total, next((row for row, n in enumerate(lost) if n), 0))
