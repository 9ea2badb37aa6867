"""`kft predict --format`: a run's answers to the test rows of a benchmark, in the files that its server takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kft import disk
from kft.data.table import ROW, Table
from kft.datasets import loading, registry, submissions
from kft.errors import RecipeError, did_you_mean, quoted
from kft.readers import formats
from kft.run import Run


def write(run: Run, form: str, source: str, folder: str | Path, data_dir: str | Path | None = None) -> list[Path]:
    """Writes the files of a submission.

    Args:
        run: What answers.
        form: `glue`, `superglue` or `squad`.
        source: The name of the benchmark, whose test rows are in `data_dir`; for `squad` a file in SQuAD's form.
        folder: Where the files go; it is made if it is not there.
        data_dir: The directory that the release was unpacked in.

    Returns:
        The files, each written whole or not at all, and none before all rows are answered.

    Raises:
        RecipeError: There is no such submission, or the run has learnt another task or other labels.
        DataError: Anything that is wrong with the rows.
        RunError: A file cannot be written.
    """
    contents = _squad(run, source) if form == submissions.SQUAD else _named(run, form, source, data_dir)
    folder = Path(folder)
    with disk.refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        disk.write_text(folder / name, content)
    return [folder / name for name in contents]


def _named(run: Run, form: str, name: str, data_dir: str | Path | None) -> dict[str, str]:
    """The content of each file of a benchmark's submission."""
    known = submissions.SUBMISSIONS[form]
    if name not in known:
        raise RecipeError(
            f"format {form}: found {quoted(name)} as the rows to answer.{did_you_mean(name, known)} Expected one of: "
            f"{', '.join(known)}."
        )
    if data_dir is None:
        raise RecipeError(f"format {form}: the test rows of {name} are read from its release. Give data_dir.")
    submission = known[name]
    _require_fit(run, name)
    tables = {
        written: loading.read_unlabelled(name, file, submission.kept, data_dir)
        for written, file in submission.files.items()
    }
    return {written: submission.content(name, rows, _answers(run, name, rows)) for written, rows in tables.items()}


def _answers(run: Run, name: str, rows: Table) -> list[dict[str, Any]]:
    """Those to the rows, whose further columns may have names that a run guesses by."""
    columns = [column for column in registry.find(name)[0].columns if column != "label"]
    return run.predict(Table(rows.rows.select([*columns, ROW]), rows.source))


def _require_fit(run: Run, name: str) -> None:
    """Refuses a run of another task, or that tells other labels apart."""
    benchmark = registry.find(name)[0]
    if run.task.name != benchmark.task:
        raise RecipeError(f"{run.path}: is a run of {run.task.name}; {name} is of {benchmark.task}.")
    learnt, expected = set(run.labels.get("labels", ())), set(benchmark.labels.values())
    if expected and learnt != expected:
        raise RecipeError(
            f"{run.path}: tells {', '.join(sorted(learnt))} apart; the labels of {name} are "
            f"{', '.join(sorted(expected))}. Fit on {name}, or on rows with these labels."
        )


def _squad(run: Run, source: str) -> dict[str, str]:
    """The answers to the questions of a file by their ids."""
    if run.task.name != "answer":
        raise RecipeError(f"format squad: {run.path} is a run of {run.task.name}; expected one of answer.")
    rows = formats.read(formats.checked_path(source, "predict"), role="predict", file_format="json")
    ids = rows.texts("id") if "id" in rows.names() else []
    if not ids or None in ids or len(set(ids)) < len(ids):
        raise RecipeError(f"format squad: the questions of {source} have no ids of their own; expected SQuAD's files.")
    return {"predictions.json": submissions.squad(ids, run.predict(rows))}
