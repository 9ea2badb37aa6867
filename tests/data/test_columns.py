"""Columns are found by the names given or guessed, or the refusal lists what there is."""

import pytest

from kft.data.columns import Column, canonical, choose
from kft.data.table import ROW
from kft.errors import DataError
from kft.readers.formats import read

WANTED = [
    Column("text", "text", guesses=("text", "sentence")),
    Column("text_pair", "text", required=False, guesses=("sentence2",)),
    Column("label", "label", guesses=("label", "class")),
]
TABLE = read([{"id": 7, "Sentence": "a", "sentence2": "b", "Class": "x"}])


def test_guesses_ignore_case_and_given_names_win():
    assert choose(TABLE, WANTED, {}) == {"text": "Sentence", "text_pair": "sentence2", "label": "Class"}
    assert choose(TABLE, WANTED, {"text": "sentence2", "label": None}) == {
        "text": "sentence2",
        "label": "Class",
    }


def test_earlier_guesses_win():
    table = read([{"sentence": "a", "text": "b", "label": "x"}])
    assert choose(table, WANTED, {})["text"] == "text"


def test_targets_may_be_absent_for_prediction():
    table = read([{"text": "a"}])
    assert choose(table, WANTED, {}, label_required=False) == {"text": "text"}
    with pytest.raises(DataError, match="which column is the label"):
        choose(table, WANTED, {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"text": "Sentense"},
            r"no column 'Sentense', given as text. Did you mean 'Sentence'\? Columns found: 'id'",
        ),
        ({"text": "id", "label": "id"}, "column 'id' is given as both text and label"),
    ],
)
def test_wrong_names_are_refused(given, message):
    with pytest.raises(DataError, match=message):
        choose(TABLE, WANTED, given)


def test_a_missing_column_is_refused_with_what_to_write():
    wanted = [Column("first_text", "text", guesses=("a", "b"))]
    with pytest.raises(DataError) as caught:
        choose(read([{"x" * 60: 1, "y": 2}]), wanted, {})
    message = str(caught.value)
    assert "looked for a, b" in message
    assert f"Columns found: '{'x' * 39}…', 'y'." in message
    assert '--first-text COLUMN, or first_text="COLUMN"' in message


def test_canonical_renames_and_drops():
    table = canonical(TABLE, choose(TABLE, WANTED, {}))
    assert table.names() == ["text", "text_pair", "label"]
    assert table.texts("label") == ["x"]
    assert table.texts(ROW) == [1]
    assert table.source == "<list>"


def test_inputs_are_needed_for_prediction_and_targets_are_not():
    wanted = [Column("words", "words", guesses=("tokens",)), Column("tags", "tags", guesses=("tags",))]
    assert choose(read({"tokens": [["a"]]}), wanted, {}, label_required=False) == {"words": "tokens"}
    with pytest.raises(DataError, match="cannot tell which column is the words"):
        choose(read({"tags": [["O"]]}), wanted, {}, label_required=False)
    with pytest.raises(DataError, match="cannot tell which column is the tags"):
        choose(read({"tokens": [["a"]]}), wanted, {})
    kinds = ("text", "words", "choices", "label", "labels", "number", "tags", "spans", "answers")
    assert [kind for kind in kinds if Column("x", kind).is_input] == ["text", "words", "choices"]
