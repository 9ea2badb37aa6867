"""The questions of a file in SQuAD's form: articles of paragraphs, each with a context and its questions."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from kft.data.cells import shown
from kft.data.mapped import blocks
from kft.data.table import ROW
from kft.errors import DataError
from kft.readers.elements import elements, members

ANSWERS = pa.large_list(pa.struct([("text", pa.large_string()), ("answer_start", pa.int64())]))
COLUMNS = {
    "id": pa.large_string(),
    "title": pa.large_string(),
    "context": pa.large_string(),
    "question": pa.large_string(),
    "answers": ANSWERS,
    "is_impossible": pa.bool_(),
}


def articles_position(text: str, position: int, source: str) -> int | None:
    """Where the list of articles begins in an object at `position`; None if it has no list called `data`."""
    found = (at for key, at in members(text, position, source) if key == "data" and text[at : at + 1] == "[")
    return next(found, None)


def question_batches(text: str, position: int, source: str) -> Iterator[pa.RecordBatch]:
    """The questions of all articles, with `answers` null where a file has none to give.

    A row's number is the rank of its question: such files have few lines, often one.

    Args:
        text: The whole file.
        position: Where the list of articles begins.
        source: What messages call the file.

    Raises:
        DataError: At an article, paragraph, question or answer of another form.
    """
    empty = True
    for block in blocks(_questions(text, position, source)):
        columns = {name: pa.array([row[name] for _, row in block], kind) for name, kind in COLUMNS.items()}
        yield pa.record_batch({**columns, ROW: pa.array([number for number, _ in block], pa.int64())})
        empty = False
    if empty:
        raise DataError(f"{source}: has no questions under 'data'; expected articles with paragraphs and questions.")


def _questions(text: str, position: int, source: str) -> Iterator[tuple[int, dict[str, Any], int]]:
    number = 0
    for rank, (_, article, _) in enumerate(elements(text, position, source, alone=False), 1):
        place = f"{source}, article {rank}"
        for paragraph in _list(article, "paragraphs", place):
            context = _text(paragraph, "context", f"{place}: a paragraph")
            for question in _list(paragraph, "qas", f"{place}: a paragraph"):
                number += 1
                row = _row(question, f"{source}, row {number} (article {rank})")
                yield number, {**row, "title": _name(article.get("title")), "context": context}, len(context)


def _row(question: Any, place: str) -> dict[str, Any]:
    answers = None
    if isinstance(question, dict) and question.get("answers") is not None:
        answers = [_answer(answer, place) for answer in _list(question, "answers", place)]
    return {
        "id": _name(question.get("id")) if isinstance(question, dict) else None,
        "question": _text(question, "question", place),
        "answers": answers,
        "is_impossible": question.get("is_impossible") is True,
    }


def _answer(answer: Any, place: str) -> dict[str, Any]:
    start = answer.get("answer_start") if isinstance(answer, dict) else None
    if isinstance(start, bool) or not isinstance(start, int | None):
        raise DataError(f"{place}: an answer starts at {shown(start)}; expected a whole number.")
    return {"text": _text(answer, "text", f"{place}: an answer"), "answer_start": start}


def _list(value: Any, key: str, place: str) -> list:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise DataError(
            f"{place}: has no list {key!r}; found {shown(value)}, expected the form of SQuAD: data, paragraphs, qas, "
            "answers. Write rows of another kind as a JSON array alone."
        )
    return found


def _text(value: Any, key: str, place: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise DataError(f"{place}: the {key} is {shown(found)}; expected text, as in SQuAD.")
    return found


def _name(value: Any) -> str | None:
    return None if value is None else str(value)
