"""Whatever holds texts can be asked; a file's name alone is not taken for a text."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kft.errors import DataError
from kft.readers import inputs
from kft.readers.formats import read

TEXTS = ["the lamp is late", "my parcel"]
PAIRS = [("a", "b"), ("c", "d")]


def texts(source, names=("text",)):
    found = inputs.rows(source, names)
    return None if found is None else read(found).rows.drop_columns(["__row__"]).to_pylist()


@pytest.mark.parametrize(
    "source",
    [
        TEXTS,
        tuple(TEXTS),
        iter(TEXTS),
        (text for text in TEXTS),
        dict.fromkeys(TEXTS).keys(),
        np.array(TEXTS),
        np.array(TEXTS, object),
        pd.Series(TEXTS, index=[7, 7]),
        pd.Series(TEXTS, dtype="string"),
        pa.array(TEXTS),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
        [(text,) for text in TEXTS],
        [{"text": text} for text in TEXTS],
        ({"text": text} for text in TEXTS),
        {"text": TEXTS},
        pd.DataFrame({"text": TEXTS}),
        pa.table({"text": TEXTS}),
    ],
    ids=lambda source: type(source).__name__,
)
def test_texts_of_every_container_are_rows(source):
    assert texts(source) == [{"text": text} for text in TEXTS]


@pytest.mark.parametrize("source", [PAIRS, [list(pair) for pair in PAIRS], iter(PAIRS), np.array(PAIRS)])
def test_pairs_are_rows_of_two_texts(source):
    assert texts(source, ("text", "text_pair")) == [{"text": a, "text_pair": b} for a, b in PAIRS]
    assert texts(("a", "b"), ("text", "text_pair")) == [{"text": "a", "text_pair": "b"}]


@pytest.mark.parametrize(
    "source",
    [
        [],
        (),
        iter([]),
        np.array([]),
        pd.Series([], dtype=object),
        pd.DataFrame({"text": []}),
        {"text": []},
        pa.table({"text": []}),
    ],  # fmt: skip
    ids=lambda source: type(source).__name__,
)
def test_no_rows_are_none(source):
    assert texts(source) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["a", None], "row 2: found None of type NoneType; expected text"),
        (pd.Series(["a", float("nan")]), "row 2: found nan of type float"),
        (["a", ("b", "c")], "row 2: found 2 texts, expected 1: text"),
        ([b"a"], "row 1: found b'a' of type bytes"),
        (["a", {"text": "b"}], "row 2: found {'text': 'b'} of type dict"),
        (np.array("a"), "of type ndarray; expected a path"),
        (3, "of type int; expected a path"),
    ],
)
def test_what_is_no_text_is_refused_with_its_row(source, message):
    with pytest.raises(DataError) as caught:
        texts(source)
    assert message in str(caught.value)


def test_a_text_alone_that_is_a_file_s_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text\na\n")
    with pytest.raises(DataError, match=r"'rows.csv' is the name of a file. Give pathlib.Path\('rows.csv'\) for the"):
        inputs.rows("rows.csv", ["text"])
    assert texts(["rows.csv"]) == [{"text": "rows.csv"}] and texts("row.csv") == [{"text": "row.csv"}]
    assert texts(tmp_path / "rows.csv") == [{"text": "a"}]
    assert texts("x" * 70_000) == [{"text": "x" * 70_000}] and texts("a\0b") == [{"text": "a\0b"}]
