"""Plain text as rows: its paragraphs, or its lines where it has no paragraphs."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from kft.data.mapped import blocks
from kft.data.table import ROW
from kft.errors import DataError
from kft.readers.lines import lines

MOST_CHARACTERS = 16 * 1024 * 1024
"""The longest paragraph; past it the blank lines are missing, and must not fill the memory."""


def paragraph_batches(path: Path, source: str) -> tuple[Iterator[pa.RecordBatch], tuple[str, ...]]:
    """The paragraphs of a text as `text`, and a note on what a row is.

    Blank lines part paragraphs, whose own line breaks stay in them. In a file without any, each line is a row. A row's
    number is the line that it begins on.
    """
    has_blank = _has_blank_line(path, source)
    note = f"{source}: a row is a {'paragraph, which ends at a blank line' if has_blank else 'line'}."
    return _batches(path, source, by_line=not has_blank), (note,)


def _has_blank_line(path: Path, source: str) -> bool:
    """Whether a blank line stands between two that are not."""
    has_text = has_gap = False
    for line in lines(path, source):
        if not line.strip():
            has_gap = has_text
        elif has_gap:
            return True
        else:
            has_text = True
    return False


def _batches(path: Path, source: str, *, by_line: bool) -> Iterator[pa.RecordBatch]:
    empty = True
    for block in blocks(_paragraphs(path, source, by_line)):
        texts, numbers = [text for _, text in block], [number for number, _ in block]
        yield pa.record_batch([pa.array(texts, pa.large_string()), pa.array(numbers, pa.int64())], names=["text", ROW])
        empty = False
    if empty:
        raise DataError(f"{source}: holds nothing but white space; expected text.")


def _paragraphs(path: Path, source: str, by_line: bool) -> Iterator[tuple[int, str, int]]:
    """`(line, text, characters)` of each row."""
    gathered: list[str] = []
    start = size = 0
    for number, line in enumerate(lines(path, source), 1):
        if gathered and (by_line or not line.strip()):
            yield start, "\n".join(gathered), size
            gathered, size = [], 0
        if not line.strip():
            continue
        start = start if gathered else number
        gathered.append(line.rstrip("\r\n"))
        size += len(line)
        if size > MOST_CHARACTERS:
            raise DataError(
                f"{source}, row {start}: the paragraph that begins here has more than {MOST_CHARACTERS:,} characters; "
                "put blank lines between paragraphs."
            )
    if gathered:
        yield start, "\n".join(gathered), size
