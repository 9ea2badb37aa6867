"""The command line: its help, its suggestions, its exit codes, and output that other programs can read."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner

import kft
import kft.errors
from kft import knobs, task_names, tasks
from kft.cli import bounded, main

COMMANDS = ["fit", "tune", "evaluate", "predict", "export", "serve", "check", "plan", "demo"]
TEXTS = ["the lamp is wrong today", "the refund was lost today"]


def told(*arguments, stdin=None):
    """The outcome of `kft` with these arguments, in this process."""
    return CliRunner().invoke(main, list(map(str, arguments)), input=stdin, catch_exceptions=False)


def in_a_process(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(kft.__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "kft.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def messages(message_rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "messages.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(message_rows[0]))
        writer.writeheader()
        writer.writerows(message_rows)
    return path


# -- help and suggestions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_exit_codes(command):
    found = told(command, "--help")
    assert found.exit_code == 0 and "Exit codes:" in found.stdout and command in told("--help").stdout


def test_the_help_of_fit_names_every_knob_with_its_default():
    words = " ".join(told("fit", "--help").stdout.split())
    for name, field in kft.Recipe.model_fields.items():
        if name != "train":
            assert f"--{name.replace('_', '-')}" in words
            assert f"[default: {knobs.default_text(field)}]" in words


def test_the_help_of_fit_names_every_task():
    assert tuple(sorted(tasks.TASKS)) == task_names.TASKS
    assert ", ".join(task_names.TASKS) in " ".join(told("fit", "--help").stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evalute"], "no command 'evalute'. Did you mean 'evaluate'?"),
        (["fit", "rows.csv", "--epoch", "2"], "--epochs"),
        (["fit", "--batchsize", "2"], "--batch-size"),
        (["fit"], "no training rows: give a file"),
        (["fit", "rows.csv", "--epochs", "many"], "epochs: found 'many'"),
        (["fit", "rows.csv", "--class-weights", "{a: 1"], "found '{a: 1', line 1, column 6: not valid YAML"),
        (["fit", "--recipe", "missing.yaml"], "missing.yaml: cannot be read (No such file or directory)"),
        (["tune", "rows.csv", "--search", "gird"], "random"),
    ],
)
def test_a_wrong_command_or_flag_exits_with_2_and_a_suggestion(arguments, message):
    found = told(*arguments)
    assert found.exit_code == 2 and message in found.stderr and not found.stdout


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "flags", "code", "message"),
    [
        ("text,label\n", [], 3, "has a header but no rows"),
        ("text,label\na,x\nb,y\nc\n", [], 3, "row 4: found 1 field, expected 2"),
        ("text,label\na,x\nb,x\n", ["--validation", "0"], 3, "all 2 rows have the label 'x'"),
        ("text,label\na,x\n", ["--text", "txt"], 3, "Did you mean 'text'?"),
        ("text,label\na,x\n", ["--preset", "resnet_50_imagenet"], 4, "not a text model"),
        ("text,label\na,x\n", ["--out", "/proc/run"], 5, "/proc/run: cannot be written"),
        ("text,label\na,x\n", ["--task", "clasify"], 2, "Did you mean 'classify'?"),
    ],
)
def test_a_refusal_is_one_line_and_its_exit_code(tmp_path, tiny_preset, content, flags, code, message):
    (tmp_path / "rows.csv").write_text(content)
    given = ["--out", tmp_path / "run", "--preset", tiny_preset, *flags]
    found = told("fit", tmp_path / "rows.csv", *given)
    assert (found.exit_code, found.stdout) == (code, "")
    assert found.stderr.startswith("error: ") and found.stderr.count("\n") == 1 and message in found.stderr
    assert not (tmp_path / "run").exists()


def test_a_refusal_in_a_real_process_shows_no_traceback(tmp_path):
    found = in_a_process("fit", tmp_path / "rows.csv", "--out", tmp_path / "run")
    assert (found.returncode, found.stdout) == (3, "")
    assert found.stderr == f"error: {tmp_path / 'rows.csv'}: the train data does not exist. Check the path.\n"


def test_a_folder_without_a_run_exits_with_5(tmp_path):
    for arguments in (["predict", tmp_path, "a"], ["evaluate", tmp_path, "rows.csv"], ["export", tmp_path]):
        found = told(*arguments)
        assert found.exit_code == 5 and "no run is here" in found.stderr
    found = told("serve", tmp_path)
    assert found.exit_code == 9 and "holds no export" in found.stderr


def test_an_unforeseen_exception_is_one_line_and_a_traceback_only_on_request(tmp_path, monkeypatch):
    def fail(path):
        raise TypeError("two\nlines")

    monkeypatch.setattr("kft.run.load", fail)
    found = told("export", tmp_path)
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.startswith("internal error: TypeError: two\\nlines (test_cli.py, line ")
    assert found.stderr.endswith("For the traceback set KFT_TRACEBACK=1.\n") and found.stderr.count("\n") == 1
    monkeypatch.setenv("KFT_TRACEBACK", "1")
    with pytest.raises(TypeError):
        told("export", tmp_path)


# -- fit, check, plan ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_recipe_file_is_fitted_with_the_flags_on_top(messages, quick, tmp_path):
    knobs = {name: value for name, value in quick.items() if name != "quiet"}
    recipe = {"train": str(messages), "text": "text", "label": "topic", "test": 0.2, "epochs": 5, **knobs}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    flags = ["--epochs", 2, "--max-steps", 7, "--out", tmp_path / "run", "--class-weights", "balanced"]
    found = in_a_process("fit", tmp_path / "recipe.yaml", *flags)
    assert found.returncode == 0, found.stderr
    metrics = json.loads(found.stdout)
    run = kft.load(metrics.pop("run"))
    assert metrics == run.metrics and set(metrics) >= {"validation", "test"}
    assert (run.recipe.epochs, run.recipe.batch_size, run.recipe.class_weights) == (2, 8, "balanced")
    assert "epoch 1: loss" in found.stderr and f"report: {run.path / 'report.html'}" in found.stderr
    again = told("fit", messages, "--out", run.path)
    assert again.exit_code == 5 and "already holds a run" in again.stderr


def test_check_says_what_a_fit_would_see(messages):
    found = told("check", messages, "--text", "text", "--label", "topic", "--test", "0.2")
    assert found.exit_code == 0
    said = json.loads(found.stdout)
    assert said["task"] == "classify" and said["columns"] == {"text": "text", "label": "topic"}
    assert said["rows"] == {"train": 42, "validation": 6, "test": 12}
    assert said["labels"] == ["billing", "delivery", "product"]
    unused = f"{messages}: columns that are not used: 'urgency'."
    unknown = "unknown tokens: 0.0% of those of a sample of train, by minilm"
    assert said["notes"] == ["task: classify, because 'topic' holds text", unused, unknown]


def test_plan_shows_the_cost_and_writes_nothing(messages, tiny_preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--label", "topic", "--preset", tiny_preset, "--batch-size", "8", "--epochs", "3"]
    found = told("plan", messages, *given)
    assert found.exit_code == 0
    lines = {line[:15].strip(): line[16:] for line in found.stdout.splitlines()}
    assert lines["rows"] == "54 train, 6 validation" and lines["steps"].startswith("21")
    assert list(tmp_path.iterdir()) == []


# -- predict, evaluate -----------------------------------------------------------------------------------------------


def test_predict_answers_arguments_lines_and_files_alike(topic_run, tmp_path):
    expected = topic_run.predict(TEXTS)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    by_argument = told("predict", topic_run.path, *TEXTS)
    by_line = told("predict", topic_run.path, stdin="".join(f"{text}\n" for text in TEXTS))
    by_file = told(
        "predict", topic_run.path, "--input", tmp_path / "rows.jsonl", "--output", tmp_path / "answers.jsonl"
    )
    assert (by_argument.exit_code, by_line.exit_code, by_file.exit_code, by_file.stdout) == (0, 0, 0, "")
    for answers in (by_argument.stdout, by_line.stdout, (tmp_path / "answers.jsonl").read_text()):
        found = [json.loads(line) for line in answers.splitlines()]
        assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]
        assert [answer["score"] for answer in found] == pytest.approx([answer["score"] for answer in expected])


def test_predict_takes_texts_in_any_container_and_no_rows(topic_run, tmp_path, monkeypatch):
    expected = [answer["label"] for answer in topic_run.predict(TEXTS)]
    frame = pd.DataFrame({"text": TEXTS})
    for rows in (frame["text"], frame["text"].to_numpy(), (text for text in TEXTS), pa.array(TEXTS), frame):
        assert [answer["label"] for answer in topic_run.predict(rows)] == expected
    assert topic_run.predict(frame[:0]) == topic_run.predict(frame["text"][:0]) == topic_run.predict([]) == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text\na\n")
    with pytest.raises(kft.errors.DataError, match="'rows.csv' is the name of a file"):
        topic_run.predict("rows.csv")
    assert len(topic_run.predict(["rows.csv"])) == len(topic_run.predict(Path("rows.csv"))) == 1


def test_standard_input_that_is_not_utf_8_is_refused(topic_run):
    found = told("predict", topic_run.path, stdin=b"tea\nl\xe4mp\n")
    assert found.exit_code == 3 and "standard input, line 2: byte 0xe4 is not UTF-8" in found.stderr


def test_predict_takes_two_texts_a_row_where_the_model_does(pair_run):
    found = told("predict", pair_run.path, *TEXTS)
    assert json.loads(found.stdout)["label"] == pair_run.predict([tuple(TEXTS)])[0]["label"]
    found = told("predict", pair_run.path, *TEXTS, "a third")
    assert found.exit_code == 3 and "found 3 texts; the model takes 2 a row: text, text_pair" in found.stderr


def test_evaluate_prints_the_metrics(urgency_run, messages, message_rows):
    found = told("evaluate", urgency_run.path, messages)
    assert found.exit_code == 0
    assert json.loads(found.stdout) == pytest.approx(urgency_run.evaluate(message_rows))


def test_metrics_of_many_classes_are_bounded_on_the_screen(capsys):
    many = {f"class {i}": {"precision": 0.0, "recall": 0.0, "f1": i / 500, "support": i % 3} for i in range(500)}
    few = {"a": many["class 1"]}
    found = bounded({"run": "x", "test": {"accuracy": 0.5, "per_class": many}, "validation": {"per_class": few}})
    assert list(found["test"]["per_class"])[:3] == ["class 1", "class 2", "class 4"]
    assert len(found["test"]["per_class"]) == 20 and found["validation"]["per_class"] == few
    assert (
        capsys.readouterr().err
        == "note: per_class: the 20 weakest of 500 classes; metrics.json, and Python, have all.\n"
    )
