import pytest

import kft
from kft.errors import DataError
from kft.tasks import relate

MARKED = "<e1>Tea</e1> comes from <e2>China</e2>"
SPANS = [{"start": 15, "end": 20, "label": "e2"}, {"start": 0, "end": 3, "label": "e1"}]


def checked(*rows):
    return kft.check([*rows], task="relate", validation=0).parts["train"].texts("text")


def test_spans_become_marks_without_spaces_at_their_edges():
    wide = [{**SPANS[0], "start": 14}, {**SPANS[1], "end": 4}]
    for spans in (SPANS, wide):
        rows = [{"text": "Tea comes from China", "spans": spans, "relation": name} for name in "abab"]
        assert checked(*rows) == [MARKED] * 4


@pytest.mark.parametrize("text", ["Tea", "<e1>Tea</e1>", f"{MARKED} {MARKED}"])
def test_a_text_without_its_two_marks_is_refused_by_row(text):
    rows = [{"text": MARKED, "label": name} for name in "abab"]
    with pytest.raises(DataError, match="row 5: the text has no single <e"):
        checked(*rows, {"text": text, "label": "a"})


@pytest.mark.slow
def test_the_direction_is_learnt(quick, tiny_bert, message_rows, tmp_path):
    rows = []
    for number, row in enumerate(message_rows):
        first, second, *rest = row["text"].split()[1:]
        a, b = ("e1", "e2") if number % 2 else ("e2", "e1")
        text = f"<{a}>{first}</{a}> <{b}>{second}</{b}> {' '.join(rest)}"
        rows.append({"text": text, "label": "forward" if number % 2 else "backward"})
    knobs = {**quick, "preset": tiny_bert(tmp_path / "preset", "@", "#"), "out": str(tmp_path / "run")}
    run = kft.fit(rows, task="relate", test=0.2, validation=0, epochs=30, **knobs)
    assert run.metrics["test"]["macro_f1"] > 0.9
    (answer,) = run.predict(["<e1>lamp</e1> <e2>was</e2> lost"])
    assert answer["label"] == "forward"
    spans = [{"start": 0, "end": 4, "label": "e1"}, {"start": 5, "end": 8, "label": "e2"}]
    assert run.predict([{"text": "lamp was lost", "spans": spans}])[0]["scores"] == pytest.approx(answer["scores"])
    assert relate.RELATE is run.task
    assert run.export(tmp_path / "saved_models" / "relations").is_dir()
