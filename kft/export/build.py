"""Builds the SavedModel of a run: `python -m kft.export.build RUN_DIR TARGET_DIR [BASE]`, on the TensorFlow backend."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.compat.v1.saved_model import signature_def_utils as v1_signatures
from tensorflow_serving.apis import classification_pb2, model_pb2, predict_pb2, prediction_log_pb2, regression_pb2

from kft import run as runs
from kft.errors import KftError
from kft.tasks.task import Generated

WARMUP_FILE = "tf_serving_warmup_requests"
WARMUP_TEXTS = ("Where is my order?", "It works, thank you. " * 12, "")


def build(run_dir: Path, target: Path, base: str | None = None) -> None:
    """Writes the SavedModel with its signatures, warmup requests and method names."""
    run = runs.load(run_dir, base=base)
    task_model, problem, names = run.merged_model, run.problem, run.text_columns
    predictor, features_of = problem.predictor, problem.examples.features
    network = problem.build.network(task_model, len(names))
    respond = predictor.respond(task_model) if isinstance(predictor, Generated) else _no_response

    def answer(*columns: tf.Tensor) -> dict[str, tf.Tensor]:
        texts = _as_rows(names, columns)
        if isinstance(predictor, Generated):
            return respond(texts)
        features = features_of(task_model.preprocessor, texts)
        wanted = {name: features.pop(name) for name in network.input}
        extras = {"text": tf.range(tf.size(texts[0])), **features}
        return predictor.answers(network(wanted, training=False), extras, texts)

    def predict(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return answer(*[inputs[name] for name in names])

    def from_examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = tf.raw_ops.EnsureShape(input=inputs, shape=[None])
        parsed = tf.io.parse_example(inputs, {name: tf.io.FixedLenFeature([], tf.string) for name in names})
        return _served(run, answer(*[parsed[name] for name in names]))

    archive = keras.export.ExportArchive()
    # Tracked for the tables of the tokenizer, not for the variables, which the archive takes from its endpoints. Given
    # a model itself, Keras 3.15 lists all its variables beside those and writes each twice.
    resources = tf.Module()
    resources.models = (task_model, network)
    archive.track(resources)
    strings = {name: tf.TensorSpec((None,), tf.string, name=name) for name in names}
    archive.add_endpoint("serving_default", predict, [strings])
    methods = {"serving_default": "predict"}
    if predictor.signature is not None:
        archive.add_endpoint(predictor.signature, from_examples, [tf.TensorSpec((None,), tf.string, name="inputs")])
        methods[predictor.signature] = predictor.signature
    archive.write_out(str(target), verbose=False)
    _set_methods(target, methods)
    _write_warmup(target / "assets.extra" / WARMUP_FILE, names, predictor.signature)


def _no_response(texts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    raise AssertionError("a predictor of one forward pass responds to no texts by itself")


def _as_rows(names: list[str], columns: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The text columns, which nothing computes with before it is certain that all have one text for each row.

    TensorFlow Serving checks neither the rank nor that columns are equally long, and ops of tokenizers read past the
    end of the shorter one, or end the process.
    """
    columns = [tf.raw_ops.EnsureShape(input=column, shape=[None]) for column in columns]
    sizes = [tf.shape(column)[0] for column in columns]
    message = f"the inputs {', '.join(names)} differ in their number of rows"
    checks = [tf.debugging.assert_equal(size, sizes[0], message=message) for size in sizes[1:]]
    with tf.control_dependencies(checks):
        return [tf.identity(column) for column in columns]


def _served(run: Any, answers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The task's answers under the output names that the classify and regress methods demand."""
    if run.problem.predictor.signature == "regress":
        return {"outputs": answers["value"]}
    labels = tf.constant(run.labels["labels"])
    num_rows = tf.shape(answers["scores"])[0]
    return {"classes": tf.repeat(labels[tf.newaxis, :], num_rows, axis=0), "scores": answers["scores"]}


def _set_methods(target: Path, methods: dict[str, str]) -> None:
    """Gives each signature its method name; Keras writes predict for all, and TF Serving checks."""
    updater = v1_signatures.MethodNameUpdater(str(target))
    for signature, method in methods.items():
        updater.replace_method_name(signature, f"tensorflow/serving/{method}", tags="serve")
    updater.save()


def _write_warmup(path: Path, names: list[str], method: str | None) -> None:
    """Requests that TF Serving replays at load, so that a missing op fails there and not on the first user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for text in WARMUP_TEXTS:
            writer.write(_predict_log(names, text).SerializeToString())
            if method is not None:
                writer.write(_example_log(names, text, method).SerializeToString())


def _predict_log(names: list[str], text: str) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(signature_name="serving_default"))
    for name in names:
        request.inputs[name].CopyFrom(tf.make_tensor_proto([text], tf.string))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))


def _example_log(names: list[str], text: str, method: str) -> prediction_log_pb2.PredictionLog:
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
    example = tf.train.Example(features=tf.train.Features(feature={name: value for name in names}))
    spec = model_pb2.ModelSpec(signature_name=method)
    if method == "classify":
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        request.input.example_list.examples.append(example)
        return prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog(request=request))
    request = regression_pb2.RegressionRequest(model_spec=spec)
    request.input.example_list.examples.append(example)
    return prediction_log_pb2.PredictionLog(regress_log=prediction_log_pb2.RegressLog(request=request))


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
    except KftError as error:
        sys.exit(str(error))
    print("{}")
