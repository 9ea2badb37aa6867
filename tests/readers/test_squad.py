"""A file in SQuAD's form gives a row for each question; another object is refused with what it lacks."""

import json

import pytest

from kft.data.mapped import BLOCK_CHARACTERS
from kft.data.table import ROW
from kft.errors import DataError
from kft.readers.formats import read


def question(text, *answers, **more):
    answers = [{"text": answer, "answer_start": start} for answer, start in answers]
    return {"id": f"q-{text}", "question": text, "answers": answers, **more}


def article(title, context, *questions):
    return {"title": title, "paragraphs": [{"context": context, "qas": list(questions)}]}


ARTICLES = [
    article("Tea", "Tea is hot.", question("What?", ("Tea", 0), ("Tea is", 0)), question("How?", ("hot", 7))),
    article("Soup", "Soup boils.", question("Why?", is_impossible=True, plausible_answers=[])),
]
EXPECTED = {
    "id": ["q-What?", "q-How?", "q-Why?"],
    "title": ["Tea", "Tea", "Soup"],
    "context": ["Tea is hot.", "Tea is hot.", "Soup boils."],
    "question": ["What?", "How?", "Why?"],
    "answers": [
        [{"text": "Tea", "answer_start": 0}, {"text": "Tea is", "answer_start": 0}],
        [{"text": "hot", "answer_start": 7}],
        [],
    ],
    "is_impossible": [False, False, True],
}


def write(folder, content):
    path = folder / "rows.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def refusal(path):
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        {"version": "1.1", "data": ARTICLES},
        {"data": ARTICLES, "version": {"data": 1}},
        json.dumps({"data": ARTICLES}, indent=1),
    ],
)
def test_each_question_is_a_row(tmp_path, content):
    table = read(write(tmp_path, content))
    assert {name: table.texts(name) for name in table.names()} == EXPECTED
    assert table.texts(ROW) == [1, 2, 3]


def test_questions_without_answers_have_none(tmp_path):
    bare = [{"paragraphs": [{"context": "Tea.", "qas": [{"id": 5, "question": "What?"}]}]}]
    table = read(write(tmp_path, {"data": bare}))
    assert (table.texts("answers"), table.texts("id"), table.texts("title")) == ([None], ["5"], [None])


def test_long_contexts_are_streamed(tmp_path):
    context = "x" * (BLOCK_CHARACTERS // 2)
    long = article("Long", context, *[question(str(n)) for n in range(3)])
    table = read(write(tmp_path, {"data": [long]}))
    assert table.rows["context"].num_chunks == 2 and table.texts("question") == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"rows": []},
            "is one JSON object; expected an array of them, [{…}, {…}], one after another",
        ),
        ({"data": 3}, "or an object in SQuAD's form"),
        ({"data": []}, "has no questions under 'data'"),
        ({"data": [{"text": "a"}]}, "article 1: has no list 'paragraphs'; found {'text': 'a'}, expected the form of"),
        ({"data": [*ARTICLES, ["a"]]}, "article 3: has no list 'paragraphs'; found ['a']"),
        ({"data": [{"paragraphs": [{"context": 1, "qas": []}]}]}, "article 1: a paragraph: the context is 1"),
        ({"data": [{"paragraphs": [{"context": "a"}]}]}, "article 1: a paragraph: has no list 'qas'"),
        ({"data": [*ARTICLES, article("a", "b", {"id": 1})]}, "row 4 (article 3): the question is None"),
        ({"data": [article("a", "b", "c")]}, "row 1 (article 1): the question is None"),
        ({"data": [article("a", "b", {**question("c"), "answers": "d"})]}, "row 1 (article 1): has no list 'answers'"),
        ({"data": [article("a", "b", question("c", (None, 0)))]}, "row 1 (article 1): an answer: the text is None"),
        ({"data": [article("a", "b", question("c", ("b", "0")))]}, "an answer starts at '0'; expected a whole number"),
        ('{"version": "1.1", "data": [{"title": "a"', "row 1: is not valid JSON"),
        ('{"version": 1 "data": []}', "row 1: is not valid JSON; expected a comma or the closing }"),
        ('{"data" []}', "is not valid JSON; expected a key and a colon"),
        ('{"data": [1 2]}', "article 1: has no list"),
    ],
)
def test_another_form_is_refused_with_its_place(tmp_path, content, message):
    path = write(tmp_path, content)
    assert refusal(path).startswith(str(path)) and message in refusal(path)
