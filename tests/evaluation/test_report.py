"""The report says what the metrics say, shows hostile text as text, and asks nothing of the network."""

import os
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from kft.errors import DataError, RunError
from kft.evaluation import classification as classes
from kft.evaluation import entities, figures, regression, report, worst_rows
from kft.evaluation.classification import scored as classification

VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = "<script>alert('x')</script> & \"quoted\""
SCORES, TARGETS = [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]], [0, 1, 1, 0]


class Page(HTMLParser):
    """The elements and the text of a page; fails where tags do not nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def written(tmp_path, **changed):
    """The HTML of a report of a small classifier, with some of its parts changed."""
    found = classification(SCORES, TARGETS, ["no", HOSTILE])
    history = [{"kind": "epoch", "epoch": 1, "step": 9, "loss": 0.5, "val_loss": 0.25}]
    parts = {
        "title": HOSTILE,
        "facts": [("preset", HOSTILE), ("rows", 12345)],
        "history": history,
        "metrics": {"validation": found, "test": found},
        "kind": classes.KIND,
        "baselines": {"majority": classification([[1.0, 0.0]] * 4, TARGETS, ["no", HOSTILE])},
        "figures": [figures.confusion(found["confusion"], ["no", HOSTILE]), figures.curves(history)],
        "examples": [{"texts": [HOSTILE, "好"], "truth": HOSTILE, "answer": "no", "why": HOSTILE}],
    }
    path = report.write(tmp_path / "report.html", **{**parts, **changed})
    assert os.listdir(tmp_path) == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_page_nests_and_no_text_becomes_markup(tmp_path):
    html = written(tmp_path)
    page = Page(html)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 7
    assert html.startswith("<!doctype html>")


def test_page_needs_nothing_from_outside(tmp_path):
    html = written(tmp_path)
    links = [
        value for name, value in Page(html).attributes if name in {"src", "href", "xlink:href", "srcset", "action"}
    ]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "default-src 'none'" in html


def test_page_says_how_good_and_where_it_fails(tmp_path):
    text = Page(written(tmp_path)).text
    assert "Right in 3 of 4 test rows: 75.0%." in text
    assert f"Most frequent mistake: “{HOSTILE}” answered as “no”, 1 row (50% of “{HOSTILE}”)." in text
    assert "12,345" in text


def test_right_to_left_text_finds_its_direction(tmp_path):
    example = {"texts": ["ممتاز جدا"], "truth": "no", "answer": "yes", "why": ""}
    assert '<p class="text" dir="auto">ممتاز جدا</p>' in written(tmp_path, examples=[example])


def test_long_text_is_cut_and_says_so(tmp_path):
    example = {"texts": ["x" * 2800], "truth": "no", "answer": "yes", "why": ""}
    html = written(tmp_path, examples=[example])
    assert "(2,000 characters more)" in html
    assert "x" * 801 not in html


def test_many_labels_are_folded_with_the_weakest_in_sight(tmp_path):
    labels = [f"label {i}" for i in range(12)]
    scores = [[1.0 if i == j else 0.0 for j in range(12)] for i in range(11)] + [[1.0] + [0.0] * 11]
    html = written(tmp_path, metrics={"test": classification(scores, list(range(12)), labels)}, figures=[])
    seen, folded = html.split("<details>")
    assert "2 more labels" in folded
    assert seen.index(">label 11<") < seen.index(">label 0<") < seen.index(">label 1<")


NUMBERS = {"kind": regression.KIND, "baselines": {}}


def test_regression_report(tmp_path):
    found = regression.scored([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    example = {"texts": ["far"], "truth": 3.0, "answer": 4.0, "why": "1 too high"}
    text = Page(written(tmp_path, metrics={"test": found}, figures=[], examples=[example], **NUMBERS)).text
    assert "Off by 0.333 on average over 3 test rows." in text
    assert "1 too high" in text


def test_entities_are_counted_and_the_headline_comes_first(tmp_path):
    found = entities.scored([["B-LOC", "O"], ["B-PER", "I-PER"]], [["B-LOC", "O"], ["B-PER", "O"]], is_plain=False)
    parts = {"metrics": {"test": found}, "kind": entities.ENTITIES, "baselines": {}, "figures": [], "examples": []}
    html = written(tmp_path, **parts)
    assert '<th scope="col" class="number">entities</th>' in html
    names = re.findall(r'<span class="name">(\w+)</span>', html)
    assert names == ["entity_f1", "entity_precision", "entity_recall", "macro_entity_f1", "token_accuracy"]


def test_empty_parts_leave_no_empty_sections(tmp_path):
    text = Page(written(tmp_path, facts=[], history=[], figures=[], examples=[])).text
    assert not {"About this run", "Epochs", "Figures", "Worst answers"} & set(text.split("\n"))


def test_lone_surrogates_do_not_stop_the_report(tmp_path):
    assert "bad ? byte" in written(tmp_path, title="bad \ud800 byte")


def test_baselines_stand_beside_the_model(tmp_path):
    text = Page(written(tmp_path)).text
    assert "Against simpler models accuracy, higher is better" in text
    assert (
        "baseline: majority" in text and "25.0 points better than the baseline “majority”, by accuracy (50.0%)." in text
    )


def test_many_labels_are_shown_in_part(tmp_path):
    names = [f"label {i:04d}" for i in range(1500)]
    scores = np.eye(1500)[[*range(1, 1500), 0]]
    found = classification(scores, range(1500), names)
    html = written(tmp_path, metrics={"test": found}, figures=[], examples=[])
    page = Page(html)
    assert "1,490 more labels, the weakest 100 shown; all are in metrics.json" in page.text
    assert len({name for name in names if name in page.text}) < 120 and len(html) < 200_000
    drawn, worst = worst_rows.classified(scores, Rows(1500), np.arange(1500), names)
    assert len(drawn) == 1 and len(worst) == worst_rows.WORST


class Rows:
    """A table of one text a row."""

    def __init__(self, count):
        self.rows = {"text": pa.array([f"text {i}" for i in range(count)])}

    def names(self):
        return ["text"]


def test_no_metrics_are_refused(tmp_path):
    with pytest.raises(DataError, match="no metrics"):
        written(tmp_path, metrics={})


def test_a_path_that_cannot_be_written_is_refused_and_the_old_report_stays(tmp_path):
    with pytest.raises(RunError, match="No such file or directory"):
        written(tmp_path / "missing")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(RunError, match="Is a directory"):
        written(tmp_path)
    assert os.listdir(tmp_path) == ["report.html"]


def test_worst_rows():
    assert worst_rows.most_confident([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]], [1, 1, 1], count=1) == [1]
    assert worst_rows.furthest([3.0, 1.0, 2.0], [3.0, 5.0, 1.0], count=5) == [1, 2]
