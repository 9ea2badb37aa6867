"""Several threads that predict and fit at once get the answers that they get alone."""

import json
import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest

import kft
from kft.accelerate.overrides import replaced

TEXTS = ["the parcel was lost", "my lamp is late today", "the invoice is wrong", "tea"]


def at_once(*functions):
    """What each function gives, all begun at the same moment in threads of their own."""
    barrier, found = threading.Barrier(len(functions)), [None] * len(functions)

    def run(number):
        barrier.wait()
        try:
            found[number] = functions[number]()
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def test_what_stands_in_does_so_in_its_own_thread_alone():
    layer, entered, leave = keras.layers.Identity(), threading.Barrier(2), threading.Barrier(2)

    def doubled():
        with replaced(layer, "call", lambda inputs: 2 * inputs):
            entered.wait()
            leave.wait()
            return float(layer(np.float32(3)))

    def tripled():
        with replaced(layer, "call", lambda inputs: 3 * inputs):
            entered.wait()
            found = float(layer(np.float32(3)))
        own = float(layer(np.float32(3)))
        leave.wait()
        return found, own

    assert at_once(doubled, tripled) == [6, (9, 3)]
    assert float(layer(np.float32(3))) == 3


def test_one_that_calls_the_method_it_stands_in_for_gets_the_one_before():
    layer = keras.layers.Identity()
    for _ in range(2):
        with replaced(layer, "call", lambda inputs: layer.call(inputs) + 1):
            with replaced(layer, "call", lambda inputs: layer.call(inputs) * 10):
                assert [float(layer(np.float32(3))) for _ in range(2)] == [40, 40]
            assert float(layer(np.float32(3))) == 4
        assert float(layer(np.float32(3))) == 3


def test_a_method_of_a_class_is_switched_for_its_instances_in_one_thread():
    class Tea:
        def cups(self, number):
            return number

    class Mint(Tea):
        pass

    with replaced(Tea, "cups", lambda tea, number: number + 1):
        assert at_once(lambda: Mint().cups(1)) == [1]
        assert Mint().cups(1) == 2
        with replaced(Mint, "cups", lambda tea, number: 10 * tea.cups(number)):
            assert Mint().cups(1) == 20
    assert Mint().cups(1) == 1


def scores(run, texts):
    return [answer["scores"] for answer in run.predict(texts)]


@pytest.mark.slow
def test_threads_predict_with_one_run_and_others_while_another_fits(topic_run, pair_run, message_rows, quick, tmp_path):
    pairs = [("the parcel is late", "my parcel was lost"), ("the lamp is wrong", "my invoice is late")]
    expected = [scores(topic_run, TEXTS[:2]), scores(topic_run, TEXTS), scores(pair_run, pairs)]
    topics, others = kft.load(topic_run.path), kft.load(pair_run.path)  # nothing of them is traced yet
    knobs = {"text": "text", "label": "topic", "validation": 0, "epochs": 8}
    *found, fitted = at_once(
        lambda: scores(topics, TEXTS[:2]),
        lambda: scores(topics, TEXTS),
        lambda: scores(others, pairs),
        lambda: kft.fit(message_rows, test=0.2, out=str(tmp_path / "run"), **knobs, **quick),
    )
    for one, other in zip(found, expected, strict=True):
        for row, expected_row in zip(one, other, strict=True):
            assert row == pytest.approx(expected_row, abs=1e-5)
    assert fitted.metrics["test"]["accuracy"] > 0.5
    reopened = kft.load(fitted.path)
    for row, other in zip(scores(reopened, TEXTS), scores(fitted, TEXTS), strict=True):
        assert row == pytest.approx(other, abs=1e-5)


AT_ONCE = """
import json, sys, threading
import kft

rows, *paths = sys.argv[1:]
texts = [json.loads(line)["text"] for line in open(rows)]
runs = [kft.load(path) for path in paths]
jobs = [(run, part) for run in runs for part in (texts, texts[:7], texts[20:])]
expected = [[answer["scores"] for answer in run.predict(part)] for run, part in jobs]
barrier, found = threading.Barrier(len(jobs)), [[] for _ in jobs]

def work(number):
    run, part = jobs[number]
    barrier.wait()
    for _ in range(5):
        found[number].append([answer["scores"] for answer in run.predict(part)])

threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
difference = max(
    abs(row[name] - other[name])
    for rounds, rows in zip(found, expected)
    for answers in rounds
    for row, other in zip(answers, rows, strict=True)
    for name in row
)
print(json.dumps({"rounds": [len(rounds) for rounds in found], "difference": difference}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_threads_predict_at_once_on_every_backend(backend, topic_run, message_rows, tmp_path):
    if backend == "torch":
        pytest.importorskip("torch")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in message_rows), encoding="utf-8")
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", AT_ONCE, str(path), str(topic_run.path), str(topic_run.path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["rounds"] == [5] * 6
    assert told["difference"] < 1e-5
