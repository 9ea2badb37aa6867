import pytest

from kft.data.classes import check_labels, label_names
from kft.data.clean import clean
from kft.data.columns import Column
from kft.errors import DataError
from kft.readers.formats import read

WANTED = [Column("text", "text"), Column("label", "label")]


def labelled(*labels):
    return {"text": [f"text {i}" for i in range(len(labels))], "label": list(labels)}


def test_label_names_have_a_stable_order():
    assert label_names(clean(read(labelled(10, 9, -1, 9)), WANTED)) == ["-1", "9", "10"]
    assert label_names(clean(read(labelled("é", "b", "B", "10")), WANTED)) == ["10", "B", "b", "é"]


def test_classes_that_cannot_be_learned_are_refused():
    one = clean(read(labelled("a", "a")), WANTED)
    with pytest.raises(DataError, match=r"all 2 rows have the label 'a'"):
        check_labels(one, {}, label_names(one))
    single = clean(read(labelled("a", "b", "a")), WANTED)
    check_labels(single, {}, label_names(single))


def test_unknown_labels_are_refused():
    train = clean(read(labelled("spam", "ham", "spam", "ham")), WANTED)
    good = clean(read(labelled("ham")), WANTED)
    bad = clean(read(labelled("ham", "spma")), WANTED)
    check_labels(train, {"validation": good}, label_names(train))
    with pytest.raises(DataError, match=r"row 2: label 'spma' of the test data .*'ham', 'spam'.*mean 'spam'"):
        check_labels(train, {"validation": good, "test": bad}, label_names(train))
