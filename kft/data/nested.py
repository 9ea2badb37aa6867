"""Columns whose cells are lists, as the one type the rest relies on: words, tags, spans, events, answers, choices."""

from typing import Any

import pyarrow as pa

from kft.data.cells import in_lists, label_text, made_anew, parsed, shown, whole_number
from kft.data.table import Table

TEXTS = pa.large_list(pa.large_string())
SPANS = pa.large_list(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.large_string())]))
ANSWERS = pa.large_list(pa.struct([("text", pa.large_string()), ("start", pa.int64())]))
EVENTS = pa.large_list(
    pa.struct([("type", pa.large_string()), ("start", pa.int64()), ("end", pa.int64()), ("arguments", SPANS)])
)

SPAN = ("start", "end", "label")
LABEL_KEYS = ("label", "type", "tag", "entity", "role")
START_KEYS = ("answer_start", "start")
A_SPAN = '{"start": 0, "end": 5, "label": "PER"}'
AN_EVENT = '{"type": "buy", "trigger": {"start": 3, "end": 7}, "arguments": [{"role": "item", "start": 8, "end": 9}]}'


def words_column(table: Table, name: str) -> pa.ChunkedArray:
    """The words of each row: lists as they are, lists written as text, or text cut at single spaces.

    Returns:
        `(rows,)` large_list of large_string without nulls, empty lists or blank words.

    Raises:
        DataError: At the first row without words, and the first word that is empty, white space or no text.
    """
    return made_anew(table, name, in_lists(_words, table, name, (str,)), TEXTS)


def tags_column(table: Table, name: str) -> pa.ChunkedArray:
    """The tags of each row, one for each word: lists of text or numbers, also as text, or text cut at single spaces.

    Returns:
        `(rows,)` large_list of large_string, stripped, without nulls or empty tags.

    Raises:
        DataError: At the first row without tags, and the first tag that is missing or no label.
    """
    return made_anew(table, name, in_lists(_tags, table, name, (str, int, float)), TEXTS)


def choices_column(table: Table, name: str) -> pa.ChunkedArray:
    """The choices of each row: at least two texts, as a list or as the text of one.

    Returns:
        `(rows,)` large_list of large_string without blank texts.

    Raises:
        DataError: At the first row with fewer than two, and the first choice that is blank or no text.
    """
    return made_anew(table, name, _choices, TEXTS)


def spans_column(table: Table, name: str) -> pa.ChunkedArray:
    """The labelled spans of each row, by start; lists, or the text of them as JSON or Python writes it.

    A span is `{"start", "end", "label"}` or `[start, end, label]`. The label may be called `type`, `tag` or `entity`
    too. A `text` in it is compared with the column `text`, if there is one. Offsets count characters (code points)
    from 0, and the end is the first character after the span. An empty list is a row without spans.

    Returns:
        `(rows,)` large_list of `struct<start: int64, end: int64, label: large_string>` without nulls.

    Raises:
        DataError: At the first cell that is no list of spans, and the first span without label, with an end that is
            not past its start, or with another text.
    """
    return made_anew(table, name, _spans, SPANS, beside=_quoted(table))


def events_column(table: Table, name: str) -> pa.ChunkedArray:
    """The events of each row, in the order of their triggers; lists, or the text of them as JSON or Python writes it.

    An event is `{"type", "trigger": {"start", "end"}, "arguments": [{"role", "start", "end"}, …]}`; of the spans in it
    holds what `spans_column` says. An empty list is a row without events.

    Returns:
        `(rows,)` large_list of `struct<type, start, end, arguments>` without nulls, the arguments as in `spans_column`
        with the role as label.

    Raises:
        DataError: At the first cell that is no list of events, and the first event without type or trigger.
    """
    return made_anew(table, name, _events, EVENTS, beside=_quoted(table))


def _quoted(table: Table) -> tuple[str, ...]:
    """The column that texts in spans are compared with, if it is there."""
    return ("text",) if "text" in table.names() and not pa.types.is_nested(table.rows["text"].type) else ()


def answers_column(table: Table, name: str) -> pa.ChunkedArray:
    """The gold answers of each question, as many as there are.

    They may be `{"text": […], "answer_start": […]}`, a list of `{"text", "answer_start"}`, a list of texts, a text, or
    the text of these as JSON or Python writes it. An empty list is a question without an answer.

    Returns:
        `(rows,)` large_list of `struct<text: large_string, start: int64>` without nulls; start is -1 where none is
        given.

    Raises:
        DataError: At the first cell that is missing or none of these, and the first answer that is blank.
    """
    return made_anew(table, name, _answers, ANSWERS)


def _words(cell: Any) -> list[str]:
    words = _listed(cell, "word")
    for place, word in enumerate(words, 1):
        _refuse_unlike_text(word, f"word {place} of {len(words)}")
    return words


def _tags(cell: Any) -> list[str]:
    tags = _listed(cell, "tag")
    found = []
    for place, tag in enumerate(tags, 1):
        label = label_text(tag)
        if not label:
            raise ValueError(f"tag {place} of {len(tags)} is {shown(tag)}; expected a label, as text or number.")
        found.append(label)
    return found


def _listed(cell: Any, what: str) -> list:
    if cell is None or cell == [] or (isinstance(cell, str) and not cell.strip()):
        raise ValueError(f"there is no {what}; expected at least one in each row. Fill it in or remove such rows.")
    cells = cell.split(" ") if isinstance(cell, str) else cell
    if not isinstance(cells, list):
        raise ValueError(f"found {shown(cell)}; expected a list of {what}s, or text with single spaces between them.")
    return cells


def _choices(cell: Any) -> list[str]:
    choices = parsed(cell, '["one", "another"]')
    if not isinstance(choices, list):
        raise ValueError(f'found {shown(cell)}; expected a list of texts: ["one", "another"].')
    if len(choices) < 2:
        raise ValueError(f"the number of choices is {len(choices)}; expected at least 2.")
    for place, choice in enumerate(choices, 1):
        _refuse_unlike_text(choice, f"choice {place} of {len(choices)}")
    return choices


def _spans(cell: Any, text: Any = None) -> list[dict]:
    spans = parsed(cell, f"[{A_SPAN}]")
    if not isinstance(spans, list):
        raise ValueError(f"found {shown(cell)}; expected a list of spans, [{A_SPAN}], or [] for none.")
    found = [_span(span, place, text) for place, span in enumerate(spans, 1)]
    return sorted(found, key=lambda span: (span["start"], span["end"]))


def _span(span: Any, place: int, text: Any) -> dict[str, Any]:
    if isinstance(span, list) and len(span) == len(SPAN):
        span = dict(zip(SPAN, span, strict=True))
    if not isinstance(span, dict):
        raise ValueError(f'span {place} is {shown(span)}; expected {A_SPAN}, or [0, 5, "PER"].')
    start, end = (whole_number(span.get(key)) for key in ("start", "end"))
    if start is None or end is None or not 0 <= start < end:
        found = f"from {shown(span.get('start'))} to {shown(span.get('end'))}"
        raise ValueError(
            f"span {place} goes {found}; expected whole numbers, the start at least 0 and the end past the start."
        )
    label = label_text(next((span[key] for key in LABEL_KEYS if span.get(key) is not None), None))
    if not label:
        raise ValueError(f"span {place}, from {start} to {end}, has no label (looked for {', '.join(LABEL_KEYS)}).")
    quoted = span.get("text")
    if None not in (quoted, text) and str(text)[start:end] != quoted:
        raise ValueError(
            f"span {place} has the text {shown(quoted)}, but from {start} to {end} there is "
            f"{shown(str(text)[start:end])}; offsets count characters from 0, and the end is the first one after."
        )
    return {"start": start, "end": end, "label": label}


def _events(cell: Any, text: Any = None) -> list[dict]:
    found = parsed(cell, f"[{AN_EVENT}]")
    if not isinstance(found, list):
        raise ValueError(f"found {shown(cell)}; expected a list of events, [{AN_EVENT}], or [] for none.")
    made = []
    for place, event in enumerate(found, 1):
        if not isinstance(event, dict) or not isinstance(event.get("trigger"), dict | list):
            raise ValueError(f"event {place} is {shown(event)}; expected {AN_EVENT}.")
        kind = label_text(event.get("type"))
        if not kind:
            raise ValueError(f"event {place} has no type; expected {AN_EVENT}.")
        trigger = event["trigger"]
        trigger = {**trigger, "label": kind} if isinstance(trigger, dict) else [*trigger[:2], kind]
        try:
            start, end, label = _span(trigger, 1, text).values()
            arguments = _spans(event.get("arguments") or [], text)
        except ValueError as error:
            raise ValueError(f"event {place} ({kind}): {error}") from None
        made.append({"type": label, "start": start, "end": end, "arguments": arguments})
    return sorted(made, key=lambda event: (event["start"], event["end"]))


def _answers(cell: Any) -> list[dict]:
    answers = parsed(cell, 'a text, or ["one", "another"]')
    if answers is None or (isinstance(answers, str) and not answers.strip()):
        raise ValueError("the answer is missing; fill it in, or write [] where the question has no answer.")
    if isinstance(answers, dict):
        answers = _paired(answers)
    elif not isinstance(answers, list):
        answers = [answers]
    return [_answer(answer, place) for place, answer in enumerate(answers, 1)]


def _paired(columns: dict[str, Any]) -> list[dict]:
    """The answers of `{"text": […], "answer_start": […]}`."""
    if "text" not in columns:
        raise ValueError(f"found the keys {', '.join(map(repr, columns))}; expected 'text' and 'answer_start'.")
    texts, starts = columns["text"], next((columns[key] for key in START_KEYS if columns.get(key) is not None), None)
    if not isinstance(texts, list):
        texts, starts = ([] if texts is None else [texts]), (None if starts is None else [starts])
    starts = [None] * len(texts) if starts is None else starts
    if not isinstance(starts, list) or len(starts) != len(texts):
        raise ValueError(f"the texts are {shown(texts)} and their starts {shown(starts)}; expected one start each.")
    return [{"text": text, "start": start} for text, start in zip(texts, starts, strict=True)]


def _answer(answer: Any, place: int) -> dict[str, Any]:
    if not isinstance(answer, dict):
        answer = {"text": answer}
    text = answer.get("text")
    text = text if isinstance(text, str) else label_text(text)
    if not text or not text.strip():
        raise ValueError(f"answer {place} is {shown(answer.get('text'))}; expected text, or [] for no answer.")
    given = next((answer[key] for key in START_KEYS if answer.get(key) is not None), -1)
    start = whole_number(given)
    if start is None or start < -1:
        raise ValueError(f"answer {place} starts at {shown(given)}; expected a whole number from 0, or none.")
    return {"text": text, "start": start}


def _refuse_unlike_text(value: Any, what: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is {shown(value)}; expected text that is more than white space.")
