"""Sentences written with one word a line and blank lines between them: CoNLL and CoNLL-U."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from kft.data.cells import shown
from kft.data.mapped import blocks
from kft.data.nested import TEXTS
from kft.data.table import ROW
from kft.errors import DataError
from kft.readers.lines import lines

DOCUMENT = "-DOCSTART-"
MOST_WORDS = 100_000
"""The longest sentence; past it the blank lines between sentences are missing, and must not fill the memory."""

ENTITY_TAG = r"(?:O|[BIESLUMW][-_]\S+)$"

UD_FIELDS = 10
UD_COLUMNS = {"words": 1, "lemmas": 2, "upos": 3, "xpos": 4, "feats": 5, "deprel": 7}
"""Which field of a word line each column is; see https://universaldependencies.org/format.html."""

Sentence = tuple[int, Sequence[list[str] | str | None], int]


def conll_batches(path: Path, source: str) -> tuple[Iterator[pa.RecordBatch], tuple[str, ...]]:
    """The sentences of a file with two or more columns as `words` and `tags`, and notes on what was read how.

    The first column is the word and the last one the tag. Columns are parted by tabs if the first line has one, else by
    spaces. `-DOCSTART-` lines are left out, and so are comments: lines before a sentence that begin with `#` and are no
    word with its tag, see `Shape`. A row's number is the line of its first word.

    Raises:
        DataError: At a line with more or fewer columns than the first, without a word or tag, or that may be a comment
            or a word.
    """
    shape = _shape(path, source)
    notes = []
    if shape.width > 2:
        notes.append(f"{source}: the first of {shape.width} columns is read as the words, the last as their tags.")
    if shape.comments:
        lines_are = "1 line is" if shape.comments == 1 else f"{shape.comments:,} lines are"
        place, line = shape.first_comment
        notes.append(f"{source}: {lines_are} left out as comments, the first is row {place}: {shown(line)}.")
    return _batches(_sentences(path, source, shape), source, {"words": TEXTS, "tags": TEXTS}), tuple(notes)


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


@dataclass
class Shape:
    """How a file is written, as its lines say.

    A line before a sentence that begins with `#` is a word where its tag is known from others. Else it is a comment
    where it has another number of columns than the words, or where all tags of the file are `O` or such as `B-PER` and
    its last column is neither. What is neither word nor comment by that is refused.

    Attributes:
        delimiter: What parts the columns.
        width: How many there are.
        first: The line that says so: the first one with a word.
        tags: Those of the lines that do not begin with `#`.
        hash_tags: Those of the lines inside a sentence that do.
        comments: How many lines are comments.
        first_comment: The first of them: its number and its text.
    """

    delimiter: str
    width: int
    first: int
    tags: set[str] = field(default_factory=set)
    hash_tags: set[str] = field(default_factory=set)
    comments: int = 0
    first_comment: tuple[int, str] = (0, "")

    def is_comment(self, fields: Sequence[str], number: int, source: str) -> bool:
        """Whether a line that begins with `#` and stands before a sentence is a comment.

        Raises:
            DataError: It cannot be told.
        """
        tag = fields[-1].strip()
        if len(fields) != self.width:
            return True
        if tag in self.tags or (self.delimiter == "\t" and " " not in fields[0]):
            return False
        if self.is_unlike_tags(tag):
            return True
        if tag in self.hash_tags:
            return False
        raise DataError(
            f"{source}, row {number}: {shown(' '.join(fields))} may be a comment, or a word with the tag {shown(tag)}, "
            "which no other word has. Remove the comments, or part the columns of all lines by tabs."
        )

    def is_unlike_tags(self, text: str) -> bool:
        """Whether the tags of the file mark entities, as `B-PER` does, and a text is of another form."""
        return self._has_entities and not re.match(ENTITY_TAG, text)

    @cached_property
    def _has_entities(self) -> bool:
        return all(re.match(ENTITY_TAG, tag) for tag in self.tags)


def _shape(path: Path, source: str) -> Shape:
    """Reads a file through: the first word says how wide it is, the tags tell words from comments."""
    shape, has_candidates, inside = None, False, False
    for number, line in enumerate(lines(path, source), 1):
        if not line.strip() or line.startswith(DOCUMENT):
            inside = False
        elif line.startswith("#") and not inside:
            has_candidates = True
        else:
            inside = True
            shape = shape or _shape_of(line, number, source)
            tags = shape.hash_tags if line.startswith("#") else shape.tags
            tags.add(_fields(line, shape.delimiter)[-1].strip())
    if shape is None:
        raise DataError(f"{source}: holds no sentences; expected lines with a word, a tab or space, and its tag.")
    if has_candidates:
        _count_comments(shape, path, source)
    return shape


def _count_comments(shape: Shape, path: Path, source: str) -> None:
    inside = False
    for number, line in enumerate(lines(path, source), 1):
        if not line.strip() or line.startswith(DOCUMENT):
            inside = False
        elif inside or not line.startswith("#"):
            inside = True
        elif shape.is_comment(_fields(line, shape.delimiter), number, source):
            shape.first_comment = shape.first_comment if shape.comments else (number, line.strip())
            shape.comments += 1
        else:
            inside = True


def _shape_of(line: str, number: int, source: str) -> Shape:
    delimiter = "\t" if "\t" in line else " "
    width = len(_fields(line, delimiter))
    if width < 2:
        raise DataError(
            f"{source}, row {number}: found 1 column, expected a word, a tab or space, and its tag. Does every line "
            "hold one word?"
        )
    return Shape(delimiter, width, number)


def _fields(line: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return line.rstrip("\r\n").split("\t")
    return [text for text in line.strip("\r\n").split(" ") if text]


def _sentences(path: Path, source: str, shape: Shape) -> Iterator[Sentence]:
    words: list[str] = []
    tags: list[str] = []
    start = size = 0
    for number, line in enumerate(lines(path, source), 1):
        if not line.strip() or line.startswith(DOCUMENT):
            if words:
                yield start, (words, tags), size
            words, tags, size = [], [], 0
            continue
        fields = _fields(line, shape.delimiter)
        if not words and line.startswith("#") and shape.is_comment(fields, number, source):
            continue
        if len(fields) != shape.width:
            columns = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            between = "tabs" if shape.delimiter == "\t" else "spaces"
            raise DataError(
                f"{source}, row {number}: found {columns}, expected {shape.width} with {between} between them, as in "
                f"row {shape.first}. Is the word or its tag missing?"
            )
        word, tag = fields[0], fields[-1].strip()
        if not word.strip() or not tag:
            raise DataError(
                f"{source}, row {number}: found the word {shown(word)} and the tag {shown(tag)}; expected both to be "
                "more than white space."
            )
        if line.startswith("#") and tag not in shape.tags and shape.is_unlike_tags(tag):
            raise DataError(
                f"{source}, row {number}: {shown(line.strip())} stands inside a sentence and its last column is no tag "
                "such as B-PER. If it is a comment, put it before the sentence or remove it."
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
