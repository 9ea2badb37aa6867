"""Drawings carry the data, escape it, and take their colours from the page."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from kft.errors import DataError
from kft.evaluation import figures

HISTORY = [
    *({"kind": "step", "step": s, "epoch": 0, "loss": 1 / s, "learning_rate": 1e-4} for s in range(1, 1001)),
    {
        "kind": "epoch",
        "epoch": 0,
        "step": 500,
        "loss": 0.2,
        "val_loss": 0.3,
        "val_accuracy": 0.8,
        "val_mae": 7.0,
    },
    {
        "kind": "epoch",
        "epoch": 1,
        "step": 1000,
        "loss": 0.1,
        "val_loss": 0.4,
        "val_accuracy": 0.9,
        "val_mae": 5.0,
    },
]


def words(figure):
    """The texts of a drawing, which has to be well-formed XML."""
    return [
        "".join(element.itertext()) for element in ElementTree.fromstring(figure.svg).iter() if "text" in element.tag
    ]


def test_curves_show_every_panel_and_name_the_best_epoch():
    figure = figures.curves(HISTORY)
    titles = {
        "Loss",
        "Validation accuracy, higher is better",
        "Validation mae, lower is better",
        "Learning rate",
    }
    assert titles <= set(words(figure))
    assert "after epoch 1 (step 500)" in figure.caption


def test_curves_stay_small_for_many_steps():
    many = [{"kind": "step", "step": s, "loss": 1.0 + s % 7, "learning_rate": 1e-4} for s in range(50_000)]
    assert len(figures.curves(many).svg) < 60_000


def test_curves_cope_with_what_a_run_may_lack():
    assert figures.curves([{"kind": "epoch", "epoch": 1, "step": 9, "loss": 0.5}]).svg
    assert figures.curves([{"kind": "step", "step": 1, "loss": None, "learning_rate": 0.1}]).svg
    with pytest.raises(DataError, match="history"):
        figures.curves([])


def test_small_confusion_has_counts_and_labels():
    figure = figures.confusion([[1234, 7], [0, 56]], ["no", "yes"])
    assert {"1,234", "7", "56", "no", "yes", "truth", "answer"} <= set(words(figure))
    assert figure.table == (("truth", "answered", "rows"), ("no", "yes", "7"))


def test_large_confusion_has_no_counts_but_the_worst_pairs():
    matrix = np.eye(77, dtype=int) * 999
    matrix[3, 5] = 41
    figure = figures.confusion(matrix.tolist(), [f"label {i}" for i in range(77)])
    assert not {"999", "41", "label 3"} & set(words(figure))
    assert figure.table[1] == ("label 3", "label 5", "41")


def test_perfect_confusion_has_no_table():
    assert figures.confusion([[2, 0], [0, 0]], ["no", "yes"]).table == ()


def test_labels_of_any_script_and_with_markup_are_text():
    labels = ["<script>", "$x^2$ & co", "好评", "ممتاز", "two\nlines\x00"]
    shown = words(figures.confusion(np.eye(5, dtype=int).tolist(), labels))
    assert {"<script>", "$x^2$ & co", "好评", "ممتاز", "two lines"} <= set(shown)


def test_scatter_draws_a_share_of_many_rows():
    values = np.linspace(0, 1, 5000)
    figure = figures.scatter(values, values)
    assert "1,000 of 5,000 rows" in figure.caption
    assert figure.svg.count("<use") < 1100


def test_calibration_tells_sure_from_right():
    scores = [[0.9, 0.1]] * 10
    assert "90.0% sure and 50.0% right" in figures.calibration(scores, [0, 1] * 5).caption


def test_drawings_share_no_ids_and_leave_ink_to_the_page():
    drawn = [
        figures.curves(HISTORY),
        figures.scatter([1.0, 2.0], [1.0, 3.0]),
        figures.confusion([[1, 1], [1, 1]], ["a", "b"]),
    ]
    ids = [name for figure in drawn for name in re.findall(r'\bid="([^"]+)"', figure.svg)]
    assert len(ids) == len(set(ids))
    for figure in drawn:
        used = set(re.findall(r'(?:url\(|href=")#([^")]+)', figure.svg))
        assert used <= set(re.findall(r'\bid="([^"]+)"', figure.svg))
        assert "currentColor" in figure.svg
        assert "#010203" not in figure.svg


def test_drawings_are_the_same_each_time():
    assert figures.curves(HISTORY) == figures.curves(HISTORY)
