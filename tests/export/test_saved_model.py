"""Where an export goes, what its version is called, and what is written beside it."""

import shutil
import threading
from pathlib import Path

import pytest

import kft
from kft.errors import ExportError
from kft.export import saved_model


@pytest.mark.slow
def test_a_failed_export_leaves_nothing(topic_run, tmp_path):
    run = kft.load(shutil.copytree(topic_run.path, tmp_path / "run"))
    with (run.path / "labels.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ExportError, match="labels.json: its sha256 is not the recorded one"):
        run.export(tmp_path / "saved_models" / "topics")
    assert list((tmp_path / "saved_models").iterdir()) == []
    assert not (tmp_path / "serve").exists()


def test_a_place_that_cannot_be_written_is_refused(topic_run, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="cannot be written: .*file is not a folder. Choose another path."):
        topic_run.export(tmp_path / "file" / "topics")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a:b", "holds ':'"), (".hidden", "begins with a dot"), ("a\nb", "control character"), ("a" * 300, "too long")],
)
def test_a_name_that_cannot_be_served_is_refused(topic_run, tmp_path, name, expected):
    with pytest.raises(ExportError, match=expected):
        topic_run.export(tmp_path / "saved_models" / name)
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_cannot_be_read_is_refused_before_the_export(topic_run, tmp_path):
    (tmp_path / "serve").mkdir()
    config = tmp_path / "serve" / "models.config"
    config.write_text("model_config_list {")
    with pytest.raises(ExportError, match="models.config, line 1, .* Nothing was exported."):
        topic_run.export(tmp_path / "saved_models" / "topics")
    assert not (tmp_path / "saved_models").exists() and config.read_text() == "model_config_list {"


def made_by_hand(folder):
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "saved_model.pb").write_bytes(b"")
    return folder


def test_only_a_folder_named_saved_models_has_a_config_beside_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    saved_model._announce(made_by_hand(Path("mymodel")))
    assert "no serve/models.config was written, since work/ is not named saved_models/" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*.config")] == []
    saved_model._announce(made_by_hand(Path("saved_models", "topics")))
    assert capsys.readouterr().err == "" and (tmp_path / "work" / "serve" / "models.config").is_file()


def test_once_a_version_is_published_the_rest_is_a_warning(tmp_path, capsys):
    model_dir = made_by_hand(tmp_path / "saved_models" / "topics")
    (tmp_path / "serve").write_text("mine")
    saved_model._announce(model_dir)
    warned = capsys.readouterr().err
    assert warned.startswith("note: the version is published, but") and warned.count("\n") == 1


def test_a_version_number_is_never_used_again(tmp_path):
    assert saved_model._next_version(tmp_path) == 1
    for name in ("00000004", "²", "latest", ".tmp-9"):
        (tmp_path / name).mkdir()
    assert saved_model._next_version(tmp_path) == 5
    (tmp_path / ".partial").mkdir()
    published = saved_model._publish(tmp_path / ".partial", tmp_path)
    assert published.name == "5" and saved_model._next_version(tmp_path) == 6
    published.rmdir()
    assert saved_model._next_version(tmp_path) == 6
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(ExportError, match="is the last that 64 bits hold"):
        saved_model._next_version(tmp_path)


def test_a_second_export_into_a_folder_waits_for_the_first(tmp_path, monkeypatch):
    entered, is_waiting = [], threading.Event()
    monkeypatch.setattr(saved_model, "_warn", lambda text: is_waiting.set())

    def second():
        with saved_model._alone(tmp_path):
            entered.append("second")

    thread = threading.Thread(target=second)
    with saved_model._alone(tmp_path):
        thread.start()
        assert is_waiting.wait(timeout=60)
        entered.append("first")
    thread.join(timeout=60)
    assert entered == ["first", "second"]
