"""Several runs scored on several sets of rows: what a model that was trained on one scores on another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kft.datasets import registry
from kft.errors import KftError, RecipeError, printable, quoted
from kft.evaluation import kinds
from kft.evaluation.metric import Metric, scalars
from kft.run import Run, load


@dataclass(frozen=True)
class Matrix:
    """Scores of runs (trained on) by sets of rows (scored on).

    Attributes:
        metric: What `table` has.
        metrics: By the name of the run and of the rows, all single numbers, and `num_rows`.
    """

    metric: Metric
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]

    @property
    def table(self) -> dict[str, dict[str, float | None]]:
        """The metric by run and rows; None where it is not defined."""
        name = self.metric.name
        return {
            run: {data: found.get(name) for data, found in by_data.items()} for run, by_data in self.metrics.items()
        }

    def as_json(self) -> dict[str, Any]:
        """The metric's name, its table and all other metrics, as plain values."""
        rows = {run: {data: dict(found) for data, found in by_data.items()} for run, by_data in self.metrics.items()}
        return {"metric": self.metric.name, "table": self.table, "metrics": rows}

    def __str__(self) -> str:
        """The table as lines of text: a line for each run, a column for each set of rows."""
        columns = list(dict.fromkeys(data for by_data in self.metrics.values() for data in by_data))
        lines = [["trained on", *map(printable, columns)]]
        for run, row in self.table.items():
            found = [row.get(data) for data in columns]
            lines.append([printable(run), *("-" if value is None else self.metric.written(value) for value in found)])
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        texts = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        return "\n".join([f"{self.metric.name}, scored on", *(text.rstrip() for text in texts)])


def matrix(
    runs: Sequence[str | Path | Run],
    data: Mapping[str, Any] | Sequence[str | Path],
    *,
    by: str | None = None,
    metric: str | None = None,
    data_dir: str | Path | None = None,
    batch_size: int = 64,
) -> Matrix:
    """Scores each run on each set of rows.

    Args:
        runs: Finished runs, or their directories, all of one kind of answers.
        data: Sets of rows as `Run.evaluate` takes them, by name; or files and benchmarks.
        by: A column of the rows that are neither read nor learnt: each of its values is a column of the matrix, too.
        metric: What the table shows. Default: what this kind of answers is judged by.
        data_dir: The directory of a benchmark's files.
        batch_size: Rows in one forward pass.

    Raises:
        RecipeError: No runs or no rows, names that are not different, runs of different kinds of answers, an unknown
            metric.
        KftError: As `kft.load` and `Run.evaluate` do, with the names of run and rows.
    """
    sources = dict(data) if isinstance(data, Mapping) else named_sources(data)
    if not runs or not sources:
        raise RecipeError("matrix: expected one run and one set of rows at least.")
    opened = _by_name([run if isinstance(run, Run) else load(run) for run in runs])
    kind = _one_kind(opened)
    shown = kind.headline if metric is None else kind.find(metric)
    metrics: dict[str, dict[str, Any]] = {}
    for name, run in opened.items():
        of_run = metrics.setdefault(name, {})
        model = Run(run.path, base=run.base)  # so that only one model at a time is in memory
        for source_name, source in sources.items():
            try:
                found = model.evaluate(source, by=by, data_dir=data_dir, batch_size=batch_size)
            except KftError as error:
                raise type(error)(f"{name} on {source_name}: {error}") from error
            of_run[source_name] = _numbers(found)
            for about in found.get("by", {}).values():
                of_run |= {f"{source_name}: {value}": _numbers(each) for value, each in about["values"].items()}
    return Matrix(shown, metrics)


def named_sources(sources: Iterable[str | Path]) -> dict[str, str | Path]:
    """Files and benchmarks by name: what stands before `=`, or else the file's or benchmark's own name.

    Raises:
        RecipeError: Two have the same name.

    >>> named_sources(["de=data/german.tsv", "data/en.tsv", "glue:sst2"])
    {'de': 'data/german.tsv', 'en.tsv': 'data/en.tsv', 'glue:sst2': 'glue:sst2'}
    """
    named: dict[str, str | Path] = {}
    for source in sources:
        name, is_named, path = str(source).partition("=")
        if not is_named or Path(source).exists():
            name, path = str(source) if registry.is_name(source) else Path(source).name, str(source)
        if name in named:
            raise RecipeError(f"two sets of rows are called {quoted(name)}. Give one a name: NAME={source}.")
        named[name] = path
    return named


def _by_name(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by the name of their directory, or by its whole path where two have the same name."""
    names = [run.path.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    if len(set(names)) < len(names):
        raise RecipeError("matrix: the same run is given twice. Leave one out.")
    return dict(zip(names, runs, strict=True))


def _one_kind(runs: Mapping[str, Run]) -> Any:
    """The kind of answers of all runs."""
    of_runs = {name: kinds.of(run.task.name, run.labels) for name, run in runs.items()}
    (first, kind), *others = of_runs.items()
    for name, other in others:
        if other.name != kind.name:
            raise RecipeError(
                f"matrix: {first} answers with {kind.name} and {name} with {other.name}; expected runs of one kind."
            )
    return kind


def _numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    """The single numbers of metrics."""
    return {**scalars(found), **({"num_rows": found["num_rows"]} if "num_rows" in found else {})}
