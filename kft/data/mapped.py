"""Rows on their way to disk: record batches go in, a memory-mapped table comes out."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from kft.errors import DataError

BLOCK_ROWS = 8_192
BLOCK_CHARACTERS = 16 * 1024 * 1024

Row = TypeVar("Row")


def blocks(rows: Iterable[tuple[int, Row, int]]) -> Iterator[list[tuple[int, Row]]]:
    """Lists of `(number, row)` that are small enough to hold in memory.

    Args:
        rows: `(number, row, size)` triples, `size` in characters.

    Yields:
        Lists of at most `BLOCK_ROWS` rows, closed early once they hold `BLOCK_CHARACTERS`.
    """
    block: list[tuple[int, Row]] = []
    characters = 0
    for number, row, size in rows:
        block.append((number, row))
        characters += size
        if len(block) == BLOCK_ROWS or characters >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def memory_mapped(batches: Iterable[pa.RecordBatch], source: str) -> pa.Table:
    """A table of all batches whose rows lie on disk, not in memory.

    The batches go to Arrow IPC files in a private temporary directory; the files are memory-mapped
    and their names removed at once, so that nothing stays behind however the process ends. A single
    batch never touches the disk.

    Args:
        batches: Record batches. Their columns may differ: absent ones are null, and types widen.
        source: What messages call the rows.

    Returns:
        The table; without columns when there is no batch.

    Raises:
        DataError: If a column holds types that have no common one, or the disk is full.
    """
    batches = iter(batches)
    head = list(islice(batches, 2))
    if not head:
        return pa.table({})
    if len(head) == 1:
        return pa.Table.from_batches(head)
    with tempfile.TemporaryDirectory(prefix="kft-", ignore_cleanup_errors=True) as folder:
        paths, schema = _write(chain(head, batches), Path(folder), source)
        parts = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
    return pa.concat_tables([_conform(part, schema, source) for part in parts])


def widen(schemas: Sequence[pa.Schema], source: str) -> pa.Schema:
    """The schema that every one of `schemas` fits into; numbers beside text become text.

    Raises:
        DataError: If a column is nested in one schema and flat in another.
    """
    fields: dict[str, pa.DataType] = {}
    for field in chain.from_iterable(schemas):
        known = fields.setdefault(field.name, field.type)
        if known != field.type:
            fields[field.name] = _common_type(field.name, known, field.type, source)
    return pa.schema(fields)


def _common_type(name: str, left: pa.DataType, right: pa.DataType, source: str) -> pa.DataType:
    pair = [pa.schema([(name, left)]), pa.schema([(name, right)])]
    try:
        return pa.unify_schemas(pair, promote_options="permissive").field(0).type
    except pa.ArrowTypeError:
        if pa.types.is_nested(left) or pa.types.is_nested(right):
            raise DataError(
                f"{source}: column {name!r} holds {left} in some rows and {right} in others; "
                "give every row the same kind of value."
            ) from None
        return pa.large_string()


def _write(batches: Iterable[pa.RecordBatch], folder: Path, source: str) -> tuple[list[Path], pa.Schema]:
    """Writes one file per schema met; a schema only ever widens, so there are few."""
    paths: list[Path] = []
    schema = pa.schema([])
    with ExitStack() as files:
        for batch in batches:
            wider = widen([schema, batch.schema], source)
            try:
                if not paths or wider != schema:
                    files.close()
                    paths.append(folder / f"{len(paths)}.arrow")
                    writer = files.enter_context(pa.ipc.new_file(paths[-1], wider))
                    schema = wider
                writer.write_table(_conform(pa.Table.from_batches([batch]), schema, source))
            except OSError as error:
                raise DataError(
                    f"{source}: cannot write the temporary copy of the rows in {folder.parent} ({error}); "
                    "free some space or set TMPDIR to a folder on a larger disk."
                ) from error
    return paths, schema


def _conform(table: pa.Table, schema: pa.Schema, source: str) -> pa.Table:
    if table.schema == schema:
        return table
    columns, names = [], set(table.column_names)
    for field in schema:
        if field.name not in names:
            columns.append(pa.nulls(len(table), field.type))
            continue
        try:
            columns.append(table[field.name].cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"{source}: column {field.name!r} mixes kinds of values: {error}") from error
    return pa.table(columns, schema=schema)
