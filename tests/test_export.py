"""An export answers as the run does, whoever loads it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

import kft
from kft.cli import main
from kft.errors import ServeError
from kft.export import build, gates
from serve import manifest
from serve.client import Client

ROOT = str(Path(kft.__file__).parents[1])

# Loads the exports named on the command line, in a process that has never heard of kft, and prints their answers.
LOADERS = """
import json, sys
import numpy as np
import tensorflow as tf
import tensorflow_text

def plain(array):
    return [value.decode() for value in array.tolist()] if array.dtype == object else array.tolist()

found = {}
for path, texts in json.load(open(sys.argv[1])).items():
    root = tf.saved_model.load(path)
    columns = {name: tf.constant(column) for name, column in texts.items()}
    answers = root.signatures["serving_default"](**columns)
    found[path] = {"v2": {name: plain(value.numpy()) for name, value in answers.items()}}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], path)
        signature = loaded.signature_def["serving_default"]
        feeds = {signature.inputs[name].name: column for name, column in texts.items()}
        answers = session.run({name: info.name for name, info in signature.outputs.items()}, feeds)
        found[path]["v1"] = {name: plain(np.asarray(value)) for name, value in answers.items()}
        found[path]["methods"] = {name: s.method_name for name, s in loaded.signature_def.items()}
assert not {"kft", "keras_hub"} & set(sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def exported(topic_run, urgency_run, pair_run, tmp_path_factory):
    """`(run, version directory)` of each kind, the urgency by the command line."""
    saved_models = tmp_path_factory.mktemp("exports") / "saved_models"
    (saved_models / "topics" / "00000007").mkdir(parents=True)
    asked = ["export", str(urgency_run.path), "--out", str(saved_models / "urgency")]
    told = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert told.exit_code == 0
    return {
        "topics": (topic_run, topic_run.export(saved_models / "topics")),
        "urgency": (urgency_run, Path(told.stdout.strip())),
        "pairs": (pair_run, pair_run.export(saved_models / "pairs")),
    }


@pytest.fixture(scope="module")
def probes(exported, message_rows, pair_rows):
    """Rows of texts for each export: the rows it was trained on, and texts that have broken tokenizers."""
    rows = {name: [[row["text"]] for row in message_rows] for name in ("topics", "urgency")}
    rows["pairs"] = [[row["text"], row["text_pair"]] for row in pair_rows]
    return {name: rows[name] + gates.probe_texts(len(run.text_columns)) for name, (run, _) in exported.items()}


@pytest.fixture(scope="module")
def reloaded(exported, probes, tmp_path_factory):
    """What both loaders of TensorFlow answer to the probes in a fresh process."""
    folder = tmp_path_factory.mktemp("reloaded")
    asked = {}
    for name, (run, version) in exported.items():
        columns = zip(*probes[name], strict=True)
        asked[str(version)] = dict(zip(run.text_columns, map(list, columns), strict=True))
    (folder / "asked.json").write_text(json.dumps(asked))
    (folder / "loaders.py").write_text(LOADERS)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "loaders.py", "asked.json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["topics", "urgency", "pairs"])
@pytest.mark.parametrize("loader", ["v1", "v2"])
def test_a_reloaded_export_answers_as_predict_does(exported, probes, reloaded, name, loader):
    run, version = exported[name]
    expected = run.predict([tuple(row) for row in probes[name]])
    found = reloaded[str(version)][loader]
    if name == "urgency":
        np.testing.assert_allclose(found["value"], [answer["value"] for answer in expected], rtol=1e-5, atol=1e-5)
        return
    assert found["label"] == [answer["label"] for answer in expected]
    np.testing.assert_allclose(found["score"], [answer["score"] for answer in expected], atol=1e-5)
    scores = [list(answer["scores"].values()) for answer in expected]
    np.testing.assert_allclose(found["scores"], scores, atol=1e-5)


@pytest.mark.slow
def test_signatures_are_those_that_tensorflow_serving_defines(exported, reloaded):
    for name, method in (("topics", "classify"), ("urgency", "regress"), ("pairs", "classify")):
        methods = reloaded[str(exported[name][1])]["methods"]
        own = {key: value for key, value in methods.items() if not key.startswith("__saved_model")}
        expected = {"serving_default": "predict", method: method}
        assert own == {key: f"tensorflow/serving/{value}" for key, value in expected.items()}


@pytest.mark.slow
def test_versions_count_up_and_the_config_names_every_model(exported):
    versions = {name: version.name for name, (_, version) in exported.items()}
    assert versions == {"topics": "8", "urgency": "1", "pairs": "1"}
    saved_models = exported["topics"][1].parents[1]
    config = ModelServerConfig()
    text_format.Parse((saved_models.parent / "serve" / "models.config").read_text(encoding="utf-8"), config)
    assert [model.name for model in config.model_config_list.config] == ["pairs", "topics", "urgency"]
    for name, (_, version) in exported.items():
        own = {path.name for path in version.parent.iterdir()} - {"00000007"}
        assert own == {".last-version", ".lock", version.name}, name
        assert (version / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0


@pytest.mark.slow
def test_each_weight_is_written_once(exported):
    for run, version in exported.values():
        weights = sum(weight.numpy().nbytes for weight in run.model.weights)
        assert (version / "variables" / "variables.data-00000-of-00001").stat().st_size < 1.1 * weights + 4096


@pytest.mark.slow
def test_a_manifest_names_every_file(exported):
    for _, version in exported.values():
        manifest.verify(version)
    (version / "more").write_text("")
    with pytest.raises(ServeError, match="more is no part of the export"):
        manifest.verify(version)
    (version / "more").unlink()


@pytest.mark.slow
def test_the_contract_says_what_is_served(exported):
    run, version = exported["topics"]
    contract = json.loads((version / "assets.extra" / "kft.json").read_text(encoding="utf-8"))
    assert contract["labels"] == ["billing", "delivery", "product"] and contract["inputs"] == ["text"]
    assert contract["metrics"]["test"] == run.metrics["test"]
    assert contract["largest_difference"] <= gates.TOLERANCE


@pytest.mark.slow
def test_the_gate_refuses_another_answer(exported):
    run, version = exported["urgency"]
    texts = ["the lamp is late today", "my refund was lost"]
    answers = [answer["value"] for answer in run.predict(texts)]
    probe = {"inputs": ["text"], "texts": [[text] for text in texts], "answers": {"value": answers}}
    assert gates.check(version, probe) <= gates.TOLERANCE
    probe["answers"]["value"] = [answers[0], answers[1] + 0.01]
    with pytest.raises(AssertionError, match="value differs by .* from predict"):
        gates.check(version, probe)


def test_the_gate_refuses_a_graph_that_calls_python(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def call(text):
        return {"value": tf.numpy_function(lambda texts: np.zeros(len(texts), np.float32), [text], tf.float32)}

    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": call})
    with pytest.raises(AssertionError, match="the graph holds .*PyFunc.*, which TensorFlow Serving does not run"):
        gates.check(tmp_path, {"inputs": ["text"], "texts": [["a"]], "answers": {"value": [0.0]}})


def test_the_child_of_an_export_ends_when_its_parent_is_gone():
    command = [sys.executable, "-m", "kft.export.child", "timeit", "-n1", "-r1", "import time; time.sleep(600)"]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as child:
        child.stdin.close()
        assert child.wait(timeout=60) == 1


def test_columns_of_different_lengths_are_refused_before_anything_else():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)] * 2)
    def joined(first, second):
        first, second = build._as_rows(["text", "text_pair"], [first, second])
        return tf.strings.join([first, second])

    assert joined(tf.constant(["a"]), tf.constant(["b"])).numpy().tolist() == [b"ab"]
    for sizes in ((4, 1), (1, 4), (0, 1)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="text, text_pair differ in their number of rows"):
            joined(*[tf.fill([size], "a") for size in sizes])


def test_the_gate_refuses_a_graph_that_takes_uneven_columns():
    with pytest.raises(AssertionError, match="1 rows of text beside 4 of the others are not refused"):
        gates._check_uneven(lambda text, text_pair: {}, {name: tf.fill([5], "a") for name in ("text", "text_pair")})


@pytest.fixture(scope="module")
def client(exported):
    """A client of `kft serve` in a process of its own."""
    saved_models = exported["topics"][1].parents[1]
    command = [sys.executable, "-m", "kft.cli", "serve", str(saved_models), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": ROOT, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline()
            assert line.startswith("serving 3 models on http://127.0.0.1:")
            with Client(line.split()[-1]) as asked:
                yield asked
        finally:
            server.send_signal(signal.SIGINT)
    assert server.returncode == 0


@pytest.mark.slow
def test_the_server_predicts_as_the_run_does(client, exported, message_rows, pair_rows):
    texts = [row["text"] for row in message_rows[:5]]
    topic_run, urgency_run, pair_run = [exported[name][0] for name in ("topics", "urgency", "pairs")]
    for found, expected in zip(client.predict("topics", texts), topic_run.predict(texts), strict=True):
        assert found["label"] == expected["label"] and found["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert found["scores"] == pytest.approx(list(expected["scores"].values()), abs=1e-5)
    values = [answer["value"] for answer in urgency_run.predict(texts)]
    assert client.predict("urgency", texts) == pytest.approx(values, abs=1e-4)
    pairs = [{name: row[name] for name in ("text", "text_pair")} for row in pair_rows[:5]]
    labels = [answer["label"] for answer in pair_run.predict(pairs)]
    assert [answer["label"] for answer in client.predict("pairs", pairs)] == labels


@pytest.mark.slow
def test_the_server_classifies_and_regresses_as_the_run_predicts(client, exported, message_rows):
    rows = [{"text": row["text"]} for row in message_rows[:5]]
    expected = exported["topics"][0].predict(rows)
    for found, answer in zip(client.classify("topics", rows), expected, strict=True):
        assert [label for label, _ in found] == list(answer["scores"])
        assert [score for _, score in found] == pytest.approx(list(answer["scores"].values()), abs=1e-5)
    values = [answer["value"] for answer in exported["urgency"][0].predict(rows)]
    assert client.regress("urgency", rows) == pytest.approx(values, abs=1e-4)
