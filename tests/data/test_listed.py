"""Cells that hold lists as text are read as lists, whoever wrote them; what is cut or damaged is refused."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data import clean, listed
from kft.data.columns import Column
from kft.errors import DataError
from kft.readers.formats import read

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


def cells(kind, *values, beside=None):
    """A column of text cells, made clean as one of this kind."""
    table = read({"cell": list(values), **(beside or {})})
    return clean.clean(table, [Column("cell", kind)]).texts("cell")


def refusal(kind, *values):
    with pytest.raises(DataError) as caught:
        cells(kind, *values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings.get_profile("fuzz")
@given(st.lists(VALUES) | st.dictionaries(st.text(), VALUES))
def test_what_json_and_python_write_is_read_back(value):
    assert listed.parse(json.dumps(value)) == value
    assert listed.parse(repr(value)) == value


@settings.get_profile("fuzz")
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=2))
def test_what_numpy_writes_is_read_back(words):
    array = np.array(words, object)
    assert listed.parse(str(array)) == listed.parse(repr(array)[5:].join(["{'a': array", "}"]))["a"] == words


@settings.get_profile("fuzz")
@given(st.text("[](){}',\"\\ .:a1-n=array(\n") | st.text())
def test_any_text_is_a_list_or_a_value_error(text):
    try:
        listed.parse(text)
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[np.str_('a'), np.str_('b')]", ["a", "b"]),
        ("[np.int64(3), np.float64(0.5), np.True_]", [3, 0.5, True]),
        ("array(['a', 'b'], dtype='<U1')", None),
        ("[array(['a'], dtype=object), list(['b'])]", [["a"], ["b"]]),
        ("[0 1 2]", [0, 1, 2]),
        ("[ 1. -2.5]", [1.0, -2.5]),
        ("[['a' 'b']\n ['c' 'd']]", [["a", "b"], ["c", "d"]]),
        ("('a',)", ["a"]),
        (r"['it\'s' 'a\nb']", ["it's", "a\nb"]),
    ],
)
def test_spellings_of_arrays_and_tuples(text, value):
    if value is None:
        with pytest.raises(ValueError, match="begins with no bracket"):
            listed.parse(text)
    else:
        assert listed.parse(text) == value


def test_a_missing_number_is_not_a_number():
    assert math.isnan(listed.parse("[nan, 1]")[0]) and listed.parse("[None, 1]") == [None, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("['a' 'b' ... 'c']", "cut at '...'"),
        ("['a', 'b' 'c']", "a comma or ] was expected"),
        ("['a''b']", "a comma or ] was expected"),
        ("['a', b]", "found 'b' where"),
        ("['a'", "found the end where"),
        ("['a'] x", "'x' follows its end"),
        ("('a')", "make no list"),
        ("{1: 2}", "keys of a dict"),
        ("[__import__('os')]", "no list goes on with \"__import__('os')]\""),
        ("[" * 60 + "'a'" + "]" * 60, "deep"),
        (r"['\x4']", "has an escape"),
        ("[" + "9" * 5000 + "]", "found '99999"),
    ],
)
def test_damaged_lists_are_refused(text, message):
    with pytest.raises(ValueError) as caught:
        listed.parse(text)
    assert message in str(caught.value)


# -- in the columns of tasks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [json.dumps, repr, lambda words: str(np.array(words, object)), lambda w: repr((*w,))])
def test_words_and_tags_are_lists_in_any_spelling(write):
    words, tags = [["Ann", "said,", "it's"], ["Rome", "[", "ok"]], [["B-PER", "O", "O"], ["B-LOC", "O", "O"]]
    assert cells("words", *map(write, words)) == words
    assert cells("tags", *map(write, tags)) == tags
    assert cells("choices", *map(write, words)) == words


def test_tags_may_be_numbers():
    assert cells("tags", "[0 3]", "[1, 2]") == [["0", "3"], ["1", "2"]]


def test_plain_words_may_be_brackets():
    assert cells("words", "[ edit ]", "[ 1 ]", "( a )", "[]") == [["[", "edit", "]"], ["[", "1", "]"], ["(", "a", ")"],
                                                                  ["[]"]]  # fmt: skip


def test_a_column_of_lists_has_a_list_in_each_cell():
    assert "row 2: column 'cell': 'Ann lives' is not read as a list, as other rows are" in refusal(
        "words", "['Ann']", "Ann lives"
    )
    assert "row 2: column 'cell': \"['a' 'b' ... 'c']\" is not read as a list" in refusal(
        "tags", "['a']", "['a' 'b' ... 'c']"
    )
    assert "row 1: column 'cell': '[Ann, lives]' is not read as a list" in refusal("words", "[Ann, lives]", "[in, it]")


def test_answers_spans_and_messages_are_read_in_python_s_spelling():
    squad = "{'text': array(['tea', 'soup'], dtype=object), 'answer_start': array([4, 9], dtype=int32)}"
    assert cells("answers", squad, "('tea', 'a soup')", "(about 1990)") == [
        [{"text": "tea", "start": 4}, {"text": "soup", "start": 9}],
        [{"text": "tea", "start": -1}, {"text": "a soup", "start": -1}],
        [{"text": "(about 1990)", "start": -1}],
    ]
    assert cells("spans", "[(0, 3, 'MEAL')]") == [[{"start": 0, "end": 3, "label": "MEAL"}]]
    assert cells("messages", "[{'role': 'user', 'content': \"it's\"}]") == [[{"role": "user", "content": "it's"}]]
    event = "[{'type': 'buy', 'trigger': {'start': 0, 'end': 3}, 'arguments': []}]"
    assert cells("events", event) == [[{"type": "buy", "start": 0, "end": 3, "arguments": []}]]
