"""Fits in fresh interpreters: on several devices, and on each backend that Keras computes with."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import kft

# Devices can be split only before a backend starts, so each of these scripts is a process of its own.
FIT = """
import json, sys
import kft

rows, preset, out, distribute = sys.argv[1:]
run = kft.fit(
    rows, text="text", label="topic", preset=preset, out=out, distribute=distribute, validation=0.2, epochs=2,
    batch_size=7, learning_rate=1e-2, precision="float32", max_length=32, quiet=True,
)
told = {"answers": run.predict(["the parcel was lost", "my lamp is late today"]), "metrics": run.evaluate(rows)}
"""

NO_FIT = """
import json, sys

told, distribute = {}, sys.argv[1]
"""

SAME_LOSSES = """
import pathlib, tempfile
import keras, keras_hub
import numpy as np
from kft.data import store
from kft.data.streams import Stream
from kft.losses.row_losses import crossentropy
from kft.losses.objective import Objective, Term
from kft.text.encoded import Encoded
from kft.accelerate import passes
from kft.models.heads import SequenceClassifier
from kft.recipe import Recipe
from kft.training import devices, history, inference, loop, trainers

class Encoder:
    pad_values, mask_names = {"token_ids": 0, "segment_ids": 0, "padding_mask": 0}, ["padding_mask"]

random = np.random.default_rng(0)
lengths = random.integers(3, 9, 48)
ids = random.integers(1, 20, (48, 9))
encoded = Encoded({"token_ids": ids, "segment_ids": ids * 0}, {"": lengths}, np.arange(48))
rows = store.in_memory(encoded, Encoder)
targets = {"label": (ids[:, 0] > 9).astype(np.int32)}
stream = Stream(rows, targets, {"label": np.ones(48, np.float32)}, {"label": np.ones(48, np.float32)})
objective = Objective((Term("label", lambda outputs, targets: crossentropy(outputs["logits"], targets["label"])),))

def trained(distribute, accumulated=1):
    recipe = Recipe.of(batch_size=8, epochs=1, weight_decay=0.1, gradient_accumulation_steps=accumulated)
    chosen = devices.choose(distribute, "float32")
    with chosen.scope():
        keras.utils.set_random_seed(0)
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=40, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=16,
            dropout=0.0,
        )
        model = SequenceClassifier(backbone, 2, pooling="first", dropout=0.0)
        whole = keras.Model(model.input, {"logits": model.output})
        facts = passes.Facts(whole, model, chosen.backend, chosen.platform, [rows], num_devices=chosen.count)
        network, decisions = passes.applied(facts)
        fused = passes.is_applied(decisions, "fused_adam")
        trainer = trainers.prepare(network, objective, recipe, chosen, peak=1e-2, batches_per_epoch=6, fused=fused)
        folder = pathlib.Path(tempfile.mkdtemp())
        loop.train(trainer, {"train": stream}, run_dir=folder, validate=None, best_by="accuracy", quiet=True)
        outputs = inference.outputs(trainer.network, rows, chosen, 16)["logits"]
    losses = [r["loss"] for r in history.read(folder) if r["kind"] == "step"]
    return {"devices": str(chosen), "losses": losses, "outputs": outputs.tolist()}

told["many"], told["one"] = trained(distribute), trained("none")
"""

ACCUMULATED = """
told["accumulated"] = {"many": trained(distribute, 2), "one": trained("none", 2)}
"""

EXPORT = """
told["export"] = str(run.export(out + "-export"))
"""

TELL = """
print(json.dumps(told))
"""


def in_fresh_process(backend, script, *arguments):
    """What a script told, run on a backend; its logs go to the message where it fails."""
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def rows_path(message_rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "messages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in message_rows), encoding="utf-8")
    return path


def check_same_losses(told):
    np.testing.assert_allclose(told["many"]["losses"], told["one"]["losses"], atol=1e-4)
    np.testing.assert_allclose(told["many"]["outputs"], told["one"]["outputs"], atol=1e-3)
    assert told["one"]["losses"][0] != told["one"]["losses"][-1]


def check_answers(run, told, inputs=("the parcel was lost", "my lamp is late today")):
    """The run of another backend answers here, on TensorFlow, as it did there."""
    for here, there in zip(run.predict(list(inputs)), told["answers"], strict=True):
        assert here["scores"] == pytest.approx(there["scores"], abs=1e-4)
    assert 0 < told["metrics"]["accuracy"] <= 1


@pytest.mark.slow
def test_mirrored_devices_train_as_one_does(rows_path, tiny_preset, tmp_path):
    script = FIT + SAME_LOSSES + TELL
    told = in_fresh_process("tensorflow", script, rows_path, tiny_preset, tmp_path / "run", "mirrored:2")
    assert told["many"]["devices"] == "2 x cpu (tensorflow, mirrored), float32"
    check_same_losses(told)
    run = kft.load(tmp_path / "run")
    check_answers(run, told)
    assert run.manifest["devices"].startswith("2 x cpu")


@pytest.mark.slow
def test_mirrored_devices_accumulate_gradients_as_one_does():
    told = in_fresh_process("tensorflow", NO_FIT + SAME_LOSSES + ACCUMULATED + TELL, "mirrored:2")
    check_same_losses(told)
    check_same_losses(told["accumulated"])
    assert told["one"]["losses"] != told["accumulated"]["one"]["losses"]


@pytest.mark.slow
def test_jax_devices_train_as_one_does_and_the_run_is_served_by_tensorflow(rows_path, tiny_preset, tmp_path):
    import tensorflow as tf

    script = FIT + SAME_LOSSES + EXPORT + TELL
    told = in_fresh_process("jax", script, rows_path, tiny_preset, tmp_path / "run", "data_parallel:2")
    assert told["many"]["devices"] == "2 x cpu (jax, data_parallel), float32"
    check_same_losses(told)
    check_answers(kft.load(tmp_path / "run"), told)
    served = tf.saved_model.load(told["export"])
    answers = served.signatures["serving_default"](text=tf.constant(["the parcel was lost"]))
    np.testing.assert_allclose(answers["scores"][0], list(told["answers"][0]["scores"].values()), atol=1e-4)


@pytest.mark.slow
def test_torch_run_answers_on_tensorflow_too(rows_path, tiny_preset, tmp_path):
    pytest.importorskip("torch")
    told = in_fresh_process("torch", FIT + EXPORT + TELL, rows_path, tiny_preset, tmp_path / "run", "none")
    check_answers(kft.load(tmp_path / "run"), told)


REFUSED = """
import json, sys
from kft.errors import DeviceError
from kft.training import devices

told = []
for distribute in sys.argv[1:]:
    try:
        devices.choose(distribute, "float32")
    except DeviceError as error:
        told.append(str(error))
print(json.dumps(told))
"""


@pytest.mark.parametrize(
    ("backend", "refusals"),
    [
        (
            "tensorflow",
            {
                "data_parallel:2": "distribute='data_parallel' is JAX's, the backend is tensorflow. Use mirrored",
            },
        ),
        (
            "jax",
            {
                "mirrored:2": "distribute='mirrored' is TensorFlow's, the backend is jax. Use data_parallel",
                "data_parallel:2": None,
                "tpu": "distribute='tpu': JAX sees cpu, no TPU. Use auto or none.",
                "data_parallel:3": "distribute asks for 3 devices; this process sees 2 cpu. Ask for fewer",
            },
        ),
        pytest.param(
            "torch",
            {
                "mirrored": "distribute='mirrored' is TensorFlow's, the backend is torch.",
                "tpu": "distribute='tpu' needs the tensorflow or jax backend; the backend is torch.",
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_distribution_that_backend_or_machine_lacks_is_refused(backend, refusals):
    if backend == "torch":
        pytest.importorskip("torch")
    told = in_fresh_process(backend, REFUSED, *refusals)
    expected = [message for message in refusals.values() if message]
    assert len(told) == len(expected)
    for found, message in zip(told, expected, strict=True):
        assert found.startswith(message)
