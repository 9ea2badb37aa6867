"""Which versions are loaded, kept and dropped; loading is a plain function here, without TensorFlow."""

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


def add_version(saved_models, version, content="good"):
    folder = saved_models / "mood" / str(version)
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
    assert "is broken" in store.failures()["mood", 2]
    add_version(saved_models, 2, "mended")
    store.refresh()
    assert states(store) == [("2", "AVAILABLE")] and not store.failures()


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


def test_a_config_that_cannot_be_read_leaves_what_is_loaded(saved_models):
    store = ModelStore(saved_models, load)
    store.refresh()
    bundle.update(saved_models).write_text("model_config_list {")
    add_version(saved_models, 2)
    with pytest.raises(ServeError, match="line 1"):
        store.refresh()
    assert store.find("mood").version == 1
