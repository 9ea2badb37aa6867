"""Splits share no text, keep their sizes, and come out the same everywhere."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data.clean import clean
from kft.data.columns import Column, canonical
from kft.data.hashes import normalised
from kft.data.split import split
from kft.data.table import GROUP, ROW
from kft.errors import DataError, RecipeError
from kft.readers.formats import read

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


def pairs(*rows):
    columns = ("text", "text_pair", "label")
    wanted = [Column("text", "text"), Column("text_pair", "text"), Column("label", "label")]
    return clean(read([dict(zip(columns, row, strict=True)) for row in rows]), wanted)


PREMISES = pairs(*((f"premise {i // 3}", f"claim {i}", "abc"[i % 3]) for i in range(90)))


def pairs_split(train, validation=0.2, test=0.2, *, text_columns=("text", "text_pair"), **options):
    label = {"label_column": "label", "stratify": True, "seed": 0}
    return split(train, validation, test, text_columns=text_columns, **label, **options)


def test_rows_that_share_a_text_of_a_column_stay_on_one_side():
    parts = pairs_split(PREMISES, together=["text"])
    sides = [{*part.texts("text")} for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 30
    assert (len(parts.validation), len(parts.test)) == (18, 18)
    assert parts.notes == (
        "<list>: 90 of 90 rows share their text with another; such rows stay on one side of the split.",
    )
    apart = pairs_split(PREMISES)
    assert {*apart.test.texts("text")} & {*apart.train.texts("text")}


def test_rows_are_kept_together_through_others():
    train = pairs(("a", "x", "l"), ("a", "y", "l"), ("b", "y", "l"), *((str(i), str(i), "l") for i in range(40)))
    parts = pairs_split(train, 0.3, 0.3, together=["text", "text_pair"])
    sides = [part.texts(ROW) for part in (parts.train, parts.validation, parts.test)]
    assert sum(bool({1, 2, 3} & {*side}) for side in sides) == 1


def test_the_order_of_rows_does_not_matter_to_groups():
    turned = PREMISES.take(range(89, -1, -1))
    first, second = (pairs_split(table, together=["text"]) for table in (PREMISES, turned))
    assert rows(first.test) == sorted(rows(second.test))


def test_one_giant_group_is_split_all_the_same_and_that_is_said():
    train = pairs(*(("Is this spam?", f"message {i}", "ab"[i % 2]) for i in range(40)))
    parts = pairs_split(train, together=["text"], noted=["text_pair"])
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (24, 8, 8)
    notes = "\n".join(parts.notes)
    assert "rows that share their text cannot stay on one side of the split, since 40 of 40 rows" in notes
    assert (
        "test: 8 of 8 rows have a text that train has too. Name a column to split by, if there is one: split_by"
        in notes
    )


def by_author(values, start=0):
    raw = [{"text": f"text {start + i}", "label": "ab"[i % 2], "author": value} for i, value in enumerate(values)]
    return clean(canonical(read(raw), {"text": "text", "label": "label"}, "author"), WANTED)


AUTHORS = by_author([*(f"author {i // 4}" for i in range(40)), None, None])


def test_rows_are_kept_together_by_a_column_of_the_users():
    parts = parts_of(AUTHORS, 0.2, split_by="author")
    sides = [{*part.texts(GROUP)} - {None} for part in (parts.train, parts.validation)]
    assert not sides[0] & sides[1] and len(parts.validation) in (6, 7, 8)
    assert "40 of 42 rows share their author with another" in parts.notes[0]


def test_groups_of_training_rows_in_a_given_table_are_refused_or_noted():
    other = by_author(["author 50", "author 3", None], start=100)
    with pytest.raises(DataError, match=r"<list>, row 2: has the author of <list>, row 13; 1 of 3 rows"):
        parts_of(AUTHORS, 0, other, split_by="author")
    assert "1 of 3 rows" in parts_of(AUTHORS, other, split_by="author").notes[0]
    assert parts_of(AUTHORS, 0, other, split_by="author", allow_leaks=True).test is other


def test_a_group_that_leaves_nothing_to_split_is_refused():
    with pytest.raises(DataError, match="largest group of rows with one author has 20"):
        parts_of(by_author(["one"] * 20), 0.2, split_by="author")


def test_of_classes_of_three_rows_training_keeps_one_and_all_classes_give_alike():
    train = table([f"text {i}" for i in range(180)], [f"class {i % 60}" for i in range(180)])
    parts = parts_of(train, 0.2, 0.2)
    counts = Counter(parts.train.texts("label"))
    assert len(counts) == 60 and (len(parts.validation), len(parts.test)) == (36, 36)
    assert sum(count == 1 for count in counts.values()) == 12
    pairs_of_rows = table([f"text {i}" for i in range(40)], [f"class {i % 20}" for i in range(40)])
    assert len({*parts_of(pairs_of_rows, 0.1).train.texts("label")}) == 20


def test_classes_of_single_rows_are_said_to_stop_a_split():
    train = table([f"text {i}" for i in range(12)], [*"abcdefghij", "k", "k"])
    with pytest.raises(DataError, match=r"gives 1; expected at least 2. 10 classes have a single row, which stays"):
        parts_of(train, 0.2)
