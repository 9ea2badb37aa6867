"""Slices are the rows of a mask, scored as if they were all there is."""

import numpy as np
import pytest

from kft.errors import DataError
from kft.evaluation import classification, qa, slices

RANDOM = np.random.default_rng(0)
SCORES, TRUTH = RANDOM.dirichlet(np.ones(3), 60), RANDOM.integers(0, 3, 60)
ROWS = classification.row_scores(SCORES, TRUTH, list("abc"))


def test_a_slice_scores_as_its_rows_alone_do():
    languages = np.array(["en", "de", "sw"])[RANDOM.integers(0, 3, 60)]
    parts = slices.scored(classification.METRICS, ROWS, slices.by_values(languages))
    assert list(parts) == ["de", "en", "sw"] and sum(part["num_rows"] for part in parts.values()) == 60
    for name, part in parts.items():
        alone = classification.scored(SCORES[languages == name], TRUTH[languages == name], list("abc"))
        assert part == pytest.approx({key: alone[key] for key in part})


def test_a_metric_that_a_slice_does_not_have_is_left_out():
    rows = qa.row_scores(["tea", "", "cup"], [["tea"], [], ["pot"]])
    parts = slices.scored(qa.METRICS, rows, {"all": np.ones(3, bool), "answerable": rows["has_answer"]})
    assert "answerable_f1" in parts["all"] and set(parts["answerable"]) == {"exact_match", "f1", "num_rows"}


@pytest.mark.parametrize(
    ("mask", "says"),
    [(np.zeros(60, bool), "has no rows"), (np.ones(60), "type float64"), (np.ones(9, bool), r"shape \(9,\)")],
)
def test_what_is_no_slice_is_refused(mask, says):
    with pytest.raises(DataError, match=says):
        slices.scored(classification.METRICS, ROWS, {"odd": mask})
