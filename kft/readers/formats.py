"""From what the user has, a path or an object, to a table."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from kft.data.mapped import BLOCK_ROWS, memory_mapped
from kft.data.table import UNNAMED, Table
from kft.errors import DataError, did_you_mean
from kft.readers.conll import conll_batches, conllu_batches
from kft.readers.delimited import csv_batches, tsv_batches
from kft.readers.memory import plain_batches, read_memory
from kft.readers.objects import json_batches, jsonl_batches
from kft.readers.paragraphs import paragraph_batches

Reader = Callable[[Path, str], tuple[Iterator[pa.RecordBatch], tuple[str, ...]]]


def read(source: Any, *, role: str = "train", file_format: str | None = None) -> Table:
    """Reads rows from a file or an object in memory.

    Text files are UTF-8 and may be gzipped (`.csv.gz`). They are streamed through a memory-mapped
    copy, so that memory stays flat however many rows there are.

    Args:
        source: A path of a `.csv`, `.tsv` or `.txt` (tabs), `.jsonl` or `.ndjson`, `.json` (rows, or in SQuAD's form),
            `.conll`, `.bio` or `.iob` (a word and its tag a line), `.conllu` or `.parquet` file; a list or iterable
            of dicts; a dict of lists; a pandas DataFrame; a pyarrow Table or RecordBatch; a Hugging Face Dataset; a
            `tf.data.Dataset`; a Table that was read before.
        role: What messages call the data: `train`, `validation`, `test`.
        file_format: `csv`, `tsv`, `jsonl`, `json`, `conll`, `conllu`, `text` (its paragraphs) or `parquet`, whatever
            the name ends in.

    Returns:
        A table with all columns of the source and its row numbers.

    Raises:
        DataError: If the source cannot be read as rows. The message names the file and the row.
    """
    if isinstance(source, Table):
        table = source
    elif isinstance(source, str | Path):
        table = _read_file(Path(source), str(source), role, file_format)
    else:
        table = read_memory(source, role)
    table = _without_unnamed(table)
    if not table.names():
        raise DataError(f"{table.source}: the {role} data is empty; expected columns with at least one row.")
    if not len(table):
        raise DataError(f"{table.source}: the {role} data has columns but no rows; expected at least one row.")
    return table


def checked_path(source: str | Path, role: str) -> Path:
    """The path of a file of rows that is there and has an ending that is known.

    Raises:
        DataError: It is not, or it cannot be read.
    """
    path = Path(source)
    with _refusals(str(source), role):
        path = path.expanduser()
        _check_path(path, str(source), role)
        _format_of(path, str(source))
        path.open("rb").close()
    return path


def format_for(source: Any, task: str) -> str | None:
    """The format that a task reads a file in by its ending, where that is not the ending's own.

    >>> format_for("corpus.txt", "pretrain"), format_for("rows.txt", "classify")
    ('text', None)
    """
    if not isinstance(source, str | Path):
        return None
    return FORMATS_OF_TASKS.get(task, {}).get(Path(str(source).lower().removesuffix(".gz")).suffix)


def _without_unnamed(table: Table) -> Table:
    """The table without columns that have no name, such as an index of pandas or empty columns of a sheet; a note."""
    unnamed = [name for name in table.names() if name.startswith(UNNAMED)]
    if not unnamed:
        return table
    if len(unnamed) == len(table.names()):
        raise DataError(f"{table.source}: no column has a name; expected a header with the names of the columns.")
    which = f"column {unnamed[0].removeprefix(UNNAMED)} has" if len(unnamed) == 1 else f"{len(unnamed)} columns have"
    return replace(table, rows=table.rows.drop_columns(unnamed)).with_notes(
        f"{table.source}: {which} no name and {'is' if len(unnamed) == 1 else 'are'} left out."
    )


def _read_file(path: Path, source: str, role: str, file_format: str | None) -> Table:
    with _refusals(source, role):
        path = path.expanduser()
        _check_path(path, source, role)
        reader = READERS[file_format or _format_of(path, source)]
        batches, notes = reader(path, source)
        rows = memory_mapped(batches, source)
    return Table(rows, source, notes)


@contextlib.contextmanager
def _refusals(source: str, role: str) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise DataError(f"{source}: no permission to read the {role} data; allow it with: chmod +r {source}") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of `~name` is not known
        raise DataError(f"{source}: the {role} data cannot be read ({error}).") from error


def _check_path(path: Path, source: str, role: str) -> None:
    if path.is_dir():
        raise DataError(f"{source}: is a folder; expected one file as {role} data ({_accepted()}).")
    if not path.exists():
        if not path.parent.is_dir():
            raise DataError(f"{source}: the {role} data does not exist, nor does its folder {path.parent}.")
        hint = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
        raise DataError(f"{source}: the {role} data does not exist.{hint or ' Check the path.'}")
    if not path.is_file():
        raise DataError(f"{source}: is not a regular file; write the {role} data to a file first.")
    if path.stat().st_size == 0:
        raise DataError(f"{source}: is empty (0 bytes); expected column names and rows.")


def _format_of(path: Path, source: str) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if zipped else suffixes[-1:])
    file_format = SUFFIXES.get(suffix)
    if file_format is None or (zipped and file_format == "parquet"):
        ending = suffix + ".gz" * zipped
        found = f"the ending {ending!r} names no known format" if ending else "the name has no ending"
        raise DataError(f"{source}: {found}; expected {_accepted()}. Rename the file.")
    return file_format


def _accepted() -> str:
    return f"{', '.join(SUFFIXES)}; text also with .gz"


def _parquet_batches(path: Path, source: str) -> tuple[Iterator[pa.RecordBatch], tuple[str, ...]]:
    return _parquet_rows(path, source), ()


def _parquet_rows(path: Path, source: str) -> Iterator[pa.RecordBatch]:
    try:
        # Mapped, a file that is cut while it is read would end the process; buffered before, it would fill the memory.
        with pa.parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            if not file.metadata.num_rows:
                raise DataError(f"{source}: has columns but no rows; expected at least one row.")
            yield from plain_batches(file.iter_batches(batch_size=BLOCK_ROWS), source)
    except PermissionError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source}: is not a whole Parquet file ({error}); write or copy it again.") from error


READERS: dict[str, Reader] = {
    "csv": csv_batches,
    "tsv": tsv_batches,
    "jsonl": jsonl_batches,
    "json": json_batches,
    "conll": conll_batches,
    "conllu": conllu_batches,
    "text": paragraph_batches,
    "parquet": _parquet_batches,
}
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".conllu": "conllu",
    ".parquet": "parquet",
}
FORMATS_OF_TASKS = {"pretrain": {".txt": "text"}}
"""By task the formats that it reads files in by their endings, where those are not the usual ones."""
