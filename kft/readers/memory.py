"""Rows that are already in memory: lists, dicts, Arrow, pandas, Hugging Face datasets and tf.data."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kft.data.mapped import BLOCK_ROWS, memory_mapped
from kft.data.table import ROW, Table
from kft.errors import DataError
from kft.readers.delimited import column_names
from kft.readers.objects import column, mapping_rows, object_batches, plain

ACCEPTED = (
    "a path, a list of dicts, a dict of lists, a pandas DataFrame, a pyarrow Table, "
    "a Hugging Face Dataset or a tf.data.Dataset"
)


def read_memory(source: Any, role: str) -> Table:
    """The rows of an object in memory; row numbers count from 1.

    Libraries are looked up among the modules already imported: an object of theirs cannot exist otherwise.

    Args:
        source: Any of `ACCEPTED` but a path.
        role: What messages call it, as in `train`.

    Raises:
        DataError: If the type is another, or its rows cannot be read.
    """
    if isinstance(source, pa.Table | pa.RecordBatch):
        return Table(_arrow(source, "<arrow>"), "<arrow>")
    if _is(source, "pandas", "DataFrame"):
        return Table(_pandas(source), "<pandas>")
    if _is(source, "datasets", "DatasetDict") or _is(source, "datasets", "IterableDatasetDict"):
        splits = ", ".join(source)
        raise DataError(
            f"The {role} data is a {type(source).__name__} of {splits}; pass one split, like data[{role!r}]."
        )
    if _is(source, "datasets", "Dataset") or _is(source, "datasets", "IterableDataset"):
        return Table(memory_mapped(_hugging_face(source), "<datasets>"), "<datasets>")
    if hasattr(source, "element_spec") and hasattr(source, "as_numpy_iterator"):
        return _table_of_dicts(_tf_data(source), "<tf.data>")
    if isinstance(source, Mapping):
        return Table(_dict_of_lists(source), "<dict>")
    if (
        isinstance(source, Iterable)
        and not isinstance(source, bytes | bytearray)
        and getattr(source, "shape", None) != ()
    ):
        return _table_of_dicts(source, "<list>")
    raise DataError(f"The {role} data is of type {type(source).__name__}; expected {ACCEPTED}.")


def is_table(source: Any) -> bool:
    """Whether an object has columns with names, rather than being one row after another."""
    is_dataset = any(_is(source, "datasets", name) for name in ("Dataset", "IterableDataset", "DatasetDict"))
    is_arrow = isinstance(source, pa.Table | pa.RecordBatch)
    return is_arrow or is_dataset or isinstance(source, Mapping) or _is(source, "pandas", "DataFrame")


def plain_batches(batches: Iterable[pa.RecordBatch], source: str) -> Iterator[pa.RecordBatch]:
    """Arrow batches with plain column types and row numbers counted from 1."""
    seen = 0
    for batch in batches:
        names = column_names(batch.schema.names, source)
        numbers = range(seen + 1, seen + len(batch) + 1)
        seen += len(batch)
        arrays = [plain(array, name, numbers, source) for name, array in zip(names, batch.columns, strict=True)]
        yield pa.record_batch([*arrays, pa.array(numbers, pa.int64())], names=[*names, ROW])


def _is(source: Any, module: str, name: str) -> bool:
    return isinstance(source, getattr(sys.modules.get(module), name, ()))


def _arrow(source: pa.Table | pa.RecordBatch, source_name: str) -> pa.Table:
    try:
        source.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(f"{source_name}: is not valid Arrow data ({error}).") from error
    batches = source.to_batches() if isinstance(source, pa.Table) else [source]
    return pa.Table.from_batches(list(plain_batches(batches, source_name))) if len(source) else pa.table({})


def _pandas(frame: Any) -> pa.Table:
    names = column_names(["" if name is None else name for name in frame.columns], "<pandas>")
    numbers = range(1, len(frame) + 1)
    columns = {}
    for position, name in enumerate(names):
        series = frame.iloc[:, position]
        try:
            array = pa.Array.from_pandas(series)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            columns[name] = column(series.tolist(), name, numbers, "<pandas>")
            continue
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        columns[name] = plain(array, name, numbers, "<pandas>")
    return pa.table({**columns, ROW: pa.array(numbers, pa.int64())})


def _table_of_dicts(rows: Iterable[Any], source: str) -> Table:
    return Table(memory_mapped(object_batches(mapping_rows(rows, source), source), source), source)


def _hugging_face(dataset: Any) -> Iterator[pa.RecordBatch]:
    if _is(dataset, "datasets", "Dataset"):
        tables = dataset.with_format("arrow").iter(batch_size=BLOCK_ROWS)
        arrow = (batch for table in tables for batch in table.combine_chunks().to_batches())
        batches = plain_batches(arrow, "<datasets>")
    else:
        batches = object_batches(mapping_rows(dataset, "<datasets>"), "<datasets>")
    return (_class_names(batch, dataset.features or {}) for batch in batches)


def _class_names(batch: pa.RecordBatch, features: Mapping[str, Any]) -> pa.RecordBatch:
    """Writes a `ClassLabel`'s names in place of its numbers, also in lists; -1, its mark for none, becomes null."""
    for position, name in enumerate(batch.schema.names):
        feature = features.get(name)
        label: Any = getattr(feature, "feature", feature)
        if not _is(label, "datasets", "ClassLabel"):
            continue
        cells = batch.column(position).to_pylist()
        names = dict(enumerate(label.names))
        if label is feature:
            named = pa.array([names.get(code) for code in cells], pa.large_string())
        else:
            lists = [None if codes is None else [names.get(code) for code in codes] for codes in cells]
            named = pa.array(lists, pa.large_list(pa.large_string()))
        batch = batch.set_column(position, name, named)
    return batch


def _dict_of_lists(source: Mapping[Any, Any]) -> pa.Table:
    columns = {}
    for name, values in source.items():
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise DataError(
                f"<dict>: column {str(name)!r} is of type {type(values).__name__}; expected a list with one "
                "value per row."
            )
        columns[name] = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    columns = dict(zip(column_names(list(columns), "<dict>"), columns.values(), strict=True))
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise DataError(f"<dict>: the columns have different numbers of rows ({found}); expected one value per row.")
    numbers = range(1, max(lengths.values(), default=0) + 1)
    arrays = {name: column(values, name, numbers, "<dict>") for name, values in columns.items()}
    return pa.table({**arrays, ROW: pa.array(numbers, pa.int64())})


def _tf_data(dataset: Any) -> Iterator[dict[str, Any]]:
    """The rows of a `tf.data.Dataset`: `text` and `label` are the columns of a pair without names."""
    if int(dataset.cardinality()) == -1:
        raise DataError("<tf.data>: repeats without end; pass the dataset before .repeat().")
    for element in dataset.as_numpy_iterator():
        columns = {name: np.asarray(values) for name, values in _named(element).items()}
        shapes = {values.shape for values in columns.values()}
        if shapes == {()}:
            yield {name: values.item() for name, values in columns.items()}
        elif len(shapes) == 1 and len(next(iter(shapes))) == 1:
            lists = [values.tolist() for values in columns.values()]
            yield from (dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True))
        else:
            found = ", ".join(f"{name}: {values.shape}" for name, values in columns.items())
            raise DataError(f"<tf.data>: elements have the shapes {found}; expected scalars, or batches of scalars.")


def _named(element: Any) -> Mapping[str, Any]:
    if isinstance(element, tuple) and len(element) == 2:
        features, label = element
        return {**(features if isinstance(features, Mapping) else {"text": features}), "label": label}
    if isinstance(element, Mapping):
        return element
    raise DataError(
        f"<tf.data>: elements are of type {type(element).__name__}; expected dicts of columns, or (text, "
        "label) or (dict, label) pairs."
    )
