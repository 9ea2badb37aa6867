"""Rows already in memory are read alike whatever holds them."""

import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kft.data.table import ROW
from kft.errors import DataError
from kft.readers.formats import read

COLUMNS = {"text": ["plain", 'says "hi"', "two\nlines", "日本語 ünï 🎈"], "label": ["a", "b", "a", "b"]}
ROWS = [{"text": text, "label": label} for text, label in zip(*COLUMNS.values(), strict=True)]


def columns(table):
    return {name: table.texts(name) for name in table.names()}


def refusal(source):
    with pytest.raises(DataError) as caught:
        read(source)
    return str(caught.value)


def test_objects_in_memory_give_the_same_rows(tmp_path):
    import pandas as pd

    arrow = pa.table(COLUMNS)
    pq.write_table(arrow, tmp_path / "rows.parquet")
    dictionary = pa.table({"text": COLUMNS["text"], "label": pa.array(COLUMNS["label"]).dictionary_encode()})
    sources = [ROWS, COLUMNS, iter(ROWS), pd.DataFrame(COLUMNS), arrow, arrow.to_batches()[0], dictionary]
    sources.append(tmp_path / "rows.parquet")
    sources.append({name: [value.encode() for value in values] for name, values in COLUMNS.items()})
    tables = [read(source) for source in sources]
    assert all(columns(table) == COLUMNS for table in tables)
    assert all(table.texts(ROW) == [1, 2, 3, 4] for table in tables)
    assert len({table.fingerprint() for table in tables}) == 1


def test_tf_data_gives_the_same_rows():
    import tensorflow as tf

    pairs = tf.data.Dataset.from_tensor_slices((COLUMNS["text"], COLUMNS["label"]))
    dicts = tf.data.Dataset.from_tensor_slices(COLUMNS)
    features = tf.data.Dataset.from_tensor_slices(({"text": COLUMNS["text"]}, COLUMNS["label"]))
    for dataset in (pairs, pairs.batch(3), dicts, dicts.batch(3), features, features.batch(3)):
        assert columns(read(dataset)) == COLUMNS
    assert "repeats without end" in refusal(pairs.repeat())
    assert "shapes" in refusal(pairs.batch(2).batch(2))
    assert "pairs" in refusal(tf.data.Dataset.from_tensor_slices(COLUMNS["text"]))
    assert "row 1" in refusal(tf.data.Dataset.from_tensors({"text": b"\xff"}))


def test_hugging_face_datasets_give_the_same_rows():
    import datasets

    names = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    dataset = datasets.Dataset.from_dict({"text": COLUMNS["text"], "label": [0, 1, 0, 1]}, features=names)
    assert columns(read(dataset)) == columns(read(dataset.to_iterable_dataset())) == COLUMNS
    assert "pass one split" in refusal(datasets.DatasetDict(train=dataset))


def test_class_names_stand_in_lists_too():
    import datasets

    names = datasets.ClassLabel(names=["O", "B-PER"])
    features = datasets.Features({"words": datasets.List(datasets.Value("string")), "tags": datasets.List(names)})
    tags = [[0, 1], [], None, [-1]]
    dataset = datasets.Dataset.from_dict({"words": [["a", "b"], [], None, ["c"]], "tags": tags}, features=features)
    for source in (dataset, dataset.to_iterable_dataset()):
        assert read(source).texts("tags") == [["O", "B-PER"], [], None, [None]]
        assert read(source).texts("words") == [["a", "b"], [], None, ["c"]]


def test_mixed_scalars_become_text_and_lists_stay_lists():
    table = read([{"x": 1, "y": [1, 2]}, {"x": "a", "y": []}, {"x": True}, {"x": None}, {"x": 2**70}])
    assert table.texts("x") == ["1", "a", "true", None, str(2**70)]
    assert table.texts("y") == [[1, 2], [], None, None, None]
    assert "column 'x' holds a value of type list" in refusal([{"x": 1}, {"x": [1]}])


OBJECTS = [
    (3, "train data is of type int; expected a path, a list of dicts"),
    (b"text", "is of type bytes"),
    (["a", "b"], "row 1: is of type str; expected a dict"),
    ([], "is empty"),
    ({}, "is empty"),
    ({"text": []}, "has columns but no rows"),
    ({"text": "a"}, "column 'text' is of type str; expected a list"),
    ({"text": ["a"], "label": []}, "text: 1, label: 0"),
    ([{"text": "a"}, {"text": "a\ud800"}], "row 2: column 'text' holds a lone surrogate"),
    ([{"text": b"\xff"}], "row 1: column 'text' holds bytes that are not UTF-8"),
    (pa.table([["a"], ["b"]], names=["x", "x"]), "columns 1 and 2 are both named 'x'"),
    ([{"": "a"}], "no column has a name"),
    ([{"text\udc80": "a"}], "the name of column 1 is not Unicode text ('text\\udc80')"),
]


@pytest.mark.parametrize(("source", "message"), OBJECTS)
def test_wrong_objects_are_refused(source, message):
    assert message in refusal(source)


def test_pandas_missing_values_and_mixed_columns():
    import pandas as pd

    frame = pd.DataFrame({"text": ["a", None], "label": pd.Categorical(["x", "y"]), 3: [1, "b"]})
    table = read(frame)
    assert columns(table) == {"text": ["a", None], "label": ["x", "y"], "3": ["1", "b"]}


def test_dates_beside_what_is_missing_are_text():
    day = datetime.date(2026, 1, 2)
    assert read([{"day": day}, {"day": float("nan")}]).texts("day") == ["2026-01-02", None]
    assert read({"day": [day, 5]}).texts("day") == ["2026-01-02", "5"]
    assert read(pd.DataFrame({"day": [day, None]})).texts("day") == ["2026-01-02", None]
