"""A process that uses kft keeps its environment, garbage collector, random numbers and choice of operations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kft

SCRIPT = """
import gc, os, random, sys

def outside():
    return [dict(os.environ), gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()]

before = outside()
import kft
kft.Recipe, kft.fit, kft.check, kft.plan
changed = {"import": before != outside()}

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context
from tensorflow.python.framework import config

def numbers(generator):
    return keras.ops.convert_to_numpy(generator.state).tolist()

def inside():
    generator = global_state.get_global_attribute("global_seed_generator")
    of_keras = [global_state.get_global_attribute("global_random_seed"), id(generator), numbers(generator)]
    of_tensorflow = [context.context()._seed, context.context()._rng.getstate(), config.is_op_determinism_enabled()]
    found = [*outside(), random.getstate(), str(np.random.get_state()), *of_keras, *of_tensorflow]
    if keras.config.backend() == "torch":
        import torch
        found += [torch.get_rng_state().tolist(), torch.are_deterministic_algorithms_enabled()]
    return found

random.seed(5), np.random.seed(6), tf.random.set_seed(7)
keras.random.uniform((1,))
tf.random.uniform([1], seed=3)
shared = {"preset": sys.argv[1], "precision": "float32", "deterministic": True}
rows = [{"text": f"the parcel {word} late", "label": "ab"[i % 2]} for i, word in enumerate("abcdefghijklmnopqrst")]
calls = {
    "check": lambda: kft.check(rows, **shared),
    "plan": lambda: kft.plan(rows, **shared),
    "fit": lambda: kft.fit(rows, quiet=True, max_steps=2, batch_size=4, out=sys.argv[2], **shared),
    "refused": lambda: kft.plan(rows, max_length=10_000, **shared),
}
for name, call in calls.items():
    before = inside()
    try:
        call()
    except kft.errors.RecipeError:
        assert name == "refused"
    changed[name] = before != inside()
# An operation with a seed of its own goes on in its sequence, which setting TensorFlow's seed would begin anew.
second = float(tf.random.uniform([1], seed=3)[0])
tf.random.set_seed(7)
expected = [float(tf.random.uniform([1], seed=3)[0]) for _ in range(2)][1]
changed["sequence"] = second != expected
import json
print(json.dumps(changed))
"""


@pytest.mark.parametrize(
    "backend", ["tensorflow", *(pytest.param(name, marks=pytest.mark.slow) for name in ("jax", "torch"))]
)
def test_import_check_plan_and_fit_leave_the_state_of_their_process_alone(backend, tiny_preset, tmp_path):
    if backend == "torch":
        pytest.importorskip("torch")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
    environment["PYTHONPATH"] = str(Path(kft.__file__).parents[1])
    arguments = [sys.executable, "-c", SCRIPT, tiny_preset, str(tmp_path / "run")]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    changed = json.loads(done.stdout.splitlines()[-1])
    assert changed == dict.fromkeys(["import", "check", "plan", "fit", "refused", "sequence"], False)
