"""The rows of each value of a column, scored as if they were all there is."""

import numpy as np
import pytest

from kft.errors import DataError
from kft.evaluation import classification, regression, slices


def test_rows_are_told_apart_by_value_and_those_without_one_are_in_no_part():
    found = slices.by_values(["en", None, "de", "en"])
    assert {name: rows.tolist() for name, rows in found.items()} == {"de": [2], "en": [0, 3]}


@pytest.mark.parametrize(
    ("values", "says"),
    [([None, None], "no row has a value"), ([str(i) for i in range(slices.MOST_VALUES + 1)], "1,001 different values")],
)
def test_columns_that_tell_no_parts_apart_are_refused(values, says):
    with pytest.raises(DataError, match=says):
        slices.by_values(values, "language")


def test_the_worst_is_by_the_direction_of_the_headline_and_each_value_counts_alike():
    shares = {"de": {"accuracy": 0.5, "num_rows": 2}, "en": {"accuracy": 1.0, "num_rows": 98}}
    found = slices.summary(shares, classification.KIND, num_without=3)
    assert (found["worst"], found["mean"], found["num_rows_without"]) == ("de", 0.75, 3)
    errors = {"de": {"mae": 0.5, "num_rows": 2}, "en": {"mae": 1.0, "num_rows": 2}}
    assert slices.summary(errors, regression.KIND, num_without=0)["worst"] == "en"


def test_values_without_the_headline_have_no_part_in_mean_and_worst():
    found = slices.summary(
        {"de": {"num_rows": 1}, "en": {"accuracy": 1.0, "num_rows": 2}}, classification.KIND, num_without=0
    )
    assert (found["worst"], found["mean"]) == ("en", 1.0)
    alone = slices.summary({"de": {"num_rows": 1}}, classification.KIND, num_without=0)
    assert "worst" not in alone and "not defined" in slices.sentence("language", alone, classification.KIND)


def test_only_single_numbers_are_kept():
    values = {"de": {"accuracy": 1.0, "per_class": {}, "confusion": np.eye(2).tolist(), "num_rows": 2}}
    assert slices.summary(values, classification.KIND, num_without=0)["values"] == {
        "de": {"accuracy": 1.0, "num_rows": 2}
    }
