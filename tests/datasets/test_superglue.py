"""The sets of SuperGLUE whose rows are made of others, and the metrics of whole questions and pairs."""

import json
import sys
import types

import numpy as np
import pytest

import kft
from kft.datasets import loading, official, registry, superglue
from kft.datasets.superglue import REASONING
from kft.errors import DataError


def objects(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def multirc(*labels):
    answers = [
        {"text": text, "idx": i, "label": label} for i, (text, label) in enumerate(zip("ab", labels, strict=True))
    ]
    return {"idx": 4, "passage": {"text": "Tea.", "questions": [{"question": "What?", "idx": 7, "answers": answers}]}}


PLACES = [(0, 2), (8, 10), (14, 16)]
PASSAGE = {
    "text": "Ann met Bob . Ann won .\n@highlight\nTea",
    "entities": [{"start": start, "end": end} for start, end in PLACES],
}
RECORD = {
    "idx": 0,
    "source": "x",
    "passage": PASSAGE,
    "qas": [{"query": "@placeholder won", "idx": 9, "answers": [{"start": 0, "end": 2, "text": "Ann"}]}],
}
WSC = {
    "idx": 0,
    "text": "The red cup broke since it fell .",
    "target": {"span1_index": 0, "span1_text": "The red cup", "span2_index": 5, "span2_text": "it"},
    "label": True,
}
FILES = {
    "MultiRC/train.jsonl": objects(multirc(1, 0)),
    "MultiRC/val.jsonl": objects(multirc(0, 0)),
    "ReCoRD/train.jsonl": objects(RECORD),
    "ReCoRD/val.jsonl": objects(RECORD),
    "WSC/train.jsonl": objects(WSC),
    "WSC/val.jsonl": objects({**WSC, "label": False}),
    "AX-b/AX-b.jsonl": objects(
        {"sentence1": "A.", "sentence2": "B.", "label": "not_entailment", "logic": "", "idx": 0}
    ),
    "AX-g/AX-g.jsonl": objects({"premise": "P.", "hypothesis": "H.", "label": "entailment", "idx": 0, "pair_id": 5}),
    "diagnostic/diagnostic-full.tsv": "Logic\tDomain\tPremise\tHypothesis\tLabel\nNegation\tNews\tP.\tH.\tneutral\n",
}
ENTITIES = [("Ann won", "true", "Ann"), ("Bob won", "false", "Bob")]
MARKED = "* The red cup * broke since # it # fell ."
ROWS = {
    ("superglue:multirc", "train"): [("What? a", "Tea.", "true"), ("What? b", "Tea.", "false")],
    ("superglue:multirc", "validation"): [("What? a", "Tea.", "false"), ("What? b", "Tea.", "false")],
    ("superglue:record", "train"): [(text, PASSAGE["text"], label) for text, label, _ in ENTITIES],
    ("superglue:record", "validation"): [(text, PASSAGE["text"], label) for text, label, _ in ENTITIES],
    ("superglue:wsc", "train"): [(MARKED, "true")],
    ("superglue:wsc", "validation"): [(MARKED, "false")],
    ("superglue:axb", "test"): [("A.", "B.", "not_entailment")],
    ("superglue:axg", "test"): [("P.", "H.", "entailment")],
    ("glue:ax", "test"): [("P.", "H.", "neutral")],
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8", newline="")
    return folder


def rows_of(table, names):
    return list(zip(*(table.texts(name) for name in names), strict=True))


@pytest.mark.parametrize(("name", "part"), ROWS)
def test_the_rows_are_those_of_the_release(releases, name, part):
    table, benchmark = loading.read(name, part, releases), registry.find(name)[0]
    assert rows_of(table, benchmark.columns) == ROWS[name, part]
    assert table.names() == [*benchmark.columns, *benchmark.kept] and table.benchmark == name
    assert table.texts("__row__") == (list(range(1, len(table) + 1)) if benchmark.expand else table.texts("__row__"))


def test_every_benchmark_and_part_is_read_by_a_test():
    assert {name: entry.parts for name, entry in REASONING.items()} == {
        name: {part for other, part in ROWS if other == name} for name in REASONING
    }


def test_rows_of_the_library_are_made_alike(releases, monkeypatch):
    of_hub = {
        "multirc": [
            {"paragraph": "Tea.", "question": "What?", "answer": answer, "label": label,
             "idx": {"paragraph": 4, "question": 7, "answer": number}}
            for number, (answer, label) in enumerate([("a", 1), ("b", 0)])
        ],
        "record": [{"passage": PASSAGE["text"], "query": "@placeholder won", "entities": ["Ann", "Bob", "Ann"],
                    "answers": ["Ann"], "idx": {"passage": 0, "query": 9}}],
        "wsc.fixed": [{**{k: v for k, v in WSC.items() if k != "target"}, **WSC["target"]}],
    }  # fmt: skip
    library = types.ModuleType("datasets")
    library.load_dataset = lambda path, config, split: of_hub[config]
    monkeypatch.setitem(sys.modules, "datasets", library)
    for name in ("superglue:multirc", "superglue:record", "superglue:wsc"):
        found, expected = loading.read(name, "train", None), loading.read(name, "train", releases)
        assert {n: found.texts(n) for n in found.names()} == {n: expected.texts(n) for n in expected.names()}


def test_a_file_unlike_the_release_is_refused(tmp_path):
    (tmp_path / "MultiRC").mkdir()
    (tmp_path / "MultiRC" / "train.jsonl").write_text(objects({"idx": 0, "passage": {"text": "Tea."}}))
    with pytest.raises(DataError, match="row 1: is not as in the release"):
        loading.read("superglue:multirc", "train", tmp_path)


def test_a_diagnostic_has_no_training_rows(releases):
    with pytest.raises(DataError, match="has no train rows with labels. Those that have: test"):
        kft.check("superglue:axb", data_dir=str(releases))


def test_a_target_outside_its_text_has_no_text():
    assert superglue.marked("it fell", 4, "cup", 0, "it") is None


# -- metrics ---------------------------------------------------------------------------------------------------------

NAMES = ["false", "true"]


def scores(*likelihoods):
    return np.array([[1 - one, one] for one in likelihoods])


def test_a_question_is_right_where_every_answer_is():
    columns = {"question_id": ["0-0", "0-0", "0-1"], "label": ["true", "false", "true"]}
    assert superglue.whole_questions(columns, scores(0.9, 0.1, 0.2), NAMES) == {"question_exact_match": 0.5}
    assert superglue.whole_questions(columns, scores(0.9, 0.8, 0.7), NAMES) == {"question_exact_match": 0.5}


def test_the_likeliest_entity_is_the_answer_to_a_query():
    columns = {
        "question_id": ["0", "0", "1", "1"],
        "candidate": ["Ann Lee", "Bob", "the Tea", "Soup"],
        "gold": [["Ann"], ["Ann"], ["Tea", "Pot"], ["Tea", "Pot"]],
    }
    found = superglue.entities_found(columns, scores(0.2, 0.1, 0.9, 0.8), NAMES)
    assert found == {"question_exact_match": 0.5, "question_f1": pytest.approx((2 / 3 + 1) / 2)}


def test_parity_is_the_share_of_pairs_with_one_answer():
    columns = {"pair_id": [1, 1, 2, 2]}
    assert superglue.parity(columns, scores(0.9, 0.8, 0.9, 0.1), NAMES) == {"gender_parity": 0.5}


def test_official_metrics_are_of_the_rows_that_were_answered(releases):
    read = loading.read("superglue:multirc", "train", releases)
    answers, labels = {"scores": scores(0.9)}, {"labels": NAMES}
    assert official.metrics(read, read.take([0]), answers, labels) == {"question_exact_match": 1.0}
    assert official.metrics(read, read.take([1]), answers, labels) == {"question_exact_match": 0.0}


def test_a_fit_and_evaluate_have_them(quick, tmp_path):
    questions = [
        {"question": f"is the lamp {word}", "idx": i, "answers": [{"text": "good", "idx": 0, "label": i % 2},
                                                               {"text": "bad", "idx": 1, "label": 1 - i % 2}]}
        for i, word in enumerate(["late", "wrong", "lost", "good"])
    ]  # fmt: skip
    passages = [{"idx": n, "passage": {"text": f"the lamp {w}", "questions": questions}} for n, w in enumerate("abc")]
    (tmp_path / "MultiRC").mkdir()
    (tmp_path / "MultiRC" / "train.jsonl").write_text(objects(*passages[:2]))
    (tmp_path / "MultiRC" / "val.jsonl").write_text(objects(passages[2]))
    run = kft.fit("superglue:multirc", data_dir=str(tmp_path), max_steps=1, out=str(tmp_path / "run"), **quick)
    metrics = run.metrics["validation"]
    assert 0 <= metrics["question_exact_match"] <= 1 and "f1" in metrics
    again = run.evaluate("superglue:multirc", data_dir=tmp_path)
    assert again["question_exact_match"] == metrics["question_exact_match"]
    assert not any("not used: question_id" in note for note in run.manifest["notes"])
