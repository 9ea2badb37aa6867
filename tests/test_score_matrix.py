"""Metrics by the values of a column, of one run or of several on several sets of rows."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import kft
from kft import cli
from kft.errors import DataError, RecipeError


@pytest.fixture(scope="module")
def rows_of_languages(message_rows):
    """The messages with a language, which the last of them lacks."""
    languages = ["en", "de", "sw"]
    rows = [{**row, "language": languages[i % 3]} for i, row in enumerate(message_rows)]
    return [*rows[:-1], {**rows[-1], "language": None}]


def test_each_value_scores_as_its_rows_alone_do(topic_run, rows_of_languages):
    found = topic_run.evaluate(rows_of_languages, by="language")
    about = found["by"]["language"]
    assert {key: value for key, value in found.items() if key != "by"} == topic_run.evaluate(rows_of_languages)
    assert list(about["values"]) == ["de", "en", "sw"] and about["num_rows_without"] == 1
    for language, values in about["values"].items():
        alone = topic_run.evaluate([row for row in rows_of_languages if row["language"] == language])
        assert values == pytest.approx({key: alone[key] for key in values})
    scores = {name: values["accuracy"] for name, values in about["values"].items()}
    assert about["worst"] == min(scores, key=scores.get) and about["mean"] == pytest.approx(
        np.mean(list(scores.values()))
    )


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("langage", "Did you mean 'language'"),
        ("topic", "is the label of the task"),
        ("text", "is the text of the task"),
    ],
)
def test_columns_that_cannot_tell_rows_apart_are_refused(topic_run, rows_of_languages, column, says):
    with pytest.raises(DataError, match=says):
        topic_run.evaluate(rows_of_languages, by=column)


def test_a_fit_scores_the_rows_that_it_holds_back_by_value(rows_of_languages, quick, tmp_path):
    knobs = {"text": "text", "label": "topic", "validation": 0.2, "test": 0.3, "max_steps": 1, **quick}
    run = kft.fit(rows_of_languages, evaluate_by="language", out=str(tmp_path / "run"), **knobs)
    for part in ("validation", "test"):
        about = run.metrics[part]["by"]["language"]
        counted = sum(values["num_rows"] for values in about["values"].values()) + about.get("num_rows_without", 0)
        assert counted == run.metrics[part]["num_rows"]
    report = (run.path / "report.html").read_text()
    assert "Parts of the rows" in report and "By language: accuracy is" in report
    with pytest.raises(RecipeError, match="no rows are held back"):
        kft.check(rows_of_languages, evaluate_by="language", text="text", label="topic", validation=0)
    with pytest.raises(DataError, match="has no column 'tongue'"):
        kft.check(rows_of_languages, evaluate_by="tongue", text="text", label="topic")


def test_a_problem_that_is_judged_by_its_losses_has_those_of_each_value(corpus, quick, tmp_path):
    rows = [{"text": text, "source": "ab"[i % 2]} for i, text in enumerate(corpus)]
    run = kft.fit(rows, task="pretrain", max_steps=1, out=str(tmp_path / "run"), **quick)
    found = run.evaluate(rows, by="source")["by"]["source"]
    alone = run.evaluate(rows[::2])
    assert (
        found["values"]["a"]["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        and found["values"]["a"]["num_rows"] == 30
    )


def test_runs_are_scored_on_sets_of_rows_and_values(topic_run, rows_of_languages):
    with pytest.raises(RecipeError, match="given twice"):
        kft.matrix([topic_run, topic_run], {"all": rows_of_languages})
    found = kft.matrix([topic_run.path], {"all": rows_of_languages, "few": rows_of_languages[:9]}, by="language")
    (row,) = found.table.values()
    assert list(row) == [f"{n}{v}" for n in ("all", "few") for v in ("", ": de", ": en", ": sw")]
    assert row["few"] == topic_run.evaluate(rows_of_languages[:9])["accuracy"]
    lines = str(found).splitlines()
    assert lines[0].startswith("accuracy") and len(lines) == 3 and f"{row['few: de']:.1%}" in lines[2]


def test_runs_of_different_kinds_are_refused(topic_run, urgency_run, message_rows):
    with pytest.raises(RecipeError, match="expected runs of one kind"):
        kft.matrix([topic_run, urgency_run], {"all": message_rows})


def test_the_command_prints_the_matrix(topic_run, rows_of_languages, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of_languages))
    run = str(topic_run.path)
    printed = CliRunner().invoke(cli.main, ["matrix", run, "--data", f"mine={path}", "--by", "language"])
    assert printed.exit_code == 0, printed.output
    (row,) = json.loads(printed.stdout)["table"].values()
    assert list(row) == ["mine", "mine: de", "mine: en", "mine: sw"]
    text = CliRunner().invoke(cli.main, ["matrix", run, "--data", str(path), "--format", "text"])
    assert "rows.jsonl" in text.stdout
    by = CliRunner().invoke(cli.main, ["evaluate", run, str(path), "--by", "language"])
    assert json.loads(by.stdout)["by"]["language"]["worst"] in ("de", "en", "sw")
