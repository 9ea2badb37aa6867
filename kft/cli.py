"""The command line: `kft fit | tune | evaluate | predict | merge | export | serve | check | plan | demo`.

Flags are the fields of the Recipe, so every knob has the same name in Python, in a recipe file and here.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from kft import __version__, disk, errors, writable
from kft.flags import EXIT_CODES, Commands, InSections, knobs, quiet_option, recipe_option, train_argument, with_recipe
from kft.recipe import Recipe

MOST_CLASSES = 100
by_option = click.option(
    "--by", metavar="COLUMN", help="Metrics for each value of this column too, such as the language of a row."
)
head_option = click.option("--head", metavar="NAME", help="Answer an earlier task, by its head that RUN has kept.")
GARBAGE_THRESHOLD = 50_000
"""New objects after which Python looks for garbage, in place of 700 (2,000 from Python 3.13 on)."""


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Fine-tunes pretrained language models on rows of text, with Keras.

    \b
    kft fit reviews.csv --out runs/reviews         train
    kft predict runs/reviews "Loved every minute"  ask
    kft export runs/reviews && kft serve           serve, as TensorFlow Serving would
    """
    own_process()


def own_process() -> None:
    """Sets up the process of a command, which `import kft` does not do to the process of somebody else.

    `benchmarks/import_time.py` says what the garbage collector's settings give.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow reads this when it is loaded. Left alone, it multiplies with Eigen on CPUs that have no AVX-512.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    gc.set_threshold(GARBAGE_THRESHOLD)  # imports make a million objects, and nearly all of them stay
    atexit.register(gc.freeze)  # a process that ends need not look through its memory for garbage


@main.command(epilog=EXIT_CODES, cls=InSections)
@train_argument
@recipe_option
@click.option("--resume", metavar="DIR", help="Go on with a fit that was stopped, from its last checkpoint.")
@quiet_option
@knobs()
def fit(train: str | None, recipe: str | None, resume: str | None, quiet: bool, knobs: dict[str, Any]) -> None:
    """Fine-tunes a model on TRAIN, a file of rows, a benchmark or a recipe (.yaml), and writes a run directory.

    Prints the metrics as JSON.

    \b
    kft fit reviews.csv
    kft fit train.tsv --validation dev.tsv --text sentence --label label --epochs 2
    kft fit pairs.jsonl --task regress --text sentence1 --text-pair sentence2 --label score
    kft fit glue:sst2 --data-dir data/glue
    kft fit best.yaml --seed 1
    kft fit --resume runs/reviews
    """
    import kft

    if resume:
        run = kft.resume(resume, train=train, quiet=quiet, **knobs)
    else:
        rows, asked = with_recipe(train, recipe, knobs)
        run = kft.fit(rows, quiet=quiet, **asked)
    _print_json(bounded({"run": str(run.path), **run.metrics}))


@main.command(epilog=EXIT_CODES, cls=InSections)
@train_argument
@recipe_option
@click.option(
    "--space",
    multiple=True,
    metavar="KNOB=VALUES",
    help="What to search, once for each knob: learning_rate=1e-5..5e-4:log, batch_size=16,32, epochs=2..4.",
)
@click.option("--trials", default=10, show_default=True, help="Fits to run.")
@click.option(
    "--search", type=click.Choice(["random", "grid"]), default="random", show_default=True, help="How to search."
)
@click.option("--objective", default="auto", show_default=True, help="Validation metric to improve; auto: the task's.")
@quiet_option
@knobs()
def tune(train: str | None, recipe: str | None, space: tuple[str, ...], trials: int, search: str, objective: str,
         quiet: bool, knobs: dict[str, Any]) -> None:  # fmt: skip
    """Searches the knobs that suit TRAIN best. The same command again goes on where it was stopped.

    Writes best.yaml, a recipe for `kft fit`, into the directory --out.

    \b
    kft tune reviews.csv --trials 12 --out runs/search
    kft tune reviews.csv --search grid --space batch_size=16,32 --space learning_rate=1e-4,2e-4
    kft fit runs/search/best.yaml --out runs/best
    """
    import kft
    from kft import early
    from tuning import space as spaces

    rows, asked = with_recipe(train, recipe, knobs)
    shared, sources = early.split_rows(rows, asked)
    task = early.refuse(shared, sources, is_out_a_run=False)
    searched = spaces.parse(*space) or None
    if searched:
        spaces.of(searched, Recipe.of(shared, task=task))  # refuses what is wrong with it before TensorFlow is loaded
    study = kft.tune(rows, space=searched, trials=trials, search=search, objective=objective, quiet=quiet, **asked)
    _print_json({"best": str(study.path / "best.yaml"), "value": study.best_value})


@main.command(epilog=EXIT_CODES)
@click.argument("run")
@click.argument("data")
@by_option
@click.option("--data-dir", metavar="DIR", help=Recipe.model_fields["data_dir"].description)
@head_option
def evaluate(run: str, data: str, by: str | None, data_dir: str | None, head: str | None) -> None:
    """Scores the model of RUN on labelled rows in DATA, and prints the metrics as JSON.

    DATA is a file or a benchmark, as in `kft evaluate runs/sst2 glue:sst2 --data-dir DIR`.
    """
    import kft
    from kft import early

    opened = kft.load(run) if head is None else kft.load(run).head(head)
    early.refuse_source(data, "evaluate", opened.recipe)
    _print_json(bounded(opened.evaluate(data, by=by, data_dir=data_dir)))


@main.command(epilog=EXIT_CODES)
@click.argument("runs", nargs=-1, required=True)
@click.option("--data", multiple=True, required=True, metavar="[NAME=]DATA", help="Rows to score, a file or benchmark.")
@by_option
@click.option("--metric", metavar="NAME", help="What the table shows. Default: what the answers are judged by.")
@click.option("--data-dir", metavar="DIR", help=Recipe.model_fields["data_dir"].description)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="json", show_default=True)
def matrix(runs: tuple[str, ...], data: tuple[str, ...], by: str | None, metric: str | None, data_dir: str | None,
           form: str) -> None:  # fmt: skip
    """Scores each of RUNS on each of --data: what a model that was trained on one scores on the other.

    \b
    kft matrix runs/en runs/de --data en.tsv --data de.tsv --format text
    kft matrix runs/en runs/de --data test.tsv --by language
    """
    import kft
    from kft import early
    from kft.score_matrix import named_sources

    sources = named_sources(data)
    for source in sources.values():
        early.refuse_source(source, "evaluate", Recipe.of())
    found = kft.matrix(runs, sources, by=by, metric=metric, data_dir=data_dir)
    click.echo(str(found)) if form == "text" else _print_json(found.as_json())


@main.command(epilog=EXIT_CODES)
@click.argument("run")
@click.argument("texts", nargs=-1)
@click.option("--input", "source", metavar="FILE", help="Rows to answer: any file that fit takes, without labels.")
@click.option(
    "--output", metavar="FILE", help="Where the answers go, one JSON object a line. Default: standard output."
)
@head_option
@click.option("--format", "form", type=click.Choice(["glue", "superglue", "squad"]),
              help="Write the files of a submission into the folder --output: the test rows of the benchmark --input "
                   "(glue, superglue), or the questions of a file (squad).")  # fmt: skip
@click.option("--data-dir", metavar="DIR", help="Directory with the files of the benchmark of --format.")
def predict(run: str, texts: tuple[str, ...], source: str | None, output: str | None, head: str | None,
            form: str | None, data_dir: str | None) -> None:  # fmt: skip
    """Answers TEXTS, the rows of --input, or each line of standard input, with the model of RUN.

    For a model of two texts, give them one after the other: `kft predict runs/pairs "A cat." "An animal."`.
    """
    import kft
    from kft.readers import inputs

    if form is not None:
        _submit(run, head, form, texts, source, output, data_dir)
        return
    if data_dir is not None:
        raise errors.RecipeError(f"--data-dir: found {data_dir!r} without --format. Leave it out, or name a format.")
    if output:
        writable.require_writable(output, errors.RecipeError, unlike=[source or "/dev/stdin"])
    for text in texts:
        inputs.refuse_file_name(text, f"--input {text} for the rows in it, or the text itself on standard input")
    opened = kft.load(run) if head is None else kft.load(run).head(head)
    if source:
        rows: Any = Path(source)
    else:
        lines = list(texts) or _lines_of_input()
        width = len(opened.text_columns)
        if len(lines) % width:
            raise errors.DataError(
                f"found {len(lines)} texts; the model takes {width} a row: {', '.join(opened.text_columns)}"
            )
        rows = [tuple(lines[i : i + width]) for i in range(0, len(lines), width)]
    answers = opened.predict(rows)
    content = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    if output:
        disk.write_output(output, content)
    else:
        click.echo(content, nl=False)


def _submit(run: str, head: str | None, form: str, texts: tuple[str, ...], source: str | None, output: str | None,
            data_dir: str | None) -> None:  # fmt: skip
    """Writes the files of a submission, and prints their paths."""
    import kft
    from kft import submitted

    if texts or source is None or output is None:
        raise errors.RecipeError(
            f"--format {form}: give the rows as --input (a benchmark such as glue:sst2; for squad a file) and a folder "
            "as --output, and no texts."
        )
    if Path(output).exists() and not Path(output).is_dir():
        raise errors.RecipeError(f"--output {output}: is a file; --format {form} writes into a folder.")
    opened = kft.load(run) if head is None else kft.load(run).head(head)
    for path in submitted.write(opened, form, source, output, data_dir):
        click.echo(path)


def _lines_of_input() -> list[str]:
    """The lines of standard input."""
    found = []
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            found.append(line.decode().rstrip("\r\n"))
        except UnicodeDecodeError as error:
            raise errors.DataError(
                f"standard input, line {number}: byte 0x{line[error.start]:02x} is not UTF-8. Convert it, for example: "
                "iconv -f WINDOWS-1252 -t UTF-8"
            ) from None
    return found


@main.command(epilog=EXIT_CODES)
@click.argument("run")
@click.argument("out")
@click.option("--base", metavar="PRESET", help="The pretrained model, where it is no longer where RUN says.")
def merge(run: str, out: str, base: str | None) -> None:
    """Writes RUN, trained with LoRA or the like, as an ordinary run with a whole preset into the folder OUT."""
    import kft

    click.echo(kft.load(run, base=base).merge(out).path)


@main.command(epilog=EXIT_CODES)
@click.argument("run")
@click.option("--out", metavar="DIR", help="The model's folder. Default: saved_models/<name of the run>.")
def export(run: str, out: str | None) -> None:
    """Writes the next version of RUN as a SavedModel for TensorFlow Serving, and prints its path.

    The model is loaded again in a fresh process and must answer as `kft predict` does. If the folder of all models is
    named saved_models, serve/models.config beside it is brought up to date.
    """
    import kft

    click.echo(kft.load(run).export(out))


@main.command(epilog=EXIT_CODES)
@click.argument("saved_models", default="saved_models")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8501, show_default=True, help="Port to listen on; 0 picks a free one.")
@click.option("--any-saved-model", is_flag=True,
              help="Serve SavedModels that no kft export has written, too. Such a file is a program.")  # fmt: skip
def serve(saved_models: str, host: str, port: int, any_saved_model: bool) -> None:
    """Serves the models in SAVED_MODELS over HTTP, in TensorFlow Serving's REST format, without TensorFlow Serving.

    \b
    curl -d '{"instances": ["Loved every minute"]}' http://127.0.0.1:8501/v1/models/reviews:predict
    """
    from serve import server

    server.serve(Path(saved_models), host=host, port=port, any_saved_model=any_saved_model)


@main.command(epilog=EXIT_CODES, cls=InSections)
@train_argument
@recipe_option
@knobs("out")
def check(train: str | None, recipe: str | None, knobs: dict[str, Any]) -> None:
    """Reads, maps, cleans and splits TRAIN as `kft fit` would, trains nothing, and says what it found, as JSON."""
    import kft

    rows, asked = with_recipe(train, recipe, knobs)
    found = kft.check(rows, **asked)
    parts = {name: len(part) for name, part in found.parts.items()}
    _print_json({"task": found.task.name, "columns": dict(found.columns), "rows": parts, **found.labels,
                 "notes": list(found.notes)})  # fmt: skip


@main.command(epilog=EXIT_CODES, cls=InSections)
@train_argument
@recipe_option
@knobs("out")
def plan(train: str | None, recipe: str | None, knobs: dict[str, Any]) -> None:
    """Shows what `kft fit TRAIN` would do and cost: rows, lengths, steps, parameters, devices, time and memory."""
    import kft

    rows, asked = with_recipe(train, recipe, knobs)
    forecast = kft.plan(rows, **asked)
    for note in forecast.notes:
        click.echo(f"note: {note}", err=True)
    for name, value in forecast.lines():
        click.echo(f"{name:15} {value}")


@main.command(epilog=EXIT_CODES)
@click.option("--out", default="runs/demo", show_default=True, help="Run directory to write.")
def demo(out: str) -> None:
    """Fits MiniLM on customer messages that come with kft, exports it, serves it, and asks it over HTTP."""
    from kft.demo import story

    story.tell(Path(out))


def bounded(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics for the screen: of more than 100 classes the 20 weakest, and a line on standard error that says so."""
    found = dict(metrics)
    for name, value in metrics.items():
        if name == "per_class" and len(value) > MOST_CLASSES:
            weakest = sorted(value, key=lambda label: (value[label]["support"] == 0, value[label]["f1"]))[:20]
            found[name] = {label: value[label] for label in weakest}
            click.echo(
                f"note: per_class: the 20 weakest of {len(value):,} classes; metrics.json, and Python, have all.",
                err=True,
            )
        elif isinstance(value, dict):
            found[name] = bounded(value)
    return found


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
