"""Requests in slices of rows of like length, and a log that stays short."""

import logging

import numpy as np
import pytest

from serve import slices
from serve.connections import LOG_RECORDS, Sparse
from serve.contract import Refused


def texts(lengths):
    return {"text": np.array([b"x" * length for length in lengths], object)}


def test_each_row_gets_its_own_answer_and_the_widest_shape():
    lengths = np.random.default_rng(0).integers(0, 3000, 500)
    widths = []

    def model(arrays):
        longest = max(map(len, arrays["text"]))
        widths.append(len(arrays["text"]) * longest)
        letters = [[b"x"] * len(text) + [b""] * (longest - len(text)) for text in arrays["text"]]
        return {"length": np.array([len(text) for text in arrays["text"]]), "letters": np.array(letters, object)}

    found = slices.call(model, texts(lengths))
    assert found["length"].tolist() == lengths.tolist()
    assert found["letters"].shape == (500, lengths.max())
    assert [sum(letter == b"x" for letter in row) for row in found["letters"][:9]] == lengths[:9].tolist()
    assert len(widths) > 1 and max(widths) <= slices.SLICE_BYTES


def test_one_long_row_does_not_make_the_short_ones_long():
    cut = slices.cut(np.array([6] * 1000 + [2500]))
    assert sorted(np.concatenate(cut).tolist()) == list(range(1001))
    assert cut[-1].tolist() == [1000] or len(cut[-1]) <= slices.SLICE_BYTES // 2500
    assert all(len(rows) <= slices.SLICE_ROWS for rows in cut)


def test_what_fits_into_one_slice_or_is_uneven_goes_to_the_model_as_it_is():
    seen = []
    for arrays in (texts([3] * 64), {**texts([3] * 99), "text_pair": np.array([b"y"], object)}, texts([])):
        slices.call(lambda given: seen.append(given) or {}, arrays)
        assert seen.pop() is arrays


def test_outputs_that_are_not_of_rows_are_refused():
    with pytest.raises(Refused, match="Outputs of 64 rows have the shapes"):
        slices.call(lambda arrays: {"sum": np.zeros(())}, texts([3] * 99))


def test_a_storm_of_records_is_counted_and_not_written(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("serve.connections.time.monotonic", lambda: clock[0])
    sparse = Sparse()
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "no %s", ("file",), None)
    assert [sparse.filter(record) for _ in range(1000)].count(True) == LOG_RECORDS
    clock[0] = 61.0
    assert sparse.filter(record) and record.getMessage() == "(990 messages left out) no file"
