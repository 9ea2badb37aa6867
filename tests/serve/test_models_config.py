"""`models.config` and `compose.yaml`: what the bundle writes, keeps and refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from kft.errors import ServeError
from serve import bundle, folders

ROOT = Path(bundle.__file__).parents[1]

# https://www.tensorflow.org/tfx/serving/serving_config and `tensorflow_model_server --help`
DOCUMENTED_FLAGS = {
    "--model_config_file",
    "--model_config_file_poll_wait_seconds",
    "--allow_version_labels_for_unavailable_models",
    "--enable_batching",
    "--enable_profiler",
}


def add_export(saved_models, name, version):
    folder = saved_models / name / str(version)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    return folder


@pytest.fixture
def saved_models(tmp_path):
    folder = tmp_path / "saved_models"
    add_export(folder, "mood", 2)
    add_export(folder, "length", 10)
    return folder


def models(path):
    return {model.name: model for model in bundle.read(path).model_config_list.config}


def test_every_model_with_a_finished_version_is_listed_by_name(saved_models):
    add_export(saved_models, "mood", 10)
    add_export(saved_models, "unnumbered", "latest")
    add_export(saved_models, "padded", "00000002")
    add_export(saved_models, "odd", "²")
    add_export(saved_models, "a:b", 1)
    add_export(saved_models, ".tmp-mood", 1)
    (saved_models / "empty" / "1").mkdir(parents=True)
    (saved_models / "note.txt").write_text("not a model")
    path = bundle.update(saved_models)
    assert path == saved_models.parent / "serve" / "models.config"
    config = text_format.Parse(path.read_text(), ModelServerConfig())
    assert [(m.name, m.base_path, m.model_platform) for m in config.model_config_list.config] == [
        ("length", "/models/length", "tensorflow"),
        ("mood", "/models/mood", "tensorflow"),
        ("padded", "/models/padded", "tensorflow"),
    ]
    found = folders.find(saved_models)
    assert list(found.models["mood"]) == [2, 10] and list(found.models["padded"]) == [2]
    (note,) = found.notes
    assert "a:b is skipped: the model's name 'a:b' holds ':'" in note


def test_nothing_is_written_when_nothing_changed(saved_models):
    path = bundle.update(saved_models)
    path.write_text("# mine\n" + path.read_text())
    before = path.stat()
    bundle.update(saved_models)
    assert path.read_text().startswith("# mine\n") and path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_mode & 0o777 == 0o644
    names = [".models.config.lock", "compose.yaml", "models.config"]
    assert sorted(child.name for child in path.parent.iterdir()) == names


def test_edits_by_hand_are_kept_and_models_that_are_gone_are_dropped(saved_models):
    path = bundle.update(saved_models)
    config = bundle.read(path)
    length, mood = config.model_config_list.config
    mood.model_version_policy.specific.versions.append(2)
    mood.version_labels["stable"] = 2
    config.model_config_list.config.add(name="other", base_path="/elsewhere/other", model_platform="tensorflow")
    path.write_text(text_format.MessageToString(config))
    (saved_models / "length" / "10" / "saved_model.pb").unlink()
    add_export(saved_models, "fresh", 1)
    bundle.update(saved_models)
    assert list(models(path)) == ["fresh", "mood", "other"]
    assert models(path)["mood"] == mood
    assert length.name == "length"


def test_a_file_that_cannot_be_read_is_left_and_its_line_is_named(saved_models):
    path = bundle.update(saved_models)
    broken = "model_config_list {\n  config {\n    nam: 'mood'\n  }\n}\n"
    path.write_text(broken)
    with pytest.raises(ServeError, match=r"models\.config, line 3, column \d+.*nam.*Correct that line"):
        bundle.update(saved_models)
    assert path.read_text() == broken
    path.write_text("custom_model_config { }")
    with pytest.raises(ServeError, match="custom_model_config"):
        bundle.update(saved_models)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ServeError, match="cannot be read"):
        bundle.update(saved_models)
    path.unlink()
    os.mkfifo(path)
    for refused in (bundle.update, bundle.check):
        with pytest.raises(ServeError, match="not a regular file"):
            refused(saved_models)


def test_a_place_that_is_missing_or_taken_is_refused(saved_models, tmp_path):
    with pytest.raises(ServeError, match="is not a folder"):
        bundle.update(tmp_path / "missing")
    (saved_models.parent / "serve").write_text("mine")
    for refused in (bundle.update, bundle.check):
        with pytest.raises(ServeError, match="serve cannot be written"):
            refused(saved_models)


ADD = """
import sys
from pathlib import Path
from serve import bundle, folders

ROOT = Path(bundle.__file__).parents[1]
saved_models, name = Path(sys.argv[1]), sys.argv[2]
for number in range(int(sys.argv[3])):
    folder = saved_models / f"{name}{number}" / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    bundle.update(saved_models)
"""


def test_updates_at_once_lose_no_model(saved_models):
    command = [sys.executable, "-c", ADD, str(saved_models)]
    together = [subprocess.Popen([*command, name, "30"], cwd=ROOT) for name in ("a", "b")]
    assert [process.wait(60) for process in together] == [0, 0]
    names = {f"{name}{number}" for name in "ab" for number in range(30)}
    assert names < set(models(bundle.config_path(saved_models)))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", [10]),
        ("latest { num_versions: 2 }", [10, 2]),
        ("all { }", [10, 2, 1]),
        ("specific { versions: 2 versions: 5 }", [2]),
    ],
)
def test_version_policies(policy, expected):
    text = f"model_config_list {{ config {{ model_version_policy {{ {policy} }} }} }}"
    config = text_format.Parse(text, ModelServerConfig()).model_config_list.config[0]
    assert bundle.wanted_versions(config, [1, 2, 10]) == expected


def test_compose_is_put_beside_the_config_once(saved_models, tmp_path):
    out = tmp_path / "out"
    bundle.update(saved_models, out)
    compose = out / "compose.yaml"
    assert compose.read_text() == Path(bundle.__file__).with_name("compose.yaml").read_text()
    compose.write_text("mine")
    bundle.update(saved_models, out)
    assert compose.read_text() == "mine"


def test_compose_serves_the_config_on_this_machine_only():
    compose = yaml.safe_load(Path(bundle.__file__).with_name("compose.yaml").read_text())
    service = compose["services"]["serving"]
    assert service["image"] == "tensorflow/serving:2.20.0"
    flags = dict(flag.split("=") for flag in service["command"])
    assert set(flags) <= DOCUMENTED_FLAGS
    assert flags["--model_config_file"] == "/serve/models.config"
    assert flags["--enable_batching"] == "false"
    assert service["volumes"] == ["${SAVED_MODELS:-../saved_models}:/models:ro", ".:/serve:ro"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert {port.rsplit(":", 1)[1] for port in service["ports"]} == {"8500", "8501"}
