"""How benchmarks are released: their files, and what reads them as rows of text by column name."""

import csv
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from kft.data.table import ROW
from kft.errors import DataError
from kft.readers.conll import conll_batches, conllu_batches
from kft.readers.delimited import FIELD_CHARACTERS, csv_batches
from kft.readers.lines import lines
from kft.readers.objects import NumberedRow, json_batches, jsonl_batches

Rows = Generator[NumberedRow, None, None]
"""`(line, row, characters)`, the row as text by column name; closing them closes the file."""

Reader = Callable[[Path, list[str]], Rows]
"""From a file, and a list that takes notes, to its rows."""

DEV_IDS = ("dev_ids.tsv", "mrpc_dev_ids.tsv")


def tsv(
    path: Path,
    notes: list[str],
    *,
    names: tuple[str, ...] = (),
    quoted: bool = False,
    last: tuple[str, ...] = (),
) -> Rows:
    """The rows of a tab-separated file.

    Args:
        path: The file.
        notes: Takes a note if rows were left out.
        names: The columns, where the file has no header.
        quoted: Whether quotes enclose fields; in GLUE they are text.
        last: What the last column may hold. Rows with anything else there, or with other than as many fields as there
            are names, are broken in the release itself and left out, as the sets' own loaders do. Without it they
            are refused.

    Raises:
        DataError: At a row with too many or too few fields, or a quoted field that no longer ends.
    """
    csv.field_size_limit(FIELD_CHARACTERS)
    columns = names
    left_out: list[int] = []
    with closing(lines(path, str(path))) as text:
        reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        try:
            for fields in reader:
                if not columns:
                    columns = tuple(name.strip() for name in fields)
                elif len(fields) == len(columns) and (not last or fields[-1] in last):
                    yield reader.line_num, dict(zip(columns, fields, strict=True)), sum(map(len, fields))
                elif fields and not last:
                    raise DataError(
                        f"{path}, row {reader.line_num}: found {len(fields)} fields, expected {len(columns)}: "
                        f"{', '.join(columns)}. Copy the file from the release again."
                    )
                elif fields:
                    left_out.append(reader.line_num)
        except csv.Error as error:
            raise DataError(f"{path}, row {reader.line_num}: {error}; copy the file from the release again.") from error
    if left_out:
        rows = f"{len(left_out):,} row" + "s" * (len(left_out) > 1)
        notes.append(f"{path}, row {left_out[0]}: has no whole texts and label; {rows} like this left out.")


def mrpc(path: Path, notes: list[str], *, dev: bool) -> Rows:
    """The rows of `msr_paraphrase_train.txt` that GLUE trains on, or those it holds back as `dev`.

    The file beside it, `dev_ids.tsv`, has the two ids of each pair that is held back.

    Raises:
        DataError: There is no such file.
    """
    ids_path = next((path.with_name(name) for name in DEV_IDS if path.with_name(name).is_file()), None)
    if ids_path is None:
        raise DataError(
            f"{path.parent}: lacks {DEV_IDS[0]}, which says which rows of {path.name} are GLUE's dev rows. Add it, or "
            "give train.tsv and dev.tsv."
        )
    held_back = {tuple(line.split()) for line in lines(ids_path, str(ids_path))}
    for number, row, size in tsv(path, notes):
        if ((row.get("#1 ID"), row.get("#2 ID")) in held_back) == dev:
            yield number, row, size


def jsonl(path: Path, notes: list[str]) -> Rows:
    """The rows of a file with one JSON object a line."""
    return plain(*jsonl_batches(path, str(path)), notes)


def comma(path: Path, notes: list[str]) -> Rows:
    """The rows of a CSV file with a header."""
    return plain(*csv_batches(path, str(path)), notes)


def squad(path: Path, notes: list[str]) -> Rows:
    """The questions of a file in SQuAD's form."""
    return plain(*json_batches(path, str(path)), notes)


def conll(path: Path, notes: list[str]) -> Rows:
    """The sentences of a file with one word a line; that it has more columns needs no note here."""
    batches, _ = conll_batches(path, str(path))
    return plain(batches, (), notes)


def conllu(path: Path, notes: list[str]) -> Rows:
    """The sentences of a treebank."""
    return plain(*conllu_batches(path, str(path)), notes)


def plain(batches: Iterable[pa.RecordBatch], found: tuple[str, ...], notes: list[str]) -> Rows:
    """The rows of record batches as dicts."""
    notes += found
    for batch in batches:
        for row in batch.to_pylist():
            yield row.pop(ROW), row, sum(len(value) for value in row.values() if isinstance(value, str))


@dataclass(frozen=True)
class File:
    """A file of a release: where it lies, `{variant}` filled in and `*` for any letters, and what reads it."""

    path: str
    read: Reader = tsv


@dataclass(frozen=True)
class Hub:
    """Where the Hugging Face library finds the same rows: data set, configuration, and the parts it calls otherwise."""

    path: str
    config: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A column that is made of others.

    Attributes:
        of: The columns, called alike in the files and on the hub.
        by: What makes it of their values, if none is None.
    """

    of: tuple[str, ...]
    by: Callable[..., Any]


@dataclass(frozen=True)
class Benchmark:
    """A data set that everyone measures with.

    Attributes:
        task: The kft task.
        columns: Canonical column name to the names it has in the files and on the hub, or to what it is made of.
        layouts: Part (`train`, `validation`, `test`) to file, for each form the release has had. Parts without labels
            are not there.
        metrics: The official ones; the first picks the weights.
        hub: The rows for those who give no directory.
        labels: Label in the files to name, in official order: the second of two is the positive one. Empty where
            the files have names and any order does.
        variants: What may stand for `<…>` in the name; examples where there is a `variant_pattern`.
        variant_pattern: A regular expression for more variants than can be listed.
        only: Columns whose value has to be the variant, in files that hold several.
        note: What else a user should know.
        expand: (a row of the file or the hub) to the rows that it stands for; None where it stands for itself. They are
            numbered one after another.
        kept: Further columns, by the names that they have in rows, that no model reads: what `official` and
            `kft.submissions` need.
        official: (by name the columns of all rows, `(rows, labels)` scores, names of the labels) to official metrics
            that are none of single rows; None where there are none.
    """

    task: str
    columns: Mapping[str, tuple[str, ...] | Made]
    layouts: tuple[Mapping[str, File], ...]
    metrics: tuple[str, ...]
    hub: Hub
    labels: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[str, ...] = ()
    variant_pattern: str = ""
    only: tuple[str, ...] = ()
    note: str = ""
    expand: Callable[[Mapping[str, Any]], list[dict[str, Any]]] | None = None
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    official: Callable[[Mapping[str, Any], Any, Any], dict[str, float]] | None = None

    @property
    def parts(self) -> set[str]:
        """The parts that have labels."""
        return {part for layout in self.layouts for part in layout}


def column(row: Mapping[str, object], guesses: tuple[str, ...], source: str) -> str:
    """The first of these columns that the row has.

    Raises:
        DataError: It has none of them.
    """
    for guess in guesses:
        if guess in row:
            return guess
    found = ", ".join(map(repr, row))
    raise DataError(
        f"{source}: has no column {' or '.join(map(repr, guesses))}. Columns found: {found}. Is this the file of the "
        "official release?"
    )
