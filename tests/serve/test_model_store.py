"""Which versions are loaded, kept and dropped; loading is a plain function here, without TensorFlow."""

import os
import shutil

import pytest
from google.protobuf import text_format

from kft.errors import ServeError
from serve import bundle
from serve.contract import Refused
from serve.versions import ModelStore, Servable


def load(model, version, folder):
    """Loads a version whose file says anything but "broken"."""
    if (folder / "saved_model.pb").read_text() == "broken":
        raise ServeError(f"{folder} is broken")
    return Servable(model, version, {}, {}, call=lambda name, inputs: {}, serialise=lambda examples: None)


def add_version(saved_models, version, content="good", model="mood"):
    folder = saved_models / model / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_text(content)


def set_config(saved_models, text):
    path = bundle.update(saved_models)
    config = bundle.read(path)
    text_format.Merge(text, config.model_config_list.config[0])
    path.write_text(text_format.MessageToString(config))


@pytest.fixture
def saved_models(tmp_path):
    folder = tmp_path / "saved_models"
    add_version(folder, 1)
    return folder


def states(store):
    return [(status["version"], status["state"]) for status in store.statuses("mood")["model_version_status"]]


def test_the_newest_number_answers_and_the_old_one_goes(saved_models):
    add_version(saved_models, 9)
    store = ModelStore(saved_models, load)
    store.refresh()
    assert store.find("mood").version == 9
    running = store.find("mood")
    add_version(saved_models, 10)
    store.refresh()
    assert store.find("mood").version == 10 and running.version == 9
    assert states(store) == [("10", "AVAILABLE")]
    with pytest.raises(Refused, match=r"Specific\(mood, 9\)") as refusal:
        store.find("mood", version=9)
    assert refusal.value.http_status == 404


def test_a_broken_version_leaves_the_good_one_and_is_tried_again_once_it_changed(saved_models):
    store = ModelStore(saved_models, load)
    store.refresh()
    add_version(saved_models, 2, "broken")
    store.refresh()
    assert store.find("mood").version == 1
    assert states(store) == [("2", "END"), ("1", "AVAILABLE")]
    (problem,) = store.problems()
    assert problem.startswith("not served: mood, version 2: ") and problem.endswith("is broken")
    add_version(saved_models, 2, "mended")
    store.refresh()
    assert states(store) == [("2", "AVAILABLE")] and not store.problems()


def test_a_start_with_a_broken_newest_version_falls_back_to_the_newest_good_one(saved_models):
    add_version(saved_models, 2)
    add_version(saved_models, 3, "broken")
    store = ModelStore(saved_models, load)
    store.refresh()
    assert store.find("mood").version == 2
    assert states(store) == [("3", "END"), ("2", "AVAILABLE")]


def test_a_removed_model_is_gone(saved_models):
    store = ModelStore(saved_models, load)
    store.refresh()
    (saved_models / "mood" / "1" / "saved_model.pb").unlink()
    store.refresh()
    assert store.names() == []
    with pytest.raises(Refused, match="Could not find any versions of model mood"):
        store.statuses("mood")


def test_policy_and_labels_of_models_config_are_followed(saved_models):
    add_version(saved_models, 2)
    set_config(saved_models, 'model_version_policy { all { } } version_labels { key: "stable" value: 1 }')
    store = ModelStore(saved_models, load)
    store.refresh()
    assert states(store) == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
    assert store.find("mood").version == 2
    assert store.find("mood", label="stable").version == 1
    with pytest.raises(Refused, match="Unrecognized servable version label: canary"):
        store.find("mood", label="canary")


def test_a_pinned_version_is_never_replaced_by_another(saved_models):
    add_version(saved_models, 2, "broken")
    set_config(saved_models, "model_version_policy { specific { versions: 2 } }")
    store = ModelStore(saved_models, load)
    store.refresh()
    assert store.names() == [] and states(store) == [("2", "END")]


def test_a_config_that_cannot_be_read_any_more_holds_as_it_was_read(saved_models):
    add_version(saved_models, 2)
    set_config(saved_models, "model_version_policy { specific { versions: 1 } }")
    add_version(saved_models, 1, model="other")
    store = ModelStore(saved_models, load)
    store.refresh()
    path = bundle.config_path(saved_models)
    add_version(saved_models, 2, model="other")
    for break_it in (lambda: path.write_text("model_config_list {"), lambda: (path.unlink(), os.mkfifo(path))):
        break_it()
        store.refresh()
        assert store.find("mood").version == 1 and store.find("other").version == 2
        assert ["models.config" in problem for problem in store.problems()] == [True]
    with pytest.raises(ServeError, match="not a regular file"):
        ModelStore(saved_models, load).refresh()


def test_what_is_wrong_with_one_folder_is_a_note_and_the_others_go_on(saved_models):
    add_version(saved_models, 1, model="a:b")
    add_version(saved_models, 1, model="vanishing")
    store = ModelStore(saved_models, load)
    store.refresh()
    (saved_models / "vanishing" / "1" / "gone").symlink_to("nowhere")
    add_version(saved_models, 2)
    (saved_models / "vanishing" / "2").mkdir()
    (saved_models / "vanishing" / "2" / "saved_model.pb").write_bytes(b"\xff")  # not what `load` can read
    store.refresh()
    assert store.names() == ["mood", "vanishing"] and store.find("mood").version == 2
    assert store.find("vanishing").version == 1
    colon, odd = store.problems()
    assert "a:b is skipped: the model's name 'a:b' holds ':'" in colon and "vanishing stays as it is" in odd


def test_a_version_whose_files_were_replaced_is_loaded_again(saved_models):
    store = ModelStore(saved_models, load)
    store.refresh()
    first = store.find("mood")
    store.refresh()
    assert store.find("mood") is first
    shutil.rmtree(saved_models / "mood")
    add_version(saved_models, 1)
    store.refresh()
    second = store.find("mood")
    assert second is not first and second.version == 1
    add_version(saved_models, 1, "broken")
    store.refresh()
    assert store.find("mood") is second and "not reloaded: mood, version 1" in store.problems()[0]


def test_errors_that_other_machines_see_hold_no_absolute_path(saved_models):
    add_version(saved_models, 2, "broken")
    store = ModelStore(saved_models, load)
    store.refresh()
    newest = store.statuses("mood")["model_version_status"][0]
    assert newest["status"]["error_message"] == "…/mood/2 is broken"
