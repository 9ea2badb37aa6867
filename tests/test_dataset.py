"""What a fit would see of its rows, by `kft.check`: nothing here trains."""

import json

import pytest

import kft
from kft import dataset
from kft.demo import MESSAGES
from kft.errors import DataError, RecipeError
from kft.tasks import TASKS

TEXTS = ("text", "prompt", "question", "text_pair")
SPANS = [{"start": 0, "end": 4, "label": "PER"}]


def everything(number):
    """A row with columns of many tasks."""
    return {
        "text": f"Anna saw {number}",
        "label": "ab"[number % 2],
        "tokens": ["Anna", "saw", str(number)],
        "ner_tags": ["B-PER", "O", "O"],
        "spans": SPANS,
        "question": f"Who saw {number}?",
        "context": f"Anna saw {number}",
        "answers": ["Anna"],
        "options": ["Anna", f"Ben {number}"],
        "number": number / 3,
    }


ROWS = [everything(number) for number in range(40)]


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ({}, "classify"),
        ({"text": "text"}, "classify"),
        ({"label": "number"}, "regress"),
        ({"question": "question", "context": "context", "answers": "answers"}, "answer"),
        ({"question": "question"}, "answer"),
        ({"spans": "spans"}, "tag"),
        ({"text": "text", "spans": "spans"}, "tag"),
        ({"words": "tokens", "tags": "ner_tags"}, "tag"),
        ({"words": "tokens", "tags": "ner_tags", "label": "label"}, "joint"),
        ({"choices": "options", "label": "label"}, "choose"),
        ({"prompt": "question", "response": "text"}, "generate"),
    ],
)
def test_given_columns_decide_the_task(given, task):
    rows = [{**row, "label": "01"[number % 2]} for number, row in enumerate(ROWS)]
    found = kft.check(rows, **given)
    assert found.task.name == task
    assert {name: found.columns[name] for name in given} == given
    assert any(note.startswith(f"task: {task}") for note in found.notes)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"question": "question", "label": "label"},
            r"label='label', question='question'\) belong to no one task: label",
        ),
        (
            {"text": "text", "spans": "spans", "label": "label"},
            "those of several tasks: joint, relate. Say which: task=",
        ),
        ({"task": "classify", "spans": "spans"}, "spans is for task joint, relate and tag, not for classify"),
        (
            {"task": "answer", "label": "label"},
            "not for answer. Leave it out. The columns of answer: question, context, answers.",
        ),
    ],
)
def test_columns_that_no_task_has_together_are_refused(knobs, message):
    with pytest.raises(RecipeError, match=message):
        kft.check(ROWS, **knobs)


def test_a_given_column_that_is_not_there_is_refused():
    with pytest.raises(DataError, match="has no column 'topik', given as label. Did you mean 'topic'"):
        kft.check(MESSAGES, label="topik")


def test_columns_that_are_left_out_are_named():
    notes = kft.check(MESSAGES, label="topic").notes
    assert any("columns that are not used: " in note and "'urgency'" in note for note in notes)
    alone = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    assert not any("not used" in note for note in kft.check(alone).notes)


def test_labels_are_read_as_those_of_the_training_rows(tmp_path):
    train, valid = (tmp_path / f"{name}.csv" for name in ("train", "valid"))
    train.write_text("text,label\n" + "".join(f"parcel {i},{['1.0', '2.0', 'unknown'][i % 3]}\n" for i in range(60)))
    valid.write_text("text,label\n" + "".join(f"lamp {i},{['1.0', '2.0'][i % 2]}\n" for i in range(20)))
    found = kft.check(str(train), validation=str(valid))
    assert set(found.parts["validation"].texts("label")) == {"1.0", "2.0"}
    again, _ = dataset.labelled(str(valid), "classify", found.task.schema, found.columns, readings=found.readings)
    assert set(again.texts("label")) == {"1.0", "2.0"}
    assert json.loads(json.dumps(found.readings)) == found.readings == {"label": {"numbers": False}}


def test_choices_that_are_numbers_are_read_as_train_has_them():
    rows = [
        {"text": f"sum {i}", "choices": ["3", "0", str(i + 4)], "label": ["3", "0", str(i + 4)][i % 3]}
        for i in range(20)
    ]
    found = kft.check(rows, task="choose", validation=rows[1:2])
    assert found.parts["train"].texts("label")[:3] == ["0", "1", "2"]
    assert found.parts["validation"].texts("label") == ["1"]  # by itself it would be the number 0
    with pytest.raises(DataError, match="row 1: the label is '9'; expected the number of a choice, counted"):
        kft.check(rows, task="choose", validation=[{**rows[0], "label": "9"}])


def test_a_class_with_one_row_is_kept_and_noted():
    rows = [{"text": f"parcel {i}", "label": f"class {max(0, i - 30)}"} for i in range(36)]
    found = kft.check(rows, test=0.2)
    assert found.labels["labels"] == [f"class {i}" for i in range(6)]
    assert {f"class {i}" for i in range(1, 6)} <= {*found.parts["train"].texts("label")}
    assert any("5 classes with a single training row" in note and "'class 5'" in note for note in found.notes)
    fewer = kft.check([*rows, *({"text": f"lamp {i}", "label": "lamp"} for i in range(9))], min_class_rows=2)
    assert fewer.labels["labels"] == ["class 0", "lamp"]
    assert any("5 rows of 45 dropped (min_class_rows=2), of 5 classes" in note for note in fewer.notes)
    with pytest.raises(RecipeError, match="min_class_rows is for task classify, .*, not for multilabel"):
        kft.check([{"text": f"{i}", "labels": ["a"]} for i in range(20)], min_class_rows=2)


ATIS = [3309, 381, 212, 136, 123, 67, 48, 45, 27, 17, 16, 16, 14, 12, 12, 11, 7, 5, 4, 3, 2, 1, 1, 1, 1, 1]


def test_many_classes_some_with_one_row_fit_with_the_defaults():
    rows = [{"text": f"question {c} {i}", "intent": f"intent {c}"} for c, n in enumerate(ATIS) for i in range(n)]
    found = kft.check(rows)
    assert len(found.labels["labels"]) == 26 and len({*found.parts["train"].texts("label")}) == 26
    assert len(found.parts["validation"]) == round(0.1 * len(rows))
    assert any("single training row" in note for note in found.notes)


def test_rows_of_dropped_classes_are_dropped_from_every_part():
    rows = [{"text": f"parcel {i}", "label": "ab"[i % 2] if i else "rare"} for i in range(20)]
    validation = [{"text": f"new {label}", "label": label} for label in ("a", "b", "rare")]
    found = kft.check(rows, validation=validation, min_class_rows=2)
    assert found.labels["labels"] == ["a", "b"]
    assert found.parts["validation"].texts("label") == ["a", "b"]
    assert sum("1 row of" in note and "dropped (min_class_rows=2)" in note for note in found.notes) == 2


def test_labels_that_all_differ_are_refused_before_the_split():
    rows = [{"text": f"document {i}", "target": f"a long summary of {i}"} for i in range(30)]
    with pytest.raises(DataError, match=r"30 of 30 rows have a label in column 'target'.*ask for task=generate"):
        kft.check(rows)
    assert kft.check(rows, task="generate").columns == {"prompt": "text", "response": "target"}


@pytest.mark.parametrize(
    ("task", "good", "bad"),
    [
        ("classify", {"text": "a", "label": "x"}, [{"label": None}, {"text": None}, {"label": ""}]),
        ("regress", {"text": "a", "label": "1.5"}, [{"label": "high"}, {"label": "inf"}, {"label": None}]),
        ("ordinal", {"text": "a", "label": "1"}, [{"label": "good"}]),
        ("tag", {"words": ["a"], "tags": ["B-X"]}, [{"words": None}, {"tags": ["O", "O"]}]),
        ("tag", {"text": "abc", "spans": [[0, 1, "X"]]}, [{"spans": [[0, 9, "X"]]}, {"spans": [[2, 1, "X"]]}]),
        (
            "answer",
            {"question": "q", "context": "tea", "answers": ["tea"]},
            [{"answers": ["soup"]}, {"question": None}],
        ),
        ("choose", {"text": "a", "choices": ["b", "c"], "label": 1}, [{"label": 7}, {"choices": ["b"]}]),
        ("embed", {"text": "a", "text_pair": "b", "negative": "c"}, [{"negative": "b"}, {"text_pair": None}]),
        ("relate", {"text": "<e1>a</e1> <e2>b</e2>", "label": "x"}, [{"text": "a"}, {"label": None}]),
        ("extract", {"text": "a", "events": [{"type": "b", "trigger": {"start": 0, "end": 1}}]}, [{"text": None}]),
        ("generate", {"prompt": "a", "response": "b"}, [{"response": " "}, {"prompt": None}]),
        ("multilabel", {"text": "a", "label": ["x"]}, [{"text": None}]),
        ("pretrain", {"text": "a"}, [{"text": None}]),
    ],
)
def test_rows_that_cannot_be_used_are_refused_or_dropped(task, good, bad):
    def varied(number):
        row = {name: f"{value} {number}" if name in TEXTS else value for name, value in good.items()}
        return {**row, **({"label": str(number % 2)} if isinstance(good.get("label"), str | int) else {})}

    rows = [*(varied(number) for number in range(12)), *({**good, **one} for one in bad)]
    with pytest.raises(DataError, match=r"row 1[3-5].*To leave such rows out: bad_rows=drop \(--bad-rows drop\)\.$"):
        kft.check(rows, task=task, validation=0)
    found = kft.check(rows, task=task, validation=rows[:6] + rows[12:], bad_rows="drop")
    assert len(found.parts["train"]) == 12 and len(found.parts["validation"]) == 6
    assert any(f" of {len(rows)} rows are dropped: <list>, row 1" in note for note in found.notes)


def test_instruction_and_input_are_joined():
    rows = [{"instruction": "Translate.", "input": f"word {i}" if i else "", "output": f"mot {i}"} for i in range(20)]
    found = kft.check(rows, validation=0)
    assert found.task.name == "generate"
    assert found.columns == {"prompt": "instruction", "input": "input", "response": "output"}
    assert found.parts["train"].texts("prompt")[:2] == ["Translate.", "Translate.\n\nword 1"]
    assert any("an empty line and the input, where a row has one (19 of 20 rows)" in note for note in found.notes)
    asked = dataset.unlabelled(rows[1:2], "generate", found.problem.schema, found.columns, ["prompt"])
    assert asked.texts("prompt") == ["Translate.\n\nword 1"]
    (said,) = dataset.unlabelled(["Say tea."], "generate", found.problem.schema, found.columns, ["prompt"]).texts(
        "prompt"
    )
    assert said == "Say tea."
    other = [{"prompt": row["instruction"] + row["input"], "context": "x", "output": row["output"]} for row in rows]
    assert "input" not in kft.check(other, validation=0).columns


def test_questions_about_one_context_stay_on_one_side():
    rows = [{"question": f"Which {i}?", "context": f"tea number {i // 5}", "answers": ["tea"]} for i in range(60)]
    found = kft.check(rows, test=0.2)
    sides = [{*part.texts("context")} for part in found.parts.values()]
    assert len(sides) == 3 and sum(map(len, sides)) == len(set().union(*sides)) == 12
    assert any("60 of 60 rows share their context with another" in note for note in found.notes)


def test_premises_and_anchors_stay_on_one_side():
    rows = [{"premise": f"premise {i // 3}", "hypothesis": f"claim {i}", "label": "abc"[i % 3]} for i in range(60)]
    for knobs in (
        {},
        {
            "task": "embed",
            "text_pair": "hypothesis",
            "text": "premise",
        },
    ):
        train = rows if not knobs else [{k: v for k, v in row.items() if k != "label"} for row in rows]
        parts = kft.check(train, test=0.2, **knobs).parts
        assert not {*parts["train"].texts("text")} & {*parts["test"].texts("text")}


def test_rows_are_split_by_a_column_that_is_named():
    rows = [{**row, "author": f"author {number // 4}"} for number, row in enumerate(ROWS)]
    found = kft.check(rows, text="text", label="label", split_by="author", test=0.2)
    numbers = {name: {(row - 1) // 4 for row in part.texts("__row__")} for name, part in found.parts.items()}
    assert not numbers["train"] & (numbers["test"] | numbers["validation"])
    assert "__group__" not in found.parts["train"].rows.column_names
    assert not any("'author'" in note for note in found.notes if "not used" in note)
    with pytest.raises(DataError, match="has no column 'autor', given as split_by. Did you mean 'author'"):
        kft.check(rows, split_by="autor")


def test_parts_are_had_as_they_were_read():
    found = kft.check(MESSAGES, label="topic", test=0.2)
    raw = found.as_read("test")
    assert len(raw) == len(found.parts["test"]) and "urgency" in raw.names()
    assert raw.texts("topic") == found.parts["test"].texts("label")


def test_every_task_says_what_its_columns_are():
    for name, task in TASKS.items():
        assert task.name == name
        assert all(column.repeats is None or column.kind == "text" for column in task.schema.columns)
