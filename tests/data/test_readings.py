"""What is inferred from the training rows holds for every other part, and labels have one spelling."""

import numpy as np
import pytest

from kft.data.classes import check_repeated, rare_classes, single_row_notes, without_rare
from kft.data.clean import clean
from kft.data.columns import Column
from kft.data.faults import usable
from kft.errors import DataError
from kft.readers.formats import read

ONE = [Column("text", "text"), Column("label", "label")]
SETS = [Column("text", "text"), Column("label", "labels")]


def rows(*labels):
    return read([{"text": f"text {i}", "label": label} for i, label in enumerate(labels)])


@pytest.mark.parametrize(
    ("train", "other", "expected"),
    [
        (["1.0", "2.0", "unknown"], ["1.0", "2.0"], ["1.0", "2.0"]),
        (["1", "2"], ["1.0", "v2.0"], ["1", "v2.0"]),
        ([1.0, 2.0], ["2.0", "1"], ["2", "1"]),
        (["True", "False"], [True, False], ["true", "false"]),
        ([True, False], ["TRUE", "False"], ["true", "false"]),
        (["True", "False", "maybe"], [True, "maybe"], ["true", "maybe"]),
    ],
)
def test_labels_are_read_as_those_of_train(train, other, expected):
    readings = clean(rows(*train), ONE).readings
    assert clean(rows(*other), ONE, readings).texts("label") == expected


@pytest.mark.parametrize(
    ("train", "other", "expected"),
    [
        (["a;b", "c"], ["a|x;b", "d,e"], [["a|x", "b"], ["d,e"]]),
        (["a", "b"], ["a;b"], [["a;b"]]),
        (["a, b", "c"], ["c,a"], [["a", "c"]]),
        ([["a"], ["b"]], ["a;b"], [["a", "b"]]),
        (["['a', 'b']", "[]"], [["b"]], [["b"]]),
        (["a;b"], ['["b"]', "['a', None]"], [["b"], ["a"]]),
        ([[1, 2], [3]], ["1.0;2"], [["1", "2"]]),
        ([[1.0, 2.0], [3.0]], [[2]], [["2"]]),
        ([["True"], ["b"]], [["true"]], [["true"]]),
    ],
)
def test_sets_of_labels_are_read_as_those_of_train(train, other, expected):
    readings = clean(rows(*train), SETS).readings
    assert clean(rows(*other), SETS, readings).texts("label") == expected


@pytest.mark.parametrize("cells", [[[1, 0, 0], [0, 1, 0]], ["[1, 0]", "[0, 1]"], ["0,1", "1,0"], [[True, False]] * 2])
def test_vectors_of_zeros_and_ones_are_refused(cells):
    with pytest.raises(DataError, match=r"row 1: the label is a vector of . numbers 0 and 1.*Write them in its place"):
        clean(rows(*cells), SETS)


def test_sets_that_only_look_like_vectors_are_taken():
    assert clean(rows([0, 1], [2], [0]), SETS).texts("label") == [["0", "1"], ["2"], ["0"]]


def test_a_cell_that_is_no_list_among_lists_is_refused():
    with pytest.raises(DataError, match=r"row 2: the label 'late' is no list, as others are"):
        clean(rows("['a', 'b']", "late"), SETS)


def test_spellings_that_become_one_label_are_noted():
    notes = clean(rows("1", "1.0", "2"), ONE).notes
    assert "3 spellings of the label are read as 2 labels: '1.0'" in notes[0]
    assert clean(rows("1.0", "2.0"), ONE).notes == clean(rows("True", "False"), ONE).notes == ()


@pytest.mark.parametrize(
    "pair", [("caf\u00e9", "cafe\u0301"), ("Late", "late"), ("a b", "a  b"), ("\uff21\uff11", "A1")]
)
def test_labels_nearly_alike_stay_apart_and_are_noted(pair):
    table = clean(rows(*pair, "other"), ONE)
    assert set(pair) <= set(table.texts("label"))
    assert len(table.notes) == 1 and "differ only in case, white space or Unicode form" in table.notes[0]
    assert "U+0301" in table.notes[0] or "\u0301" not in "".join(pair)
    assert len(clean(rows([pair[0]], [pair[1]]), SETS).notes) == 1


def test_rows_that_cannot_be_used_are_dropped_and_counted():
    table = rows("a", None, "b", "", "a")
    found = usable(table, lambda part: clean(part, ONE), "drop")
    assert found.texts("label") == ["a", "b", "a"] and found.texts("__row__") == [1, 3, 5]
    assert found.notes == (
        "<list>: 2 of 5 rows are dropped: <list>, row 2: the label is missing (2 of 5 rows have none)",
    )
    with pytest.raises(DataError, match=r"row 2: the label is missing \(2 of 5 rows have none\); .* rows\. Then this"):
        usable(table, lambda part: clean(part, ONE), "refuse", " Then this")
    with pytest.raises(DataError, match="No row is left after such rows are dropped"):
        usable(rows(None, None), lambda part: clean(part, ONE), "drop")


def test_each_check_drops_its_own_rows():
    wanted = [Column("text", "text"), Column("words", "words"), Column("score", "number")]
    good = {"text": "a", "words": ["b"], "score": "1"}
    bad = [{**good, "words": None}, {**good, "text": None}, {**good, "score": "high"}, {**good, "score": "inf"}]
    table = usable(read([good, *bad, good]), lambda part: clean(part, wanted), "drop")
    assert table.texts("__row__") == [1, 6]
    assert [note.split(" dropped")[0] for note in table.notes if "dropped" in note] == [
        "<list>: 1 of 6 rows are",
        "<list>: 1 of 6 rows are",
        "<list>: 2 of 6 rows are",
    ]


def test_rare_classes_are_named_and_counted():
    table = clean(rows(*"aaabbc", *"defghijklmn"), ONE)
    assert rare_classes(table, 3) == {"b": 2, **dict.fromkeys("cdefghijklmn", 1)}
    (note,) = single_row_notes(table)
    assert "12 classes with a single training row" in note and "'c', 'd'" in note and "and 2 more" in note
    kept = without_rare(table, rare_classes(table, 3), 3)
    assert set(kept.texts("label")) == {"a"}
    assert "14 rows of 17 dropped (min_class_rows=3), of 13 classes with fewer training rows: 'b' (2)" in kept.notes[-1]
    assert single_row_notes(kept) == [] and without_rare(kept, {}, 1) is kept


def test_labels_that_are_no_classes_are_refused_with_what_they_may_be():
    unique = clean(rows(*(f"a long summary of {i}" for i in range(9))), ONE)
    with pytest.raises(DataError, match=r"9 of 9 rows have a label in column 'target'.*task=generate.*--label COLUMN"):
        check_repeated(unique, "target", is_guess=False)
    most = clean(rows(*"aabcdefg"), ONE)
    check_repeated(most, "label", is_guess=False)
    with pytest.raises(DataError, match="6 of 8 rows have a label"):
        check_repeated(most, "label", is_guess=True)
    check_repeated(clean(rows(*"aaaab"), ONE), "label", is_guess=True)


def test_numbers_past_two_to_the_53_stay_labels():
    labels = [2**60, 2**60 + 1]
    assert clean(rows(*labels), ONE).texts("label") == [str(label) for label in labels]
    assert len(np.unique(clean(rows(*labels), ONE).texts("label"))) == 2
