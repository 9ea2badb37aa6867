"""Benchmarks of words, answers and choices are read from the files of their releases, and through the library."""

import gzip
import json
import sys
import types

import pytest

from kft.data.clean import clean
from kft.data.columns import Column
from kft.datasets import loading, registry
from kft.datasets.structured import STRUCTURED
from kft.errors import DataError

HOT = {"text": "hot", "answer_start": 7}


def objects(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def squad(question, *answers, **more):
    found = {"id": "1", "question": question, "answers": list(answers), **more}
    paragraph = {"context": "Tea is hot.", "qas": [found]}
    return json.dumps({"version": "1", "data": [{"title": "Tea", "paragraphs": [paragraph]}]})


def treebank(word):
    return f"# text = {word} now\n1-2\tx" + "\t_" * 8 + f"\n1\t{word}\tgo\tVERB\tVB" + "\t_" * 5 + "\n\n"


FILES = {
    "COPA/train.jsonl": objects(
        {"premise": "Tea fell.", "choice1": "A", "choice2": "B", "question": "cause", "label": 0, "idx": 0}
    ),
    "COPA/val.jsonl": objects(
        {"premise": "It fell.", "choice1": "C", "choice2": "D", "question": "effect", "label": 1, "idx": 0}
    ),
    "train-v1.1.json": squad("What?", HOT),
    "dev-v1.1.json": squad("What is it?", HOT, HOT),
    "train-v2.0.json": squad("Is it?", is_impossible=True),
    "dev-v2.0.json": squad("How?", HOT, is_impossible=False),
    "eng.train": "-DOCSTART- -X- O O\n\nAnn NNP I-NP I-PER\nsings VBZ I-VP O\n",
    "eng.testa": "Rome NNP I-NP I-LOC\n",
    "eng.testb": "Tea NN I-NP O\n",
    "wnut17train.conll": "Ann\tB-person\nsings\tO\n\t\nTea\tO\n\t\n",
    "emerging.dev.conll": "Rome\tB-location\n",
    "emerging.test.annotated": "Tea\tO\n",
    "UD_English-EWT/en_ewt-ud-train.conllu": treebank("Go"),
    "UD_English-EWT/en_ewt-ud-dev.conllu": treebank("Run"),
    "UD_English-EWT/en_ewt-ud-test.conllu": treebank("Sit"),
    "UD_Old_East_Slavic-TOROT/orv_torot-ud-test.conllu": treebank("Иди"),
}
ROWS = {
    ("superglue:copa", "train"): [("Tea fell. What was the cause?", ["A", "B"], "0")],
    ("superglue:copa", "validation"): [("It fell. What happened as a result?", ["C", "D"], "1")],
    ("squad", "train"): [("What?", "Tea is hot.", [HOT])],
    ("squad", "validation"): [("What is it?", "Tea is hot.", [HOT, HOT])],
    ("squad_v2", "train"): [("Is it?", "Tea is hot.", [])],
    ("squad_v2", "validation"): [("How?", "Tea is hot.", [HOT])],
    ("conll2003", "train"): [(["Ann", "sings"], ["I-PER", "O"])],
    ("conll2003", "validation"): [(["Rome"], ["I-LOC"])],
    ("conll2003", "test"): [(["Tea"], ["O"])],
    ("wnut17", "train"): [(["Ann", "sings"], ["B-person", "O"]), (["Tea"], ["O"])],
    ("wnut17", "validation"): [(["Rome"], ["B-location"])],
    ("wnut17", "test"): [(["Tea"], ["O"])],
    ("ud:en_ewt", "train"): [(["Go"], ["VERB"])],
    ("ud:en_ewt", "validation"): [(["Run"], ["VERB"])],
    ("ud:en_ewt", "test"): [(["Sit"], ["VERB"])],
    ("ud:orv_torot", "test"): [(["Иди"], ["VERB"])],
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8", newline="")
    return folder


def rows_of(table):
    return list(zip(*(table.texts(name) for name in table.names()), strict=True))


def refusal(*arguments):
    with pytest.raises(DataError) as caught:
        loading.read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "part"), ROWS)
def test_the_rows_are_those_of_the_release(releases, name, part):
    table = loading.read(name, part, releases)
    assert rows_of(table) == ROWS[name, part]
    assert table.names() == list(registry.find(name)[0].columns) and table.notes == ()


def test_every_benchmark_and_part_is_read_by_a_test():
    read = [(registry.find(name)[0], part) for name, part in ROWS]
    for name, entry in STRUCTURED.items():
        assert {part for found, part in read if found is entry} == entry.parts, name


def test_a_treebank_is_found_in_its_folder_beside_it_and_zipped(releases, tmp_path):
    expected = ROWS["ud:en_ewt", "validation"]
    assert rows_of(loading.read("ud:en_ewt", "validation", releases / "UD_English-EWT")) == expected
    assert refusal("ud:de_gsd", "test", releases / "UD_English-EWT") == (
        f"{releases / 'UD_English-EWT'}: lacks UD_*/de_gsd-ud-test.conllu or UD_*/de_gsd-ud-test.conllu.gz, "
        "the test rows of ud:de_gsd. Expected, as its release has them: UD_*/de_gsd-ud-train.conllu, "
        "UD_*/de_gsd-ud-dev.conllu, UD_*/de_gsd-ud-test.conllu. Found there: en_ewt-ud-dev.conllu, "
        "en_ewt-ud-test.conllu, en_ewt-ud-train.conllu."
    )
    (tmp_path / "en_ewt-ud-dev.conllu.gz").write_bytes(gzip.compress(treebank("Run").encode()))
    assert rows_of(loading.read("ud:en_ewt", "validation", tmp_path)) == expected


def test_conll2003_is_read_under_both_names(tmp_path):
    for file, tag in (("train.txt", "B-PER"), ("valid.txt", "B-LOC"), ("test.txt", "O")):
        (tmp_path / file).write_text(f"-DOCSTART- -X- -X- O\n\nAnn NNP B-NP {tag}\n\n")
    for part, tag in (("train", "B-PER"), ("validation", "B-LOC"), ("test", "O")):
        assert rows_of(loading.read("conll2003", part, tmp_path)) == [(["Ann"], [tag])]
    (tmp_path / "valid.txt").unlink()
    assert "lacks eng.testa or valid.txt, the validation rows of conll2003" in refusal(
        "conll2003", "validation", tmp_path
    )


def test_a_row_of_copa_with_another_question_has_no_text(tmp_path):
    (tmp_path / "COPA").mkdir()
    row = {"premise": "Tea fell.", "choice1": "A", "choice2": "B", "question": "why", "label": 0}
    (tmp_path / "COPA/train.jsonl").write_text(objects(row, {**row, "question": "cause", "choice2": None}))
    assert rows_of(loading.read("superglue:copa", "train", tmp_path)) == [
        (None, ["A", "B"], "0"),
        ("Tea fell. What was the cause?", None, "0"),
    ]
    (tmp_path / "COPA/train.jsonl").write_text(objects({**row, "label": 2}))
    assert "row 1: the label is '2', expected '0' or '1'" in refusal("superglue:copa", "train", tmp_path)


@pytest.mark.parametrize(
    ("name", "path", "content", "message"),
    [
        (
            "superglue:copa",
            "COPA/train.jsonl",
            '{"premise": "a"}',
            "has no column 'question'. Columns found: 'premise'.",
        ),
        ("squad", "train-v1.1.json", '{"data": []}', "has no questions under 'data'"),
        ("wnut17", "wnut17train.conll", "a\tO\nb\n", "row 2: found 1 column, expected 2 with tabs"),
        ("ud:en_ewt", "en_ewt-ud-train.conllu", "a\tO\n", "row 1: found 2 columns, expected the 10 of CoNLL-U"),
    ],
)
def test_a_file_unlike_the_release_is_refused(tmp_path, name, path, content, message):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(content)
    found = refusal(name, "train", tmp_path)
    assert found.startswith(str(tmp_path / path)) and message in found


def test_lists_of_the_library_are_read_alike(monkeypatch):
    answers = [{"text": ["hot"], "answer_start": [7]}, {"text": [], "answer_start": []}]
    rows = [{"id": "1", "title": "t", "context": "Tea is hot.", "question": "How?", "answers": a} for a in answers]
    library = types.ModuleType("datasets")
    library.load_dataset = lambda *_, **__: rows
    monkeypatch.setitem(sys.modules, "datasets", library)
    found = loading.read("squad_v2", "validation", None)
    assert [row[2] for row in rows_of(found)] == answers
    cleaned = clean(found, [Column("question", "text"), Column("context", "text"), Column("answers", "answers")])
    assert cleaned.texts("answers") == [[{"text": "hot", "start": 7}], []]


def test_tags_of_the_library_have_names(monkeypatch):
    import datasets

    def load_dataset(path, config, split):
        asked.append((path, config, split))
        names = datasets.List(datasets.ClassLabel(names=["O", "B-PER"]))
        features = {"tokens": datasets.List(datasets.Value("string")), "ner_tags": names, "upos": names}
        rows = {"tokens": [["Ann", "sings"]], "ner_tags": [[1, 0]], "upos": [[0, 1]]}
        return datasets.Dataset.from_dict(rows, features=datasets.Features(features))

    asked = []
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert rows_of(loading.read("wnut17", "test", None)) == [(["Ann", "sings"], ["B-PER", "O"])]
    assert rows_of(loading.read("ud:de_gsd", "train", None)) == [(["Ann", "sings"], ["O", "B-PER"])]
    assert asked == [
        ("leondz/wnut_17", None, "test"),
        ("universal-dependencies/universal_dependencies", "de_gsd", "train"),
    ]
