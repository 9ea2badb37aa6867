"""Splits share no text, keep their sizes, and come out the same everywhere."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data.clean import clean
from kft.data.columns import Column
from kft.data.formats import read
from kft.data.hashes import normalised
from kft.data.split import split
from kft.data.table import ROW
from kft.errors import DataError, RecipeError

WANTED = [Column("text", "text"), Column("label", "label")]


def table(texts, labels=None):
    return clean(read({"text": list(texts), "label": list(labels or "ab" * (len(texts) // 2))}), WANTED)


def parts_of(train, validation=0.0, test=0.0, *, stratify=True, seed=0, label_column="label", **options):
    return split(
        train,
        validation,
        test,
        text_columns=["text"],
        label_column=label_column,
        stratify=stratify,
        seed=seed,
        **options,
    )


def rows(part):
    return [] if part is None else part.texts(ROW)


MANY = table([f"text {i}" for i in range(100)], "aaab" * 25)


@given(
    texts=st.lists(st.sampled_from(["a", "A ", "b", "c c", "C  c", *map(str, range(40))]), min_size=20, max_size=60),
    labels=st.randoms(use_true_random=False),
    validation=st.sampled_from([0.0, 0.2, 0.3]),
    test=st.sampled_from([0.0, 0.15, 0.4]),
    stratify=st.booleans(),
    seed=st.integers(-(2**70), 2**70),
)
@settings(max_examples=60, deadline=None)
def test_splits_are_disjoint_complete_and_repeatable(texts, labels, validation, test, stratify, seed):
    train = table(texts, [labels.choice("abc") for _ in texts])
    try:
        parts = parts_of(train, validation, test, stratify=stratify, seed=seed)
    except DataError as error:
        assert "expected at least 2" in str(error)
        return
    sides = [parts.train, parts.validation, parts.test]
    assert sorted(row for side in sides for row in rows(side)) == rows(train)
    assert all(rows(side) == sorted(rows(side)) for side in sides)
    seen = [{normalised(text) for text in side.texts("text")} for side in sides if side is not None]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert set(parts.train.texts("label")) == set(train.texts("label"))
    for fraction, side in ((validation, parts.validation), (test, parts.test)):
        assert (side is None) == (fraction == 0)
        assert side is None or 2 <= len(side) <= len(train) * fraction + 0.5
    again = parts_of(train, validation, test, stratify=stratify, seed=seed)
    assert [rows(side) for side in (again.train, again.validation, again.test)] == [rows(side) for side in sides]


def test_sizes_are_exact_where_texts_differ():
    parts = parts_of(MANY, 0.12, 0.2)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (68, 12, 20)
    assert Counter(parts.test.texts("label")) == {"a": 15, "b": 5}
    assert Counter(parts.validation.texts("label")) == {"a": 9, "b": 3}
    assert parts.notes == ()


def test_a_split_is_the_same_on_every_machine():
    assert rows(parts_of(MANY, 0.05, seed=7).validation) == [3, 31, 43, 60, 73]


def test_seeds_differ():
    assert rows(parts_of(MANY, 0.2, seed=1).validation) != rows(parts_of(MANY, 0.2, seed=2).validation)


def test_the_order_of_rows_does_not_matter():
    turned = MANY.take(range(99, -1, -1))
    assert sorted(rows(parts_of(turned, 0.2).validation)) == rows(parts_of(MANY, 0.2).validation)


def test_labels_are_not_needed():
    parts = parts_of(MANY, 0.1, stratify=False, label_column=None)
    assert len(parts.validation) == 10


def test_large_groups_and_last_rows_of_a_class_stay_in_training():
    train = table(["same"] * 30 + [f"text {i}" for i in range(10)], ["a"] * 39 + ["b"])
    parts = parts_of(train, 0.5)
    assert parts.train.texts("text")[:30] == ["same"] * 30
    assert "b" in parts.train.texts("label")
    assert f"validation has {len(parts.validation)} rows, not the 20 asked for" in parts.notes[0]


def test_no_split_gives_the_same_table():
    parts = parts_of(MANY, 0, None)
    assert parts.train is MANY
    assert parts.validation is parts.test is None


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((1.0, 0), "validation=1.0"),
        ((0, -0.1), "test=-0.1"),
        ((0.5, 0.5), "leave no training rows"),
        ((True, 0), "True"),
    ],
)
def test_wrong_fractions_are_refused(fractions, message):
    with pytest.raises(RecipeError, match=message):
        parts_of(MANY, *fractions)


def test_stratifying_without_labels_is_refused():
    with pytest.raises(RecipeError, match="needs a label column"):
        parts_of(MANY, 0.1, label_column=None)


def test_parts_that_are_too_small_are_refused():
    with pytest.raises(DataError, match=r"validation=0.01 of 100 rows gives 1; expected at least 2"):
        parts_of(MANY, 0.01)


def test_training_texts_in_a_given_test_table_are_refused():
    test = table(["new", "TEXT  3", "text 5"], "aba")
    with pytest.raises(DataError) as caught:
        parts_of(MANY, 0.1, test)
    message = str(caught.value)
    assert "<dict>, row 2: has the text of <dict>, row 4; 2 of 3 rows" in message
    assert "allow_leaks=True (--allow-leaks)" in message
    parts = parts_of(MANY, 0.1, test, allow_leaks=True)
    assert parts.test is test
    assert "2 of 3 rows" in parts.notes[0]


def test_training_texts_in_a_given_validation_table_are_noted():
    validation = table(["text 1", "new"], "ab")
    parts = parts_of(MANY, validation, 0.1)
    assert parts.validation is validation
    assert "row 1: has the text of <dict>, row 2; 1 of 2 rows" in parts.notes[0]
    assert parts_of(MANY, table(["x", "y"], "ab")).notes == ()
