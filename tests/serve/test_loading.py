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
    servable = load_version("length", 1, exports.seal(folder))
    assert servable.signatures["regress"].method == "tensorflow/serving/regress"
    assert servable.signatures["serving_default"].inputs["text"].shape == (None,)


def link(folder):
    (folder / "assets.extra" / "link").symlink_to("kft.json")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda folder: (folder / "assets.extra" / "kft.json").unlink(), "is no export of kft"),
        (lambda folder: (folder / "assets.extra" / "kft.json").write_text("{}"), "names no sha256"),
        (lambda folder: (folder / "assets.extra" / "kft.json").write_text("[" * 99_999), "cannot be read"),
        (lambda folder: (folder / "variables" / "variables.index").unlink(), "variables.index is missing"),
        (lambda folder: (folder / "more").write_text(""), "more is no part of the export"),
        (lambda folder: (folder / "fingerprint.pb").write_bytes(b""), "fingerprint.pb: its sha256 is not the recorded"),
        (link, "link is a link or no regular file"),
    ],
)
def test_only_whole_exports_of_kft_are_loaded(tmp_path, exports, change, expected):
    folder = exports.write_mood(tmp_path / "1")
    change(folder)
    with pytest.raises(ServeError, match=expected):
        load_version("mood", 1, folder)


def test_a_model_of_others_is_served_when_that_is_asked_for(tmp_path, exports):
    folder = exports.write_mood(tmp_path / "saved_models" / "mood" / "1")
    exports.write_mood(tmp_path / "saved_models" / "other" / "1").joinpath("assets.extra", "kft.json").unlink()
    assert create_app(folder.parents[1]).state.store.names() == ["mood"]
    assert create_app(folder.parents[1], any_saved_model=True).state.store.names() == ["mood", "other"]


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
    with pytest.raises(ServeError, match=r"models\.config pins versions \[4\] of 'mood'; none is there"):
        create_app(tmp_path / "saved_models")


def test_damaged_files_are_named(tmp_path, exports):
    folder = exports.write_mood(tmp_path / "1")
    warmup = folder / "assets.extra" / "tf_serving_warmup_requests"
    warmup.write_bytes(warmup.read_bytes()[:-3])
    with pytest.raises(ServeError, match="tf_serving_warmup_requests.*Expected TFRecords"):
        load_version("mood", 1, folder, any_saved_model=True)
    (folder / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ServeError, match="does not load"):
        load_version("mood", 1, folder, any_saved_model=True)


def test_a_termination_signal_ends_the_server_and_frees_the_port(tmp_path, exports, start_server):
    exports.write_mood(tmp_path / "saved_models" / "mood" / "1")
    exports.write_mood(tmp_path / "saved_models" / "mood" / "2").joinpath("saved_model.pb").write_bytes(b"broken")
    server = start_server(tmp_path / "saved_models", tmp_path / "stderr.txt")
    assert server.first_line.startswith("serving 1 model on ")
    assert "not served: mood, version 2" in server.stderr_path.read_text()
    with Client(server.url) as client:
        assert len(client.predict("mood", ["a"])) == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=40) == 0
        with pytest.raises(ServeError, match="No answer"):
            client.status("mood")
    server.process.stdout.close()
