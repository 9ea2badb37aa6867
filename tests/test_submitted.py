"""Answers in the files that the servers of GLUE, SuperGLUE and SQuAD take."""

import json

import pyarrow as pa
import pytest
from click.testing import CliRunner

import kft
from kft import cli, submitted
from kft.data.table import Table
from kft.datasets import registry
from kft.datasets.submissions import SUBMISSIONS, squad
from kft.errors import DataError, RecipeError


def content(name, rows, answers):
    (submission,) = (forms[name] for forms in SUBMISSIONS.values() if name in forms)
    return submission.content(name, Table(pa.Table.from_pylist(rows), "rows"), answers)


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def objects(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "answers", "expected"),
    [
        ("glue:cola", [{"label": "acceptable"}, {"label": "unacceptable"}], "0\t1\n5\t0\n"),
        ("glue:mrpc", [{"label": "equivalent"}, {"label": "not_equivalent"}], "0\t1\n5\t0\n"),
        ("glue:qnli", [{"label": "entailment"}, {"label": "not_entailment"}], "0\tentailment\n5\tnot_entailment\n"),
        ("glue:ax", [{"label": "neutral"}, {"label": "contradiction"}], "0\tneutral\n5\tcontradiction\n"),
        ("glue:wnli", [{"label": "entailment"}, {"label": "not_entailment"}], "0\t1\n5\t0\n"),
        ("glue:stsb", [{"value": 5.25}, {"value": 2.12345}], "0\t5.000\n5\t2.123\n"),
    ],
)
def test_glue_has_a_header_and_the_labels_of_its_files(name, answers, expected):
    assert content(name, [{"index": "0"}, {"index": "5"}], answers) == f"index\tprediction\n{expected}"


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("superglue:boolq", "true", "true"),
        ("superglue:wic", "false", "false"),
        ("superglue:wsc", "true", "True"),
        ("superglue:copa", "1", 1),
        ("superglue:cb", "contradiction", "contradiction"),
        ("superglue:axg", "not_entailment", "not_entailment"),
    ],
)
def test_superglue_has_an_object_a_line(name, label, expected):
    assert lines(content(name, [{"index": 3}], [{"label": label}])) == [{"idx": 3, "label": expected}]


def test_multirc_is_nested_and_record_has_an_entity_for_each_query():
    ids = [(0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 2, 3)]
    rows = [dict(zip(("passage_idx", "question_idx", "answer_idx"), one, strict=True)) for one in ids]
    found = lines(content("superglue:multirc", rows, [{"label": word} for word in ("true", "false", "false", "true")]))
    assert found == [
        {
            "idx": 0,
            "passage": {
                "questions": [
                    {"idx": 0, "answers": [{"idx": 0, "label": 1}, {"idx": 1, "label": 0}]},
                    {"idx": 1, "answers": [{"idx": 2, "label": 0}]},
                ]
            },
        },
        {"idx": 1, "passage": {"questions": [{"idx": 2, "answers": [{"idx": 3, "label": 1}]}]}},
    ]
    rows = [{"question_id": n, "candidate": word} for n, word in (("7", "Ann"), ("7", "Bob"), ("8", "Tea"))]
    scores = [{"scores": {"true": value}} for value in (0.1, 0.3, 0.2)]
    assert lines(content("superglue:record", rows, scores)) == [{"idx": 7, "label": "Bob"}, {"idx": 8, "label": "Tea"}]


def test_squad_has_an_empty_answer_where_there_is_none():
    assert json.loads(squad(["a", "b"], [{"answer": "tea"}, {"answer": ""}])) == {"a": "tea", "b": ""}


def test_every_set_of_the_benchmarks_has_a_submission():
    for form, known in SUBMISSIONS.items():
        assert set(known) == {name for name in registry.BENCHMARKS if name.startswith(f"{form}:")}


# -- with runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentiment_run(message_rows, quick, tmp_path_factory):
    rows = [{"text": row["text"], "label": ("negative", "positive")[i % 2]} for i, row in enumerate(message_rows)]
    out = tmp_path_factory.mktemp("runs") / "sst2"
    return kft.fit(rows, text="text", label="label", max_steps=1, out=str(out), **quick)


def told(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def test_the_command_answers_the_test_rows_of_the_release(sentiment_run, tmp_path):
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2" / "test.tsv").write_text('index\tsentence\n0\tthe "lamp is late\n1\tmy chair was good\n')
    given = ["--format", "glue", "--input", "glue:sst2", "--data-dir", tmp_path, "--output", tmp_path / "out"]
    found = told("predict", sentiment_run.path, *given)
    assert found.exit_code == 0, found.output
    assert found.stdout == f"{tmp_path / 'out' / 'SST-2.tsv'}\n"
    labels = [answer["label"] for answer in sentiment_run.predict(['the "lamp is late', "my chair was good"])]
    expected = "".join(f"{n}\t{int(label == 'positive')}\n" for n, label in enumerate(labels))
    assert (tmp_path / "out" / "SST-2.tsv").read_text() == f"index\tprediction\n{expected}"


def test_rows_of_superglue_are_read_without_labels(quick, tmp_path):
    (tmp_path / "ReCoRD").mkdir()
    passage = {"text": "the lamp was late", "entities": [{"start": 4, "end": 7}, {"start": 13, "end": 16}]}
    query = {"query": "@placeholder is wrong", "idx": 5}
    (tmp_path / "ReCoRD" / "test.jsonl").write_text(objects({"idx": 0, "passage": passage, "qas": [query]}))
    rows = [
        {"text": f"the lamp {w}", "text_pair": "my chair", "label": label}
        for w in "abcdef"
        for label in ("true", "false")
    ]
    run = kft.fit(rows, max_steps=1, validation=0, out=str(tmp_path / "run"), **quick)
    (path,) = submitted.write(run, "superglue", "superglue:record", tmp_path / "out", tmp_path)
    asked = run.predict([(f"{entity} is wrong", passage["text"]) for entity in ("lamp", "late")])
    best = max(zip(("lamp", "late"), asked, strict=True), key=lambda one: one[1]["scores"]["true"])[0]
    assert path.name == "ReCoRD.jsonl" and lines(path.read_text()) == [{"idx": 5, "label": best}]


@pytest.mark.parametrize(
    ("form", "source", "data_dir", "says"),
    [
        ("glue", "glue:sst3", "data", "Did you mean 'glue:sst2'"),
        ("superglue", "glue:sst2", "data", "Expected one of: superglue:boolq"),
        ("glue", "glue:sst2", None, "Give data_dir"),
        ("glue", "glue:rte", "data", "tells negative, positive apart; the labels of glue:rte are entailment"),
        ("glue", "glue:stsb", "data", "is a run of classify; glue:stsb is of regress"),
        ("squad", "rows.json", None, "expected one of answer"),
    ],
)
def test_what_does_not_fit_is_refused(sentiment_run, tmp_path, form, source, data_dir, says):
    with pytest.raises(RecipeError, match=says):
        submitted.write(sentiment_run, form, source, tmp_path / "out", data_dir)
    assert not (tmp_path / "out").exists()


def test_a_release_without_the_test_rows_is_refused(sentiment_run, tmp_path):
    with pytest.raises(DataError, match=r"lacks SST-2/test.tsv"):
        submitted.write(sentiment_run, "glue", "glue:sst2", tmp_path / "out", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "glue", "--input", "glue:sst2"], "a folder as --output"),
        (["--data-dir", "x", "tea"], "without --format"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(sentiment_run, arguments, says):
    found = told("predict", sentiment_run.path, *arguments)
    assert found.exit_code == 2 and says in found.stderr


@pytest.mark.slow
def test_the_questions_of_squad_are_answered_by_id(quick, tmp_path):
    qas = [
        {"id": f"q{n}", "question": "what is late", "answers": [{"text": "lamp", "answer_start": 4}]} for n in range(4)
    ]
    article = {"title": "t", "paragraphs": [{"context": "the lamp is late", "qas": qas}]}
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"version": "1.1", "data": [article]}))
    run = kft.fit(str(path), max_steps=1, validation=0, out=str(tmp_path / "run"), **quick)
    (written,) = submitted.write(run, "squad", str(path), tmp_path / "out")
    assert set(json.loads(written.read_text())) == {"q0", "q1", "q2", "q3"}
