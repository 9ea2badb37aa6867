"""An update of the weights is the same, whatever batches, micro-batches or devices its rows are cut into."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kft import tasks

SCRIPT = Path(__file__).parents[1] / "one_update.py"
updates = runpy.run_path(str(SCRIPT))
QUICK = ("classify", "tag")
CUT_ALIKE = (*updates["BY_ROW"], *updates["BY_TOKEN"])


@pytest.fixture(scope="module")
def encoder(tiny_bert, tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("presets") / "marks", "@", "#")


def prepared(name, encoder, **knobs):
    made = updates["prepared"](name, encoder, **knobs)
    return made, len(made.stores["train"]), made.model.preprocessor.sequence_length


def check_gradient(found, expected):
    assert np.linalg.norm(expected) > 1e-3
    assert updates["difference"](found, expected) < 1e-5


def test_every_task_is_among_them():
    special = {"triplet", "ranking", "packed", "mlm", "clm", "nsp", "sop"}
    assert {*CUT_ALIKE, *updates["IN_BATCH"]} - special | {"pretrain"} == set(tasks.TASKS)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CUT_ALIKE]
)
def test_gradient_of_an_update_is_that_of_one_batch_of_its_rows(name, encoder):
    made, count, longest = prepared(name, encoder)
    gradient = updates["gradient"]
    whole = gradient(made, count)
    check_gradient(gradient(made, 4, accumulated=count), whole)
    # Pieces of batches on two devices, filled up with rows that weigh nothing and padded to the longest row of all.
    check_gradient(gradient(made, 6, accumulated=count, pieces=2, devices=2, fixed_lengths=(longest,)), whole)


@pytest.mark.parametrize("name", updates["IN_BATCH"])
def test_rows_are_compared_with_those_of_their_batch_and_not_with_those_that_fill_it_up(name, encoder):
    made, count, longest = prepared(name, encoder, batch_size=8, gradient_accumulation_steps=2)
    (note,) = [note for note in made.data.notes if note.startswith("the loss compares each row")]
    assert "7 of the 15 others of an update (gradient_accumulation_steps=2)" in note
    gradient = updates["gradient"]
    whole = gradient(made, count)
    check_gradient(gradient(made, 24, fixed_lengths=(longest,)), whole)
    assert updates["difference"](gradient(made, 4, accumulated=count), whole) > 0.1


@pytest.mark.slow
def test_classes_are_weighted_beside_all_rows_and_not_beside_their_batch(encoder):
    made, count, _ = prepared("classify", encoder)
    rare = updates["prepared"]("classify", encoder, class_weights={"a": 1.0, "b": 1000.0})
    one_by_one = [updates["gradient"](job, 1, accumulated=count) for job in (made, rare)]
    assert updates["difference"](*one_by_one) > 0.5
    stream = rare.streams["train"]
    assert stream.counts["label"].tolist() == [1.0] * count and sorted(set(stream.weights["label"].tolist())) == [
        1.0,
        1000.0,
    ]


def in_fresh_process(backend, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, SCRIPT, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "distribute", "names"),
    [
        ("tensorflow", "mirrored:2", CUT_ALIKE),
        ("jax", "data_parallel:2", ("classify", "tag", "generate", "mlm")),
    ],
)
def test_fit_makes_the_same_update_of_small_batches_on_two_devices_as_of_one_batch(backend, distribute, names, encoder):
    told = in_fresh_process(backend, encoder, distribute, *names)
    assert list(told) == list(names)
    assert max(told.values()) < 1e-5, told
