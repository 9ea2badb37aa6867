"""A benchmark by name goes through fit, resume, check, evaluate and the command line as a file does."""

import json
import shutil

import pytest
from click.testing import CliRunner

import kft
from kft import disk
from kft.cli import main
from kft.errors import DataError, RecipeError
from kft.evaluation import metric
from kft.run_directory import OWN_SUM

HALVES = {"train": slice(0, 40), "dev": slice(40, 50), "test": slice(50, 60)}


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="module")
def releases(message_rows, pair_rows, tmp_path_factory):
    """SST-2, STS-B, MRPC and PAWS-X in the files of their releases, on the rows that the tiny model can learn."""
    folder = tmp_path_factory.mktemp("releases")
    for name, rows in HALVES.items():
        messages, pairs = message_rows[rows], pair_rows[rows]
        write(
            folder / f"SST-2/{name}.tsv",
            [("sentence", "label"), *((row["text"], int("lamp" in row["text"])) for row in messages)],
        )
        write(
            folder / f"STS-B/{name}.tsv",
            [
                ("index", "sentence1", "sentence2", "score"),
                *((0, r["text"], r["text"], r["urgency"]) for r in messages),
            ],
        )
        write(
            folder / f"MRPC/{name}.tsv",
            [
                ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
                *((int(row["label"] == "same"), 1, 2, row["text"], row["text_pair"]) for row in pairs),
            ],
        )
        file = {"train": "translated_train", "dev": "dev_2k", "test": "test_2k"}[name]
        for language in ("de", "fr"):
            write(
                folder / f"x-final/{language}/{file}.tsv",
                [
                    ("id", "sentence1", "sentence2", "label"),
                    *((1, row["text"], row["text_pair"], int(row["label"] == "same")) for row in pairs),
                ],
            )
    return folder


def sizes(data):
    return {name: len(part) for name, part in data.parts.items()}


def told(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


@pytest.mark.slow
def test_a_benchmark_is_fitted_and_evaluated_from_the_command_line(releases, tiny_preset, tmp_path):
    out = tmp_path / "run"
    flags = ["--preset", tiny_preset, "--batch-size", 8, "--max-steps", 2, "--precision", "float32"]
    found = told("fit", "glue:sst2", "--data-dir", releases, "--out", out, *flags)
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["validation"]["num_rows"] == 10
    assert "note: glue:sst2: the official test rows have no labels and are not used." in found.stderr
    run = kft.load(out)
    assert (run.recipe.train, run.recipe.data_dir) == ("glue:sst2", str(releases))
    assert run.labels["labels"] == ["negative", "positive"]
    found = told("evaluate", out, "glue:sst2", "--data-dir", releases)
    assert found.exit_code == 0, found.stderr
    scores = metric.scalars(json.loads(found.stdout))
    assert scores == pytest.approx(metric.scalars(run.metrics["validation"]), abs=1e-6)
    found = told("evaluate", out, "glue:sst2", "--data-dir", tmp_path)
    assert found.exit_code == 3 and "lacks SST-2/dev.tsv, the validation rows of glue:sst2" in found.stderr


@pytest.mark.slow
def test_a_resumed_fit_finds_the_same_rows_again(releases, quick, tmp_path):
    run = kft.fit("glue:mrpc", data_dir=releases, max_steps=2, out=str(tmp_path / "run"), **quick)
    manifest = json.loads((run.path / "manifest.json").read_text())
    begun = {name: value for name, value in manifest.items() if name != OWN_SUM} | {"finished": False}
    (run.path / "manifest.json").write_text(json.dumps({**begun, OWN_SUM: disk.json_sha256(begun)}))
    again = kft.resume(run.path, quiet=True)
    assert again.manifest["data"] == manifest["data"] and again.manifest["finished"]


@pytest.mark.parametrize(
    ("name", "task", "metric", "parts"),
    [
        ("glue:sst2", "classify", "accuracy", {"train": 40, "validation": 10}),
        ("glue:stsb", "regress", "pearson", {"train": 40, "validation": 10}),
        ("glue:mrpc", "classify", "f1", {"train": 40, "validation": 10}),
        ("pawsx:de", "classify", "accuracy", {"train": 40, "validation": 10, "test": 10}),
    ],
)
def test_task_metric_and_parts_are_the_official_ones(releases, name, task, metric, parts):
    data = kft.check(name, data_dir=str(releases))
    assert (data.task.name, data.best_by("auto"), sizes(data)) == (task, metric, parts)
    assert data.best_by("loss") == "loss"


def test_the_f1_of_mrpc_is_that_of_the_equivalent_pairs(releases):
    labels = kft.check("glue:mrpc", data_dir=releases).labels["labels"]
    assert labels == ["not_equivalent", "equivalent"]
    assert kft.check("glue:mrpc", data_dir=releases, validation=0.2).labels["labels"] == labels


def test_the_parts_can_be_chosen_otherwise(releases, message_rows):
    def parts(**knobs):
        return sizes(kft.check("pawsx:de", data_dir=releases, **knobs))

    assert parts(validation=0) == {"train": 40, "test": 10}
    assert parts(validation=0.2, test=0.2) == {"train": 24, "validation": 8, "test": 8}
    own = [{"text": "a lamp", "text_pair": "b", "label": "paraphrase"}] * 3
    assert parts(test=own) == {"train": 40, "validation": 10, "test": 3}
    other = kft.check("pawsx:de", data_dir=releases, test="pawsx:fr")
    assert str(releases / "x-final/fr/test_2k.tsv") == other.parts["test"].source
    rows = [{"text": row["text"], "label": "positive" if "lamp" in row["text"] else "negative"} for row in message_rows]
    assert sizes(kft.check(rows, data_dir=releases, validation="glue:sst2", allow_leaks=True))["validation"] == 10


def test_official_test_rows_that_stand_in_train_are_a_note(releases, tmp_path):
    (tmp_path / "de").mkdir()
    for name in ("translated_train", "dev_2k", "test_2k"):
        shutil.copy(releases / "x-final/de/translated_train.tsv", tmp_path / f"de/{name}.tsv")
    data = kft.check("pawsx:de", data_dir=tmp_path)
    assert any("test_2k.tsv are also in the training data" in note for note in data.notes)


def test_own_rows_do_not_leak_into_official_test_rows(releases, pair_rows):
    rows = [{**row, "label": "paraphrase" if row["label"] == "same" else "different_meaning"} for row in pair_rows]
    with pytest.raises(DataError, match="10 of 10 rows of .*test_2k.tsv are also in the training data"):
        kft.check(rows, data_dir=releases, test="pawsx:de")


def test_what_cannot_be_meant_is_refused(releases, tmp_path):
    with pytest.raises(DataError, match="glue:sst2: has no test rows with labels"):
        kft.check("glue:sst2", data_dir=releases, test="glue:sst2")
    with pytest.raises(RecipeError, match="unknown benchmark 'glue:sst3'. Did you mean 'glue:sst2'?"):
        kft.check("glue:sst3", data_dir=releases)
    with pytest.raises(RecipeError, match="no rows are those of a benchmark, as glue:sst2. Did you mean 'glue:sst2'?"):
        kft.check("sst2", data_dir=releases)
    found = told("check", "glue:rte", "--data-dir", tmp_path)
    assert found.exit_code == 3 and "lacks RTE/train.tsv" in found.stderr


def test_data_dir_is_a_knob_like_any_other(tmp_path):
    recipe = kft.Recipe.of(train="glue:sst2", data_dir="data/glue")
    for name in ("recipe.json", "recipe.yaml"):
        recipe.write(tmp_path / name)
        assert kft.Recipe.read(tmp_path / name) == recipe
    for command in ("fit", "tune", "check", "plan", "evaluate"):
        assert "--data-dir" in told(command, "--help").stdout


@pytest.mark.slow
def test_a_search_keeps_to_the_official_parts(releases, tiny_preset, tmp_path):
    shared = {"preset": tiny_preset, "max_steps": 1, "batch_size": 8, "precision": "float32"}
    study = kft.tune(
        "pawsx:de",
        data_dir=releases,
        space={"learning_rate": [1e-4, 1e-3]},
        trials=2,
        out=tmp_path,
        quiet=True,
        **shared,
    )
    assert study.best.data_dir == str(releases) and study.best.train == "pawsx:de"
    scores = study.best_run().metrics
    assert scores["validation"]["num_rows"] == 10 and "test" not in scores
    assert study.best_run().labels["labels"] == ["different_meaning", "paraphrase"]
