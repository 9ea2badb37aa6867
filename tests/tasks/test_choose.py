import json

import pytest

import kft
from kft.errors import DataError
from kft.tasks.choose import CHOOSE


@pytest.fixture(scope="module")
def rows(message_rows):
    """Which of two topics a message has."""
    return [
        {
            "text": row["text"],
            "choices": ["delivery", "billing"] if number % 2 else ["billing", "delivery"],
            "label": int((row["topic"] == "billing") == bool(number % 2)),
        }
        for number, row in enumerate(message_rows)
        if row["topic"] != "product"
    ]


@pytest.fixture(scope="module")
def run(rows, quick, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "choices"
    return kft.fit(rows, task="choose", validation=0, test=0.2, epochs=4, out=str(out), **quick)


@pytest.mark.slow
def test_a_choice_is_scored_alike_wherever_it_stands(run):
    assert run.task is CHOOSE
    assert set(run.metrics["test"]) == {"accuracy", "log_loss", "num_rows"}
    assert run.text_columns == ["text", "choice1", "choice2"]
    text, choices = "the parcel is late today", ["billing", "delivery"]
    (first,) = run.predict([{"text": text, "choices": choices}])
    (second,) = run.predict([(text, *reversed(choices))])
    assert first["choice"] == choices[int(first["label"])]
    assert first["scores"]["0"] == pytest.approx(second["scores"]["1"], abs=1e-5)
    assert sum(first["scores"].values()) == pytest.approx(1)
    assert "billing" in (run.path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_export_answers_the_same(run, tmp_path):
    version = run.export(tmp_path / "saved_models" / "choices")
    contract = json.loads((version / "assets.extra" / "kft.json").read_text())
    assert contract["inputs"] == ["text", "choice1", "choice2"] and contract["largest_difference"] <= 1e-5


def test_a_label_may_be_the_choice_itself():
    rows = [{"question": "is it tea", "option1": "yes", "option2": "no", "answer": "no"}] * 2
    rows += [{"question": "is it soup", "option1": "yes", "option2": "no", "answer": "0"}] * 2
    assert kft.check(rows, task="choose", validation=0).parts["train"].texts("label") == ["1", "1", "0", "0"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a", "choices": ["x", "y", "z"], "label": "0"}, "row 3: has 3 choices; expected 2"),
        ({"text": "a", "choices": ["x", "y"], "label": "2"}, "row 3: the label is '2'"),
    ],
)
def test_rows_that_do_not_fit_are_refused(row, message):
    rows = [{"text": "b", "choices": ["x", "y"], "label": str(number)} for number in range(2)]
    with pytest.raises(DataError, match=message):
        kft.check([*rows, row], task="choose", validation=0)
