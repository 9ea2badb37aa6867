"""Loading one version with its warmup requests, and stopping the server."""

import signal

import pytest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from kft.errors import ServeError
from serve import bundle
from serve.client import Client
from serve.server import create_app, load_version


def test_a_version_without_warmup_requests_loads(tmp_path, exports):
    folder = exports.write_length(tmp_path / "1")
    (folder / "assets.extra" / "tf_serving_warmup_requests").unlink()
    servable = load_version("length", 1, folder)
    assert servable.signatures["regress"].method == "tensorflow/serving/regress"
    assert servable.signatures["serving_default"].inputs["text"].shape == (None,)


def test_a_warmup_request_that_fails_keeps_the_model_from_starting(tmp_path, exports):
    saved_models = tmp_path / "saved_models"
    log = PredictionLog()
    log.classify_log.request.model_spec.signature_name = "classify"
    log.classify_log.request.input.example_list.examples.add()
    exports.write_warmup(exports.write_mood(saved_models / "mood" / "1"), [log])
    with pytest.raises(ServeError, match=r"tf_serving_warmup_requests, record 0: .*text.* Export 'mood' version 1"):
        create_app(saved_models)


def test_a_pinned_version_that_is_not_there_is_refused(tmp_path, exports):
    exports.write_mood(tmp_path / "saved_models" / "mood" / "1")
    config = bundle.update(tmp_path / "saved_models")
    pinned = "base_path: '/models/mood' model_version_policy { specific { versions: 4 } }"
    config.write_text(f"model_config_list {{ config {{ name: 'mood' {pinned} }} }}")
    with pytest.raises(ServeError, match=r"models\.config pins versions of \['mood'\]"):
        create_app(tmp_path / "saved_models")


def test_damaged_files_are_named(tmp_path, exports):
    folder = exports.write_mood(tmp_path / "1")
    warmup = folder / "assets.extra" / "tf_serving_warmup_requests"
    warmup.write_bytes(warmup.read_bytes()[:-3])
    with pytest.raises(ServeError, match="tf_serving_warmup_requests.*Expected TFRecords"):
        load_version("mood", 1, folder)
    (folder / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ServeError, match="does not load"):
        load_version("mood", 1, folder)


def test_a_termination_signal_ends_the_server_and_frees_the_port(tmp_path, exports, start_server):
    exports.write_mood(tmp_path / "saved_models" / "mood" / "1")
    exports.write_mood(tmp_path / "saved_models" / "mood" / "2").joinpath("saved_model.pb").write_bytes(b"broken")
    server = start_server(tmp_path / "saved_models", tmp_path / "stderr.txt")
    assert server.first_line.startswith("serving 1 model on ")
    assert "not served: mood, version 2" in server.stderr_path.read_text()
    with Client(server.url) as client:
        assert len(client.predict("mood", ["a"])) == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=40) in (0, -signal.SIGTERM)
        with pytest.raises(ServeError, match="No answer"):
            client.status("mood")
    server.process.stdout.close()
