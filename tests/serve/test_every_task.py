"""Every task from rows to answers over HTTP: what the server says of an export is what `predict` says of the run."""

import signal

import numpy as np
import pytest

import kft
from kft.data.records import records
from kft.tasks import TASKS
from serve.client import Client

SPANS = [{"start": 15, "end": 20, "label": "e2"}, {"start": 0, "end": 3, "label": "e1"}]
EVENT = {"type": "loss", "trigger": {"start": 15, "end": 19}, "arguments": [{"role": "what", "start": 4, "end": 10}]}


def texts_and(*columns, **knobs):
    """Rows of texts with these columns, the same in each row but for a label, and what a fit of them is told."""
    labels = {"label": "ab", "intent": "ab"}
    fixed = {
        "answers": [{"text": "parcel", "answer_start": 4}],
        "question": "what was lost",
        "choices": ["billing", "delivery"],
        "events": [EVENT],
        "tags": ["O", "B-thing", "O", "O"],
        "words": ["the", "parcel", "was", "lost"],
        "response": "the courier",
    }
    texts = {"text": "the parcel was lost", "context": "the parcel was lost", "prompt": "what is late"}
    rows = []
    for number in range(12):
        row = {name: f"{text} {number}" for name, text in texts.items() if name in columns}
        row |= {name: fixed[name] for name in columns if name in fixed}
        row |= {name: values[number % 2] for name, values in labels.items() if name in columns}
        rows.append(row)
    return rows, knobs


CASES = {
    "answer": texts_and("question", "context", "answers"),
    "choose": ([{**row, "label": n % 2} for n, row in enumerate(texts_and("text", "choices")[0])], {}),
    "classify": texts_and("text", "label"),
    "classify-heads": (
        [{**row, "n": n / 8, "kinds": ["x", "yz"[n % 2]]} for n, row in enumerate(texts_and("text", "label")[0])],
        {"aux": [{"task": "regress", "label": "n"}, {"task": "multilabel", "label": "kinds"}]},
    ),
    "embed": ([{**row, "text_pair": f"{row['text']} today"} for row in texts_and("text")[0]], {}),
    "extract": texts_and("text", "events"),
    "fewshot": texts_and("text", "label"),
    "generate": texts_and("prompt", "response", max_new_tokens=6),
    "joint": texts_and("words", "tags", "intent"),
    "multilabel": ([{**row, "labels": [row.pop("label")]} for row in texts_and("text", "label")[0]], {}),
    "ordinal": ([{**row, "label": n % 3} for n, row in enumerate(texts_and("text")[0])], {}),
    "pretrain": texts_and("text", max_length=8),
    "pretrain-clm": texts_and("text", max_length=32, preset="scratch:gpt2", num_layers=1, hidden_dim=16, num_heads=2),
    "pretrain-nsp": (
        [{"text": f"{row['text']}. my lamp is late."} for row in texts_and("text")[0]],
        {"pretrain_objective": "nsp"},
    ),
    "regress": ([{**row, "label": n / 8} for n, row in enumerate(texts_and("text")[0])], {}),
    "relate": ([{"text": "tea comes from china", "spans": SPANS, "label": "ab"[n % 2]} for n in range(12)], {}),
    "tag": texts_and("words", "tags"),
}
ASKED = ["The  parcel was\tlost [MASK]", "my café \U0001f600 is\u00a0late", ""]
ASKED_RELATIONS = ["<e1>tea</e1> was <e2>lost</e2>", "\U0001f600 <e2>tea</e2> is <e1>soup</e1>"]


@pytest.fixture(scope="module")
def runs(quick, tmp_path_factory):
    """A fit of two steps of each; a decoder for the responses comes out of the pretraining."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name in sorted(CASES, key=lambda name: name == "generate"):
        rows, knobs = CASES[name]
        preset = str(folder / "pretrain-clm" / "preset") if name == "generate" else quick["preset"]
        knobs = {**quick, "preset": preset, "max_length": 32, "allow_leaks": True, **knobs}
        knobs = {"task": name.partition("-")[0], **knobs}
        found[name] = kft.fit(rows, validation=0, max_steps=2, out=str(folder / name), **knobs)
    return found


@pytest.fixture(scope="module")
def client(runs, start_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for name, run in runs.items():
        run.export(folder / "saved_models" / name)
    server = start_server(folder / "saved_models", folder / "stderr.txt")
    with Client(server.url) as client:
        yield client
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=40) == 0
    server.process.stdout.close()


def columns_of(predictions, outputs):
    """The rows that a server gives, as arrays by output."""
    (first, *_) = outputs
    rows = [row if isinstance(row, dict) else {first: row} for row in predictions]
    arrays = {name: [row[name] for row in rows] for name in outputs}
    return {
        name: np.array(values, object if outputs[name]["dtype"] == "DT_STRING" else None)
        for name, values in arrays.items()
    }


def test_no_task_is_missing_here():
    assert {name.partition("-")[0] for name in CASES} == set(TASKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_server_answers_as_predict_does(name, runs, client):
    run = runs[name]
    signature = client.metadata(name)["serving_default"]
    asked = ASKED_RELATIONS if name == "relate" else ASKED
    others = {"question": "what was lost", "choice1": "billing", "choice2": "delivery"}
    questions = [{column: others.get(column, text) for column in signature["inputs"]} for text in asked]
    served = columns_of(client.predict(name, questions), signature["outputs"])
    found = records(served, run.problem.predictor.names)
    texts = [tuple(question[column] for column in run.text_columns) for question in questions]
    expected = run.predict([row if len(row) > 1 else row[0] for row in texts])
    assert len(found) == len(asked)
    for one, other in zip(found, expected, strict=True):
        assert_alike(one, other)


def assert_alike(one, other):
    """The same text, and numbers that differ by no more than what float32 and JSON lose."""
    if isinstance(other, dict):
        assert set(one) == set(other)
        for key in other:
            assert_alike(one[key], other[key])
    elif isinstance(other, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_alike(*pair)
    elif isinstance(other, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    else:
        assert one == other
