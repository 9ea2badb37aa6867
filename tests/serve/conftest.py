"""Small SavedModels with the signatures of an export, and the server in a second process."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serve import manifest
from serve.limits import Limits

LABELS = ("bad", "good", "so-so")
METHODS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}
TEXTS = tf.TensorSpec([None], tf.string)


class Mood(tf.Module):
    """Scores from a hash of the text, so that every text has its own answer; `shift` tells versions apart."""

    def __init__(self, shift):
        super().__init__()
        self.shift = tf.Variable(float(shift))

    def scores(self, text):
        buckets = tf.strings.to_hash_bucket_fast(text, 97)
        logits = tf.cast(buckets, tf.float32)[:, None] * tf.constant([[0.01, 0.02, -0.03]]) + self.shift
        return tf.nn.softmax(logits * tf.constant([[1.0, 0.5, 0.25]]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def predict(self, text):
        scores = self.scores(text)
        label = tf.gather(tf.constant(LABELS), tf.argmax(scores, axis=1))
        return {"label": label, "score": tf.reduce_max(scores, axis=1), "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        parsed = tf.io.parse_example(inputs, {"text": tf.io.FixedLenFeature([], tf.string)})
        scores = self.scores(parsed["text"])
        classes = tf.tile(tf.constant(LABELS)[None, :], [tf.shape(scores)[0], 1])
        return {"classes": classes, "scores": scores}


class Length(tf.Module):
    """Characters of two texts; plus signatures for the corners of the formats."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="text"),
            tf.TensorSpec([None], tf.string, name="text_pair"),
        ]
    )
    def predict(self, text, text_pair):
        length = tf.strings.length(text, unit="UTF8_CHAR") + tf.strings.length(text_pair, unit="UTF8_CHAR")
        return {"value": tf.cast(length, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        parsed = tf.io.parse_example(inputs, {"text": tf.io.FixedLenFeature([], tf.string)})
        return {"outputs": tf.cast(tf.strings.length(parsed["text"]), tf.float32)[:, None]}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def divide(self, x):
        return {"ratio": x[:, 0] / x[:, 1]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def echo(self, text):
        return {"raw_bytes": text}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def strict(self, text):
        with tf.control_dependencies([tf.debugging.assert_none_equal(text, "fail", message="met fail")]):
            return {"text": tf.identity(text)}


def write_mood(folder: Path, *, shift: float = 0.0) -> Path:
    """A classifier with warmup requests for predict and classify."""
    module = Mood(shift)
    _save(module, folder, {"serving_default": module.predict, "classify": module.classify})
    predict, classify = PredictionLog(), PredictionLog()
    predict.predict_log.request.inputs["text"].CopyFrom(tf.make_tensor_proto(["warm"], tf.string))
    classify.classify_log.request.model_spec.signature_name = "classify"
    example = classify.classify_log.request.input.example_list.examples.add()
    example.features.feature["text"].bytes_list.value.append(b"warm")
    return write_warmup(folder, [predict, classify])


def write_length(folder: Path) -> Path:
    """A regression with two text columns and a warmup request."""
    module = Length()
    signatures = {
        "serving_default": module.predict,
        "regress": module.regress,
        "divide": module.divide,
        "echo": module.echo,
        "strict": module.strict,
    }
    _save(module, folder, signatures)
    log = PredictionLog()
    log.regress_log.request.model_spec.signature_name = "regress"
    examples = log.regress_log.request.input.example_list_with_context
    examples.context.features.feature["text"].bytes_list.value.append(b"warm")
    examples.examples.add()
    return write_warmup(folder, [log])


def write_warmup(folder: Path, logs: list[PredictionLog]) -> Path:
    """The warmup records of an export; returns the export's folder."""
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
    return seal(folder)


def seal(folder: Path) -> Path:
    """The manifest of an export, as it stands in `kft.json`."""
    (folder / manifest.CONTRACT).write_text(json.dumps({manifest.DIGESTS: manifest.digests(folder)}))
    return folder


def _save(module: tf.Module, folder: Path, signatures: dict) -> None:
    tf.saved_model.save(module, str(folder), signatures=signatures)
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name in signatures:
        if name in METHODS:
            updater.replace_method_name(signature_key=name, method_name=METHODS[name], tags=["serve"])
    updater.save()


@dataclass(frozen=True)
class Exports:
    """Writers of small exports, for tests that need their own."""

    write_mood = staticmethod(write_mood)
    write_length = staticmethod(write_length)
    write_warmup = staticmethod(write_warmup)
    seal = staticmethod(seal)


@dataclass(frozen=True)
class RunningServer:
    """The server's process, its address, its exports, and the file that holds its stderr."""

    process: subprocess.Popen
    first_line: str
    saved_models: Path
    stderr_path: Path

    @property
    def url(self) -> str:
        return self.first_line.split(" on ")[1].strip()


def start_server(saved_models: Path, stderr_path: Path, **options) -> RunningServer:
    code = "from serve.server import serve; from serve.limits import Limits"
    code += f"; serve({str(saved_models)!r}, port=0, **{options!r})"
    with stderr_path.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    first_line = process.stdout.readline()
    assert first_line, stderr_path.read_text()
    return RunningServer(process, first_line, saved_models, stderr_path)


@pytest.fixture(scope="session")
def exports():
    return Exports()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server of the models mood, length and moving, with small limits."""
    root = tmp_path_factory.mktemp("served")
    saved_models = root / "saved_models"
    write_mood(saved_models / "mood" / "1")
    write_mood(saved_models / "moving" / "1")
    write_length(saved_models / "length" / "7")
    limits = Limits(body_bytes=2**20, rows=500, connections=24, header_timeout_s=1.0, body_timeout_s=1.0)
    running = start_server(saved_models, root / "stderr.txt", limits=limits, poll_s=0.2)
    yield running
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=40) == 0
    running.process.stdout.close()


@pytest.fixture(name="start_server", scope="session")
def start_server_fixture():
    return start_server
