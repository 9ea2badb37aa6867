"""Columns whose cells are lists, as the one type the rest relies on: words, tags, spans, events, answers, choices."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from kft.data import listed
from kft.data.faults import Faults
from kft.data.mapped import BLOCK_ROWS, memory_mapped
from kft.data.table import ROW, Table
from kft.errors import DataError

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
    return made_anew(table, name, _in_lists(_words, table, name, (str,)), TEXTS)


def tags_column(table: Table, name: str) -> pa.ChunkedArray:
    """The tags of each row, one for each word: lists of text or numbers, also as text, or text cut at single spaces.

    Returns:
        `(rows,)` large_list of large_string, stripped, without nulls or empty tags.

    Raises:
        DataError: At the first row without tags, and the first tag that is missing or no label.
    """
    return made_anew(table, name, _in_lists(_tags, table, name, (str, int, float)), TEXTS)


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


def made_anew(
    table: Table, name: str, convert: Callable[..., Any], kind: pa.DataType, *, beside: Sequence[str] = ()
) -> pa.ChunkedArray:
    """A column with each cell replaced by what `convert` makes of it; a long one lies on disk.

    Args:
        table: The rows.
        name: The column.
        convert: From a cell, and the row's cells of `beside`, to the new cell. Its ValueError becomes a refusal of the
            row.
        kind: The type of the new column.
        beside: Further columns that `convert` needs.

    Raises:
        BadRows: The rows that `convert` refuses, with the place of the first.
    """
    faults = Faults(len(table))

    def batches() -> Iterator[pa.RecordBatch]:
        index = 0
        for batch in table.rows.select([name, *beside, ROW]).to_batches(max_chunksize=BLOCK_ROWS):
            try:
                *columns, numbers = (column.to_pylist() for column in batch.columns)
            except (OverflowError, ValueError) as error:  # such as dates that Python has not
                raise DataError(f"{table.source}: column {name!r} holds values that cannot be read: {error}.") from None
            cells = []
            for number, *values in zip(numbers, *columns, strict=True):
                try:
                    cells.append(convert(*values))
                except ValueError as error:
                    faults.add(index, f"{table.source}, row {number}: column {name!r}: {error}")
                    cells.append(None)
                index += 1
            yield pa.record_batch([pa.array(cells, kind)], names=[name])

    made = memory_mapped(batches(), table.source)[name] if len(table) else pa.chunked_array([], kind)
    faults.refuse()
    return made


def _in_lists(
    convert: Callable[[Any], list[str]], table: Table, name: str, kinds: tuple[type, ...]
) -> Callable[[Any], list[str]]:
    """The same conversion, of cells that are read as lists first where the column holds lists as text.

    Decided once for a column: a cell of it that is no list is then refused, and not cut at spaces.
    """
    if not listed.spells_lists(table.rows[name], kinds):
        return convert

    def of_text(cell: Any) -> list[str]:
        if cell is None or not str(cell).strip():
            return convert(cell)
        try:
            return convert(listed.parse(cell))
        except ValueError as error:
            raise ValueError(f"{shown(cell)} is not read as a list, as other rows are: {error}.") from None

    return of_text


def shown(value: Any, width: int = 60) -> str:
    """A value as messages quote it, cut where it is long.

    >>> shown("a" * 100, 10)
    "'aaaaaaaa…"
    """
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def _words(cell: Any) -> list[str]:
    words = _listed(cell, "word")
    for place, word in enumerate(words, 1):
        _refuse_unlike_text(word, f"word {place} of {len(words)}")
    return words


def _tags(cell: Any) -> list[str]:
    tags = _listed(cell, "tag")
    found = []
    for place, tag in enumerate(tags, 1):
        label = _label(tag)
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
    start, end = (_whole(span.get(key)) for key in ("start", "end"))
    if start is None or end is None or not 0 <= start < end:
        found = f"from {shown(span.get('start'))} to {shown(span.get('end'))}"
        raise ValueError(
            f"span {place} goes {found}; expected whole numbers, the start at least 0 and the end past the start."
        )
    label = _label(next((span[key] for key in LABEL_KEYS if span.get(key) is not None), None))
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
        kind = _label(event.get("type"))
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
    text = text if isinstance(text, str) else _label(text)
    if not text or not text.strip():
        raise ValueError(f"answer {place} is {shown(answer.get('text'))}; expected text, or [] for no answer.")
    given = next((answer[key] for key in START_KEYS if answer.get(key) is not None), -1)
    start = _whole(given)
    if start is None or start < -1:
        raise ValueError(f"answer {place} starts at {shown(given)}; expected a whole number from 0, or none.")
    return {"text": text, "start": start}


def _refuse_unlike_text(value: Any, what: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is {shown(value)}; expected text that is more than white space.")


def parsed(cell: Any, form: str) -> Any:
    """What a cell holds; text that begins as a list or a dict is read as one, see `kft.data.listed`.

    Raises:
        ValueError: It is none to its end; says that `form` was expected.
    """
    if not isinstance(cell, str) or (opening := cell.lstrip()[:1]) not in listed.CLOSING:
        return cell
    if opening == "(":
        return listed.parse_tuple(cell)
    try:
        return listed.parse(cell)
    except ValueError as error:
        raise ValueError(f"{shown(cell)} is no whole list ({error}); expected {form}.") from None


def _whole(value: Any) -> int | None:
    """A whole number, also one stored as 3.0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else None


def _label(value: Any) -> str | None:
    """A label as text, stripped; whole numbers have no fraction. None for what is no label.

    >>> _label(1.0), _label(" B-PER"), _label(True), _label([])
    ('1', 'B-PER', 'true', None)
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int | float):
        whole = _whole(value)
        return str(value if whole is None else whole)
    return value.strip() if isinstance(value, str) else None
