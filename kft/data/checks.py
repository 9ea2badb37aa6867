"""What columns that belong together must agree on: tags with words, spans with a text, answers with a context."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from typing import Literal

import numpy as np
import pyarrow.compute as pc

from kft.data import edges
from kft.data.cells import made_anew, shown
from kft.data.faults import Faults
from kft.data.mapped import BLOCK_ROWS
from kft.data.nested import ANSWERS
from kft.data.table import ROW, Table

CHUNK_TAG = re.compile(r"(?:([BIESLUM])(?:-(.+))?|O)", re.DOTALL)
# BILOU and BMES say the same with other letters.
LETTERS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}


def check_tags(table: Table, words: str = "words", tags: str = "tags") -> None:
    """Checks that each row has as many tags as words.

    Args:
        table: Rows whose columns `words` and `tags` are clean.
        words: The column of lists of words.
        tags: The column of lists of tags.

    Raises:
        BadRows: The rows that do not.
    """
    lengths = [pc.list_value_length(table.rows[name]) for name in (words, tags)]
    faults = Faults(len(table))
    for index in np.flatnonzero(pc.not_equal(*lengths).to_numpy()).tolist():
        num_words, num_tags = (length[index].as_py() for length in lengths)
        faults.add(
            index,
            f"{table.where(index)} has {_count(num_words, 'word')} and {_count(num_tags, 'tag')}; expected one tag "
            "for each word. Add the missing ones, or remove the row.",
        )
    faults.refuse()


def check_spans(table: Table, text: str = "text", spans: str = "spans") -> None:
    """Checks that spans lie within their text, hold more than white space, and do not overlap.

    Args:
        table: Rows whose columns `text` and `spans` are clean.
        text: The column of texts.
        spans: The column of lists of spans, by start.

    Raises:
        BadRows: Rows with a span that ends past the text or is blank, or with two that overlap.
    """
    _check_rows(table, (text, spans), _check_row)


def check_events(table: Table, text: str = "text", events: str = "events") -> None:
    """Checks of triggers, and of the arguments of each event, what `check_spans` does of spans.

    Args:
        table: Rows whose columns `text` and `events` are clean.
        text: The column of texts.
        events: The column of lists of events, as `kft.data.nested.events_column` gives them.

    Raises:
        BadRows: Rows with a trigger or argument that is outside its text or blank, or with two triggers,
            or two arguments of an event, that overlap.
    """

    def check(string: str, found: list[dict], place: str) -> None:
        _check_row(string, [{**event, "label": event["type"]} for event in found], place)
        for event in found:
            _check_row(string, event["arguments"], place)

    _check_rows(table, (text, events), check)


def _check_rows(table: Table, columns: tuple[str, str], check: Callable[[str, list[dict], str], None]) -> None:
    """Refuses the rows that `check` refuses, all at once."""
    faults = Faults(len(table))
    index = 0
    for batch in table.rows.select([*columns, ROW]).to_batches(max_chunksize=BLOCK_ROWS):
        for string, found, number in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            try:
                check(string, found, f"{table.source}, row {number}")
            except ValueError as error:
                faults.add(index, error)
            index += 1
    faults.refuse()


def _check_row(text: str, spans: list[dict], place: str) -> None:
    before = None
    for span in spans:
        quoted = text[span["start"] : span["end"]]
        where = f"({span['label']}, {span['start']} to {span['end']})"
        if span["end"] > len(text):
            raise ValueError(
                f"{place}: the span {where} ends past the text, which has {_count(len(text), 'character')}; expected "
                "offsets in characters, neither in bytes nor in tokens."
            )
        if not quoted.strip(edges.SPACES):
            raise ValueError(f"{place}: the span {where} holds {shown(quoted)}, only white space; remove it.")
        if before is not None and span["start"] < before[1]:
            raise ValueError(
                f"{place}: the spans {before[0]} and {shown(quoted)} {where} overlap; expected spans apart from each "
                "other. Keep one of them."
            )
        before = f"{shown(quoted)} {where}", span["end"]


def located_answers(table: Table, context: str = "context", answers: str = "answers") -> Table:
    """The same rows with each answer's start in its context.

    Spaces at the edges of an answer are left out of it. An answer without a start is put where its text first occurs;
    one whose start does not lead to its text is moved to the nearest place that does. Notes count both kinds.

    Args:
        table: Rows whose columns `context` and `answers` are clean.
        context: The column of contexts.
        answers: The column of lists of answers, as `kft.data.nested.answers_column` gives them.

    Raises:
        BadRows: Rows with an answer whose text is not in the context, letter by letter.
    """
    moved: list[str] = []
    trimmed: list[str] = []

    def located(found: list[dict], string: str, number: int) -> list[dict]:
        return [placed(**answer, string=string, number=number) for answer in found]

    def placed(text: str, start: int, string: str, number: int) -> dict:
        first, end = edges.trimmed(text, 0, len(text))
        if (first, end) != (0, len(text)):
            trimmed.append(f"row {number}: answer {shown(text)}")
            text, start = text[first:end], start + first if start >= 0 else start
        return {"text": text, "start": place(text, start, string, number)}

    def place(text: str, start: int, string: str, number: int) -> int:
        found = nearest(text, string, max(start, 0))
        if found is None:
            raise ValueError(
                f"answer {shown(text)} is not in the context; expected text that stands there letter by letter. "
                "Correct one of them, or remove the row."
            )
        if start not in (-1, found):
            moved.append(f"row {number}: answer {shown(text)} starts at {found}, not at {start} as given")
        return found

    column = made_anew(table, answers, located, ANSWERS, beside=(context, ROW))
    rows = table.rows.set_column(table.rows.column_names.index(answers), answers, column)
    table = replace(table, rows=rows)
    total = pc.sum(pc.list_value_length(column)).as_py()
    if trimmed:
        table = table.with_notes(
            f"{table.source}, {trimmed[0]} has spaces at its edges, which are left out of it ({len(trimmed):,} of "
            f"{_count(total, 'answer')} have some)."
        )
    if not moved:
        return table
    return table.with_notes(
        f"{table.source}, {moved[0]} ({len(moved):,} of {_count(total, 'answer')} moved to the nearest place that has "
        "their text)."
    )


def nearest(text: str, context: str, start: int) -> int | None:
    """Where a text stands in a context, as near to `start` as it does; None where it does not.

    >>> nearest("tea", "tea or tea", 5), nearest("tea", "tea or tea", 0), nearest("milk", "tea", 0)
    (7, 0, None)
    """
    after = context.find(text, start)
    before = context.rfind(text, 0, start + len(text))
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: abs(place - start), default=None)


def chunk(tag: str) -> tuple[str, str]:
    """The letter of a tag, as BIOES has it, and the type after it; a tag without letter is a type alone.

    >>> chunk("B-PER"), chunk("U-PER"), chunk("L-creative-work"), chunk("O"), chunk("NOUN")
    (('B', 'PER'), ('S', 'PER'), ('E', 'creative-work'), ('O', ''), ('', 'NOUN'))
    """
    found = CHUNK_TAG.fullmatch(tag)
    if found is None:
        return "", tag
    return LETTERS.get(found[1], "O"), found[2] or ""


def scheme(tags: Iterable[str]) -> Literal["bio", "bioes", "plain"]:
    """How a set of tags marks entities.

    BILOU and BMES count as `bioes`. IOB1, where an entity may begin with I, counts as `bio`: its tags are the same.
    Letters without a type (`B I O`) are a scheme where there is a `B`. Anything else, as parts of speech, is `plain`.

    >>> scheme(["O", "B-PER", "I-PER"]), scheme(["O", "U-PER"]), scheme(["NOUN", "O"])
    ('bio', 'bioes', 'plain')
    """
    found = {chunk(tag) for tag in tags}
    letters = {letter for letter, _ in found}
    typed = any(kind for letter, kind in found if letter)
    if "" in letters or not (typed or "B" in letters):
        return "plain"
    return "bioes" if letters & {"E", "S"} else "bio"


def odd_sequences(table: Table, tags: str = "tags") -> list[str]:
    """Notes on tags that go on with an entity where none of their type is open, as I-X after O or after B-Y.

    Decoders repair them: such a tag begins an entity. IOB1 data is full of them.

    Args:
        table: Rows whose column `tags` is clean.
        tags: The column of lists of tags.

    Returns:
        One note with the first place and their number; none where there are none, or the tags are `plain`.
    """
    names = (pc.unique(pc.list_flatten(part)).to_pylist() for part in table.rows[tags].chunks)
    known = {tag: chunk(tag) for tag in chain.from_iterable(names)}
    if scheme(known) == "plain":
        return []
    count, first = 0, ""
    for batch in table.rows.select([tags, ROW]).to_batches(max_chunksize=BLOCK_ROWS):
        for sequence, number in zip(*(part.to_pylist() for part in batch.columns), strict=True):
            opened: str | None = None
            for place, tag in enumerate(sequence, 1):
                letter, kind = known[tag]
                if letter in ("I", "E") and kind != opened:
                    count += 1
                    before = f"after {sequence[place - 2]!r}" if place > 1 else "first"
                    first = first or f"{table.source}, row {number}: tag {place}, {tag!r}, comes {before}"
                opened = kind if letter in ("B", "I") else None
    if not count:
        return []
    return [f"{first}, where no entity of its type is open; it begins one ({_count(count, 'tag')} like this)."]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)
