"""Presets of strangers: data, never code, and no path but their own."""

import json
import shutil

import h5py
import keras
import numpy as np
import pytest

from kft.accelerate import skip_init
from kft.errors import PresetError
from kft.models import finite, heads, preset_files, presets


@pytest.fixture
def copied(tiny_preset, tmp_path):
    """A preset that a test may forge."""
    return shutil.copytree(tiny_preset, tmp_path / "preset")


def forge(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refusal(path):
    with pytest.raises(PresetError) as refused:
        preset = presets.find(str(path))
        preset.tokenizer()
        preset.backbone()
    assert "\n" not in str(refused.value)
    return str(refused.value)


OUTSIDE = ["../../.bashrc", "/tmp/x.json", "..", "sub/tokenizer.json", "other.json", 5, None]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_preset_does_not_choose_the_files_that_are_written(copied, name):
    forge(copied / "tokenizer.json", lambda config: config["config"].update(config_file=name))
    message = refusal(copied)
    assert "tokenizer.json: config.config_file: found" in message
    assert "expected tokenizer.json" in message


def test_nor_does_one_inside_a_preprocessor_or_a_task(topic_run, tmp_path):
    copy = shutil.copytree(topic_run.path / "preset", tmp_path / "run")

    def change(config):
        config["config"]["preprocessor"]["config"]["tokenizer"]["config"]["config_file"] = "../../x.json"

    forge(copy / "task.json", change)
    with pytest.raises(PresetError, match="task.json: config.preprocessor.config.tokenizer.config.config_file"):
        heads.open_task(str(copy))


CODE = [
    {"module": "evil", "class_name": "Tokenizer", "registered_name": "Tokenizer", "config": {}},
    {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
    {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
    {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "function"},
    {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None},
    {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}, "registered_name": None},
    {"class_name": "__lambda__", "config": {"value": "x"}},
    {"module": "evil", "class_name": "Thing", "registered_name": "keras_hub>Thing", "config": {}},
    {"module": "kft.models.heads", "class_name": "Pool", "registered_name": "kft>Other", "config": {}},
]


@pytest.mark.parametrize("node", CODE, ids=lambda node: f"{node.get('module')}-{node['class_name']}")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_preset_brings_no_code(copied, name, node):
    forge(copied / name, lambda config: config["config"].update(extra=[node]))
    assert "config.extra.0.class_name: found" in refusal(copied)


def test_the_class_of_a_preset_itself_is_checked(copied):
    forge(copied / "tokenizer.json", lambda config: config.update(module="evil"))
    assert "tokenizer.json: class_name: found" in refusal(copied)


@pytest.mark.parametrize("key", ["vocabulary", "merges", "proto"])
def test_a_vocabulary_is_not_read_from_elsewhere(copied, key):
    forge(copied / "tokenizer.json", lambda config: config["config"].update({key: "/etc/passwd"}))
    assert f"config.{key}: found '/etc/passwd', expected null" in refusal(copied)


def test_links_are_refused(copied):
    path = copied / "assets" / "tokenizer" / "vocabulary.txt"
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert "a symbolic link" in refusal(copied)


@pytest.mark.parametrize("shard", ["../x.weights.h5", "/x.weights.h5", "sub/x.weights.h5", "x.json", 1])
def test_shards_are_beside_their_index(copied, shard):
    (copied / "model.weights.json").write_text(json.dumps({"weight_map": {"/layers/a": [shard]}}))
    assert "model.weights.json: weight_map.'/layers/a': found" in refusal(copied)


def test_weights_are_not_taken_from_other_files(copied, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones((3,))
    with h5py.File(copied / "model.weights.h5", "a") as file:
        file["layers/extra"] = h5py.ExternalLink(str(other), "/secret")
    assert "model.weights.h5: '/layers/extra': found ExternalLink" in refusal(copied)


def test_numbers_kept_elsewhere_are_refused(copied, tmp_path):
    (tmp_path / "raw").write_bytes(bytes(64))
    with h5py.File(copied / "model.weights.h5", "a") as file:
        file.create_dataset("raw", (8,), "f8", external=[(str(tmp_path / "raw"), 0, 64)])
    assert "'//raw': found numbers kept in another file" in refusal(copied)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(copied, value):
    with h5py.File(copied / "model.weights.h5", "a") as file:
        names = []
        file.visititems(lambda name, part: names.append(name) if isinstance(part, h5py.Dataset) else None)
        name = next(name for name in names if file[name].ndim == 2)
        file[name][0, 0] = value
    message = refusal(copied)
    assert "hold numbers that are not finite" in message
    assert "the weights " in message


def test_what_a_file_fills_with_nan_is_not_taken_for_unfilled():
    layer = keras.layers.Dense(2)
    with skip_init.by_files():
        layer.build((None, 3))
        layer.kernel.assign(np.full((3, 2), np.nan))
    assert np.isnan(np.asarray(layer.kernel)).all()
    with pytest.raises(PresetError, match="here: the weights dense.*kernel"):
        finite.require(layer, "here", PresetError)


def test_more_pieces_than_rows_are_refused_by_the_tokenizer_alone(copied):
    path = copied / "assets" / "tokenizer" / "vocabulary.txt"
    path.write_text(path.read_text() + "one\ntwo\n")
    with pytest.raises(PresetError, match=r"its tokenizer has \d+ pieces, its config.json \d+ rows"):
        presets.find(str(copied)).tokenizer()


def test_a_pointer_of_git_lfs_is_told(copied):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (copied / "model.weights.h5").write_text(pointer)
    assert "found a pointer of Git LFS, expected the file itself. Fetch it with: git lfs pull" in refusal(copied)


def test_presets_of_kft_itself_pass(topic_run):
    preset_files.check(str(topic_run.path / "preset"))
