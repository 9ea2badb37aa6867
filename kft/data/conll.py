"""Sentences written with one word a line and blank lines between them: CoNLL and CoNLL-U."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from kft.data.lines import lines
from kft.data.nested import TEXTS, shown
from kft.data.spool import blocks
from kft.data.table import ROW
from kft.errors import DataError

DOCUMENT = "-DOCSTART-"
MOST_WORDS = 100_000
"""The longest sentence; past it the blank lines between sentences are missing, and must not fill the memory."""

UD_FIELDS = 10
UD_COLUMNS = {"words": 1, "lemmas": 2, "upos": 3, "xpos": 4, "feats": 5, "deprel": 7}
"""Which field of a word line each column is; see https://universaldependencies.org/format.html."""

Sentence = tuple[int, Sequence[list[str] | str | None], int]


def conll_batches(path: Path, source: str) -> tuple[Iterator[pa.RecordBatch], tuple[str, ...]]:
    """The sentences of a file with two or more columns as `words` and `tags`, and a note where there are more.

    The first column is the word and the last one the tag. Columns are parted by tabs if the first line has one, else by
    spaces. `-DOCSTART-` lines are left out, and so are lines before a sentence that begin with `#` and are not as wide
    as the others. A row's number is the line of its first word.

    Raises:
        DataError: At a line with more or fewer columns than the first, or without a word or tag.
    """
    delimiter, width, first = _shape(path, source)
    notes = (f"{source}: the first of {width} columns is read as the words, the last as their tags.",)
    rows = _sentences(path, source, delimiter, width, first)
    return _batches(rows, source, {"words": TEXTS, "tags": TEXTS}), notes if width > 2 else ()


def conllu_batches(path: Path, source: str) -> tuple[Iterator[pa.RecordBatch], tuple[str, ...]]:
    """The sentences of a treebank as `text`, `words`, `lemmas`, `upos`, `xpos`, `feats` and `deprel`.

    Words are syntactic ones: the ranges of multiword tokens (`1-2`) and empty nodes (`1.1`) are left out. `text` comes
    from the comment of that name and may be null. A row's number is the first line of its sentence, comments included.

    Raises:
        DataError: At a line without ten columns or a word, or with another number than the next.
    """
    types = {"text": pa.large_string(), **dict.fromkeys(UD_COLUMNS, TEXTS)}
    return _batches(_ud_sentences(path, source), source, types), ()


def _batches(rows: Iterator[Sentence], source: str, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    empty = True
    for block in blocks(rows):
        columns = zip(*(values for _, values in block), strict=True)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, types.values(), strict=True)]
        yield pa.record_batch([*arrays, pa.array([number for number, _ in block], pa.int64())], names=[*types, ROW])
        empty = False
    if empty:
        raise DataError(f"{source}: holds no sentences; expected one word a line, and blank lines between sentences.")


def _shape(path: Path, source: str) -> tuple[str, int, int]:
    """What parts the columns, how many there are, and the line that says so: the first one with a word."""
    for number, line in enumerate(lines(path, source), 1):
        if line.strip() and not line.startswith((DOCUMENT, "#")):
            delimiter = "\t" if "\t" in line else " "
            width = len(_fields(line, delimiter))
            if width < 2:
                raise DataError(
                    f"{source}, row {number}: found 1 column, expected a word, a tab or space, and its tag. Does every "
                    "line hold one word?"
                )
            return delimiter, width, number
    raise DataError(f"{source}: holds no sentences; expected lines with a word, a tab or space, and its tag.")


def _fields(line: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return line.rstrip("\r\n").split("\t")
    return [field for field in line.strip("\r\n").split(" ") if field]


def _sentences(path: Path, source: str, delimiter: str, width: int, first: int) -> Iterator[Sentence]:
    words: list[str] = []
    tags: list[str] = []
    start = size = 0
    for number, line in enumerate(lines(path, source), 1):
        if not line.strip() or line.startswith(DOCUMENT):
            if words:
                yield start, (words, tags), size
            words, tags, size = [], [], 0
            continue
        fields = _fields(line, delimiter)
        if not words and line.startswith("#") and len(fields) != width:
            continue
        if len(fields) != width:
            columns = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            between = "tabs" if delimiter == "\t" else "spaces"
            raise DataError(
                f"{source}, row {number}: found {columns}, expected {width} with {between} between them, as in row "
                f"{first}. Is the word or its tag missing?"
            )
        word, tag = fields[0], fields[-1].strip()
        if not word.strip() or not tag:
            raise DataError(
                f"{source}, row {number}: found the word {shown(word)} and the tag {shown(tag)}; expected both to be "
                "more than white space."
            )
        start = start if words else number
        words.append(word)
        tags.append(tag)
        size += len(line)
        _check_length(words, start, source)
    if words:
        yield start, (words, tags), size


def _ud_sentences(path: Path, source: str) -> Iterator[Sentence]:
    columns: list[list[str]] = [[] for _ in UD_COLUMNS]
    text = None
    start = size = 0
    for number, line in enumerate(lines(path, source), 1):
        if not line.strip():
            if columns[0]:
                yield start, (text, *columns), size
            columns, text, start, size = [[] for _ in UD_COLUMNS], None, 0, 0
            continue
        start = start or number
        size += len(line)
        if line.startswith("#"):
            key, _, value = line[1:].partition("=")
            text = value.strip() if key.strip() == "text" else text
            continue
        fields = _ud_fields(line, f"{source}, row {number}")
        if not fields[0].isdecimal():
            continue
        if int(fields[0]) != len(columns[0]) + 1:
            raise DataError(
                f"{source}, row {number}: is word {fields[0]} of its sentence, expected {len(columns[0]) + 1}. Is a "
                "line missing, or the blank line between two sentences?"
            )
        for column, position in zip(columns, UD_COLUMNS.values(), strict=True):
            column.append(fields[position])
        _check_length(columns[0], start, source)
    if columns[0]:
        yield start, (text, *columns), size


def _ud_fields(line: str, place: str) -> list[str]:
    """The ten fields of a word line."""
    fields = line.rstrip("\r\n").split("\t")
    if len(fields) != UD_FIELDS:
        columns = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
        raise DataError(
            f"{place}: found {columns}, expected the {UD_FIELDS} of CoNLL-U with tabs between them. A file with words "
            "and tags alone takes the ending .conll."
        )
    if not fields[0].replace("-", ".", 1).replace(".", "", 1).isdecimal():
        raise DataError(f"{place}: found {shown(fields[0])} as the word's number; expected 1, 1-2 or 1.1.")
    if not fields[1].strip():
        raise DataError(f"{place}: has no word in column 2; write _ where it is withheld.")
    return fields


def _check_length(words: list[str], start: int, source: str) -> None:
    if len(words) > MOST_WORDS:
        raise DataError(
            f"{source}, row {start}: the sentence that begins here has more than {MOST_WORDS:,} words; put blank lines "
            "between sentences."
        )
