"""Cleaned tables hold one type per column; doubtful rows are counted, broken ones refused."""

import math

import pytest

from kft.data.clean import clean
from kft.data.columns import Column
from kft.errors import DataError
from kft.readers.formats import read

WANTED = [Column("text", "text"), Column("label", "label")]
REGRESSION = [Column("text", "text"), Column("score", "number")]


def labelled(*labels):
    return {"text": [f"text {i}" for i in range(len(labels))], "label": list(labels)}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 0, -1], ["1", "0", "-1"]),
        ([1.0, 0.0], ["1", "0"]),
        ([1.0, 0.5], ["1", "0.5"]),
        (["1.0", "2"], ["1", "2"]),
        (["1.0", "v2.0"], ["1.0", "v2.0"]),
        ([True, False], ["true", "false"]),
        ([" a", "b\u3000"], ["a", "b"]),
        ([b"a", b"b"], ["a", "b"]),
        ([1, "b"], ["1", "b"]),
    ],
)
def test_labels_become_text(labels, expected):
    assert clean(read(labelled(*labels)), WANTED).texts("label") == expected


def test_texts_become_text():
    table = clean(read({"text": [1, 2.5, True, "x"], "label": ["a"] * 4}), WANTED)
    assert table.texts("text") == ["1", "2.5", "true", "x"]


def test_numbers_become_floats(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,score\na,+1.5\nb,-2e1\nc, .5\n")
    assert clean(read(path), REGRESSION).texts("score") == [1.5, -20.0, 0.5]
    assert clean(read({"text": ["a", "b"], "score": [1, 2]}), REGRESSION).texts("score") == [1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (labelled("a", None, ""), r"<dict>, row 2: the label is missing \(2 of 3 rows have none\)"),
        (labelled("a", "  "), r"row 2: the label is missing \(1 of 2"),
        (labelled(1.0, math.nan), r"row 2: the label is missing"),
        (labelled(["a"], ["b"]), r"column 'label' holds list"),
        ({"text": ["a", None], "label": ["x", "y"]}, r"row 2: the text is missing"),
        ({"text": [["a"], ["b"]], "label": ["x", "y"]}, r"column 'text' holds list"),
    ],
)
def test_broken_rows_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        clean(read(values), WANTED)


@pytest.mark.parametrize("value", ["high", "nan", "inf", "1,5", "1e999", math.nan, math.inf, True, "", None])
def test_what_is_no_finite_number_is_refused(value):
    first = {"text": "a", "score": "1" if isinstance(value, str) else 1}
    with pytest.raises(DataError, match=r"<list>, row 2: the score is"):
        clean(read([first, {"text": "b", "score": value}]), REGRESSION)


def test_good_rows_give_no_notes():
    assert clean(read(labelled("a", "b")), WANTED).notes == ()


def test_doubtful_texts_are_counted():
    table = clean(read({"text": ["a", " \u00a0\n", "", "x" * 20_001], "label": list("abca")}), WANTED)
    assert table.notes == (
        "<dict>, row 2: the text is empty or only white space (2 rows of 4 like this).",
        "<dict>, row 4: the text is over 20,000 characters long (1 row of 4 like this).",
    )


def test_repeated_and_contradicting_rows_are_counted():
    values = {"text": ["a", "b", "a", "b", "a", "c"], "label": ["x", "x", "x", "y", "x", "x"]}
    table = clean(read(values), WANTED)
    assert table.texts("text") == values["text"]
    assert table.notes == (
        "<dict>, row 3: repeats row 1 exactly (2 rows of 6 repeat another).",
        "<dict>, row 4: has the text of row 2 but another label (2 rows of 6 contradict another).",
    )


def test_pairs_of_texts_are_compared_as_pairs():
    wanted = [Column("first", "text"), Column("second", "text")]
    assert clean(read({"first": ["ab", "a"], "second": ["c", "bc"]}), wanted).notes == ()


def test_columns_that_are_absent_are_passed_over():
    assert clean(read([{"text": "a"}]), WANTED).names() == ["text"]
