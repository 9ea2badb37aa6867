"""One part of a benchmark as a table, from the files of its release or through the Hugging Face library."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from kft.data.mapped import memory_mapped
from kft.data.table import Table
from kft.datasets import layouts, registry
from kft.datasets.layouts import Benchmark, File, Made, Reader, Rows
from kft.errors import DataError
from kft.readers import memory
from kft.readers.objects import NumberedRow, object_batches


def read(name: str, part: str, data_dir: str | Path | None) -> Table:
    """The rows of a part, with kft's own column names.

    Args:
        name: Of the benchmark, as in `glue:sst2`.
        part: `train`, `validation` or `test`.
        data_dir: The directory that the release was unpacked in, or the benchmark's own folder there. None: the
            Hugging Face library fetches the rows, or finds those it fetched before.

    Returns:
        A table of the columns of its task, as `text`, `text_pair` and `label`; labels by name.

    Raises:
        RecipeError: No benchmark is called so.
        DataError: It has no such part with labels; a file, column or row is not as in the release; the library is
            not there, or cannot fetch the rows.
    """
    benchmark, variant = registry.find(name)
    if part not in benchmark.parts:
        raise DataError(
            f"{name}: has no {part} rows with labels. Those that have: {', '.join(sorted(benchmark.parts))}. Leave "
            f"{part} out, or give a share of train or rows of your own."
        )
    notes: list[str] = []
    names = dict(benchmark.labels)
    try:
        if data_dir is None:
            source = f"<{name} {part}>"
            rows = _fetched(benchmark, variant, name, part, notes)
            names |= {shown: shown for shown in benchmark.labels.values()}
        else:
            path, reader = _locate(benchmark, variant, name, part, Path(data_dir))
            source, rows = str(path), reader(path, notes)
        with closing(rows):
            table = memory_mapped(object_batches(_canonical(rows, benchmark, variant, names, source), source), source)
    except OSError as error:
        raise DataError(f"{name}: the {part} rows cannot be read ({error}).") from error
    if not len(table):
        which = f" of {variant}" if variant else ""
        raise DataError(f"{source}: holds no rows{which}, expected the {part} rows of {name}.")
    return Table(table, source, tuple(notes), tuple(dict.fromkeys(benchmark.labels.values())), benchmark=name)


def read_unlabelled(name: str, file: File, kept: Mapping[str, tuple[str, ...]], data_dir: str | Path) -> Table:
    """The rows of a file of a benchmark's release without their labels, such as test rows.

    Args:
        name: Of the benchmark.
        file: Which file, and what reads it.
        kept: Further columns, as in `Benchmark.kept`.
        data_dir: The directory that the release was unpacked in, or the benchmark's own folder there.

    Raises:
        DataError: The file is not there, or a column or row is not as in the release.
    """
    benchmark, variant = registry.find(name)
    columns = {column: made for column, made in benchmark.columns.items() if column != "label"}
    benchmark = replace(benchmark, columns=columns, kept={**benchmark.kept, **kept}, layouts=({"test": file},))
    path, reader = _locate(benchmark, variant, name, "test", Path(data_dir))
    source, notes = str(path), list[str]()
    try:
        with closing(reader(path, notes)) as rows:
            table = memory_mapped(object_batches(_canonical(rows, benchmark, variant, {}, source), source), source)
    except OSError as error:
        raise DataError(f"{name}: the test rows cannot be read ({error}).") from error
    if not len(table):
        raise DataError(f"{source}: holds no rows, expected the test rows of {name}.")
    return Table(table, source, tuple(notes))


def _locate(benchmark: Benchmark, variant: str, name: str, part: str, data_dir: Path) -> tuple[Path, Reader]:
    """The file of a part and what reads it."""
    folder = data_dir.expanduser()
    files = [layout[part] for layout in benchmark.layouts if part in layout]
    if folder.is_dir():
        for file in files:
            for path in _places(file.path, variant):
                found_path = next((entry for entry in sorted(folder.glob(path)) if entry.is_file()), None)
                if found_path is not None:
                    return found_path, file.read
        found = sorted(entry.name for entry in folder.iterdir())
        there = f"Found there: {', '.join(found[:8])}{', …' if len(found) > 8 else ''}." if found else "It is empty."
    else:
        there = "There is no such directory."
    lacking = " or ".join(file.path.format(variant=variant) for file in files)
    others = dict.fromkeys(
        file.path.format(variant=variant) for layout in benchmark.layouts[:1] for file in layout.values()
    )
    raise DataError(
        f"{data_dir}: lacks {lacking}, the {part} rows of {name}. Expected, as its release has them: "
        f"{', '.join(others)}. {there}"
    )


def _places(path: str, variant: str) -> Iterator[str]:
    """The path in the release, then without its outer folders, down to the one that tells the variants apart.

    >>> list(_places("x-final/{variant}/dev_2k.tsv", "de"))
    ['x-final/de/dev_2k.tsv', 'de/dev_2k.tsv']
    """
    folders = path.split("/")
    for start in range(len(folders)):
        yield "/".join(folders[start:]).format(variant=variant)
        if "{variant}" in folders[start]:
            return


def _fetched(benchmark: Benchmark, variant: str, name: str, part: str, notes: list[str]) -> Rows:
    hub = benchmark.hub
    config = hub.config.format(variant=variant) if hub.config else None
    advice = f"With the files of its release on disk, give their directory: data_dir=… or --data-dir ({name})."
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{name}: no data_dir is given, and the datasets library, which would fetch the rows, cannot be "
            f"imported ({error}). Install it: pip install 'kft[hub]'. {advice}"
        ) from None
    try:
        rows = datasets.load_dataset(hub.path, config, split=hub.splits.get(part, part))
    except Exception as error:  # the library raises what its many ways of fetching do
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name}: the datasets library cannot fetch {hub.path} ({type(error).__name__}: {reason}). {advice}"
        ) from error
    table = memory.read_memory(rows, part)
    return layouts.plain(table.rows.to_batches(), table.notes, notes)


def _canonical(
    rows: Iterable[NumberedRow], benchmark: Benchmark, variant: str, names: Mapping[str, str], source: str
) -> Iterator[tuple[int, dict[str, Any], int]]:
    """The rows of the variant with canonical columns, and labels by name."""
    chosen: dict[str, list[str]] = {}
    for number, row, size in _expanded(rows, benchmark, source):
        if not chosen:
            chosen = {name: _sources(row, wanted, source) for name, wanted in benchmark.columns.items()}
            chosen |= {name: _sources(row, wanted, source) for name, wanted in benchmark.kept.items()}
        if any(row.get(name, variant) != variant for name in benchmark.only):
            continue
        found = {name: _value(row, columns, benchmark.columns.get(name, ())) for name, columns in chosen.items()}
        if found.get("label") is not None:
            label = str(found["label"])
            if names and label not in names:
                expected = " or ".join(map(repr, names))
                raise DataError(f"{source}, row {number}: the {chosen['label'][0]} is {label!r}, expected {expected}.")
            found["label"] = names.get(label, label)
        yield number, found, size


def _expanded(rows: Iterable[NumberedRow], benchmark: Benchmark, source: str) -> Iterator[NumberedRow]:
    """The rows that those of a file stand for, numbered one after another where these are several."""
    if benchmark.expand is None:
        yield from rows
        return
    rank = 0
    for number, row, size in rows:
        try:
            several = benchmark.expand(row)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{source}, row {number}: is not as in the release ({type(error).__name__}: {error}). Is this the file "
                "of the official release?"
            ) from None
        for one in several:
            rank += 1
            yield rank, one, size
            size = 0


def _sources(row: Mapping[str, Any], wanted: tuple[str, ...] | Made, source: str) -> list[str]:
    """The columns of the row that a canonical one is made of."""
    if isinstance(wanted, Made):
        return [layouts.column(row, (name,), source) for name in wanted.of]
    return [layouts.column(row, wanted, source)]


def _value(row: Mapping[str, Any], columns: list[str], wanted: tuple[str, ...] | Made) -> Any:
    values = [row.get(column) for column in columns]
    if not isinstance(wanted, Made):
        return values[0]
    return None if None in values else wanted.by(*values)
