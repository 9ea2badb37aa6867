"""The Learner sums the terms of an objective, over rows of several sources."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kft.data import store
from kft.data.streams import Stream, plan
from kft.losses.objective import IS_REAL, Objective, Term
from kft.losses.row_losses import crossentropy
from kft.recipe import Recipe
from kft.text.encoded import Encoded
from kft.training import checkpoints, devices, history, loop, spans, trainers

ENCODER = SimpleNamespace(pad_values={"token_ids": 0}, mask_names=())


def stream(count, seed, term, num_classes):
    random = np.random.default_rng(seed)
    ids = random.integers(1, 20, (count, 4))
    rows = store.in_memory(Encoded({"token_ids": ids}, {"": np.full(count, 4)}, np.arange(count)), ENCODER)
    ones = np.ones(count, np.float32)
    return Stream(rows, {"label": (ids[:, 0] % num_classes).astype(np.int32)}, {term: ones}, {term: ones})


SOURCES = {"train": stream(10, 0, "two", 2), "others": stream(7, 1, "three", 3)}


def objective(weight=0.5):
    def loss(name):
        return lambda outputs, targets: crossentropy(outputs[name], targets["label"])

    return Objective((Term("two", loss("two")), Term("three", loss("three"), weight=weight, stream="others")))


def prepared(asked, begins=(0,), **knobs):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    tokens = keras.Input((None,), dtype="int32", name="token_ids")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8)(tokens))
    pooled = keras.layers.Dropout(0.2, seed=1)(pooled)
    heads = {name: keras.layers.Dense(size, name=name)(pooled) for name, size in (("two", 2), ("three", 3))}
    recipe = Recipe.of(**{"batch_size": 3, "warmup_steps": 0, "epochs": 2, **knobs})
    network = keras.Model({"token_ids": tokens}, heads)
    span = spans.spans_of(recipe, 4, begins)[-1]
    chosen = devices.choose("none", "float32")
    return trainers.prepare(network, asked, recipe, chosen, peak=1e-2, batches_per_epoch=4, span=span)


def trained(trainer, folder, start=None):
    settings = {"run_dir": folder, "validate": None, "best_by": "loss", "start": start, "quiet": True}
    outcome = loop.train(trainer, SOURCES, **settings)
    return outcome, [np.array(variable) for variable in trainer.network.variables]


def steps(folder):
    return [record for record in history.read(folder) if record["kind"] == "step"]


def test_the_loss_is_the_weighted_sum_of_the_terms(tmp_path):
    trained(prepared(objective(weight=0.5)), tmp_path)
    for record in steps(tmp_path):
        assert record["loss"] == pytest.approx(record["loss_two"] + record["loss_three"], rel=1e-6)
    first = steps(tmp_path)[0]
    assert first["loss_three"] == pytest.approx(0.5 * np.log(3), rel=0.1)  # of a head that knows nothing yet


def test_a_weight_may_depend_on_the_updates_made(tmp_path):
    trained(prepared(objective(weight=lambda update: keras.ops.where(update < 2, 0.0, 1.0))), tmp_path)
    assert [record["loss_three"] > 0 for record in steps(tmp_path)] == [False] * 2 + [True] * 6


def test_updates_of_earlier_stages_are_among_them(tmp_path):
    asked = objective(weight=lambda update: keras.ops.where(update < 6, 1.0, 0.0))
    trained(prepared(asked, begins=(0, 1)), tmp_path)  # the first of its updates is the fifth of the fit
    assert [record["loss_three"] > 0 for record in steps(tmp_path)] == [True] * 2 + [False] * 6


@pytest.mark.slow
def test_so_it_may_on_jax(tmp_path):
    script = (
        "import keras, pathlib, sys; from test_learner import objective, prepared, steps, trained\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "trained(prepared(objective(weight=lambda update: keras.ops.where(update < 2, 0.0, 1.0))), folder)\n"
        "assert [record['loss_three'] > 0 for record in steps(folder)] == [False] * 2 + [True] * 6"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_term_without_weight_moves_nothing(tmp_path):
    trainer = prepared(objective(weight=0.0), weight_decay=0.0)
    before = {variable.path: np.array(variable) for variable in trainer.network.trainable_variables}
    trained(trainer, tmp_path)
    moved = {v.path for v in trainer.network.trainable_variables if (np.array(v) != before[v.path]).any()}
    assert "two/kernel" in moved and "three/kernel" not in moved


@pytest.mark.parametrize("stopped", [3, *(pytest.param(step, marks=pytest.mark.slow) for step in (5, 6))])
def test_a_fit_of_two_sources_that_was_stopped_goes_on_to_the_same_bits(stopped, tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    _, whole = trained(prepared(objective(), checkpoint_every=2), tmp_path / "whole")
    add = history.History.add

    def stopping(self, record):
        add(self, record)
        if record["kind"] == "step" and record["step"] == stopped:
            raise InterruptedError

    folder = tmp_path / "stopped"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(history.History, "add", stopping)
        with pytest.raises(InterruptedError):
            trained(prepared(objective(), checkpoint_every=2), folder)
    newest, problems = checkpoints.newest_intact(folder / checkpoints.FOLDER)
    assert not problems
    _, resumed = trained(prepared(objective(), checkpoint_every=2), folder, newest)
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)
    assert steps(folder) == steps(tmp_path / "whole")


def test_every_source_is_read_whole_before_it_begins_anew():
    stores = {name: each.store for name, each in SOURCES.items()}
    sizes = {"train": 3, "others": 2}
    epochs = [plan(stores, sizes, seed=0, epoch=epoch, fixed_lengths={"train": (), "others": ()}) for epoch in range(3)]
    assert [len(steps) for steps in epochs] == [4, 4, 4]
    for steps in epochs:
        assert sorted(np.concatenate([step["train"].rows for step in steps]).tolist()) == list(range(10))
    others = np.concatenate([step["others"].rows for steps in epochs for step in steps])
    assert [sorted(others[start : start + 7].tolist()) for start in (0, 7, 14)] == [list(range(7))] * 3


def test_rows_that_fill_a_batch_up_are_told_to_terms_that_compare_rows():
    told = []

    def loss(outputs, targets):
        told.append(np.asarray(targets[IS_REAL]).tolist())
        return outputs["x"]

    term = Term("compared", loss, compares_rows=True)
    assert float(term.of_batch({"x": np.array([1.0, 5.0])}, {}, np.array([2.0, 0.0]))) == 2.0
    assert told == [[True, False]]


def test_terms_have_names_of_their_own():
    with pytest.raises(AssertionError, match="expected different names of terms"):
        Objective((Term("a", crossentropy), Term("a", crossentropy)))
