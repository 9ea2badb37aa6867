"""What a model is asked, in the many forms that texts come in, as rows with columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kft.data.cells import shown
from kft.data.table import Table
from kft.errors import DataError
from kft.readers.memory import is_table


def rows(source: Any, names: Sequence[str]) -> Any:
    """Rows in a form that `kft.readers.formats.read` takes; None where there are none.

    Args:
        source: A text, or a tuple of as many as there are names; texts or such tuples in a list, an array of NumPy or
            Arrow, a pandas Series or any iterable; or whatever `read` takes itself.
        names: The text columns that the model reads.

    Raises:
        DataError: A text alone is the name of a file; a row is no text, or has too many or too few of them.
    """
    if isinstance(source, str):
        refuse_file_name(source, f"pathlib.Path({source!r}) for the rows in it, or [{source!r}] for the text itself")
        return list(_named([source], names))
    if is_table(source):
        return None if _is_empty(source) else source
    if isinstance(source, Path | Table | bytes | bytearray) or hasattr(source, "element_spec"):
        return source
    if isinstance(source, tuple) and len(source) == len(names) > 1 and all(isinstance(text, str) for text in source):
        source = [source]
    values = next((getattr(source, name)() for name in ("to_pylist", "tolist") if hasattr(source, name)), source)
    if isinstance(values, str) or not isinstance(values, Iterable):
        return source
    one_by_one = iter(values)
    first = list(itertools.islice(one_by_one, 1))
    if not first:
        return None
    found = itertools.chain(first, one_by_one)
    return found if isinstance(first[0], Mapping) else list(_named(found, names))


def refuse_file_name(text: str, advice: str) -> None:
    """Refuses a text that is the name of a file, whose rows may be meant.

    Args:
        text: What may be either.
        advice: What to give in its place.

    Raises:
        DataError: A file of this name exists.
    """
    try:
        is_file = Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        is_file = False
    if is_file:
        raise DataError(f"{shown(text)} is the name of a file. Give {advice}.")


def _is_empty(table: Any) -> bool:
    if isinstance(table, Mapping):
        return bool(table) and all(hasattr(column, "__len__") and not len(column) for column in table.values())
    return hasattr(table, "__len__") and not len(table)


def _named(found: Iterable[Any], names: Sequence[str]) -> Iterator[dict[str, str]]:
    for number, row in enumerate(found, 1):
        texts = row if isinstance(row, tuple | list) else [row]
        if len(texts) != len(names):
            raise DataError(f"row {number}: found {len(texts)} texts, expected {len(names)}: {', '.join(names)}")
        for text in texts:
            if not isinstance(text, str):
                raise DataError(
                    f"row {number}: found {shown(text)} of type {type(text).__name__}; expected text, as the rows "
                    "before it or a table with columns."
                )
        yield dict(zip(names, texts, strict=True))
