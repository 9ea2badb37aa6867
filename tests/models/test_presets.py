import json
import shutil
from pathlib import Path

import keras_hub
import numpy as np
import pytest

from kft.errors import PresetError
from kft.models import heads, presets


def copied(preset, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(preset, tmp_path / "copy")


def refusal(name):
    with pytest.raises(PresetError) as refused:
        preset = presets.find(str(name))
        preset.tokenizer()
        preset.backbone()
    return str(refused.value)


def test_unknown_name_gets_the_nearest_one():
    message = refusal("bert_base_en_uncasd")
    assert "unknown preset 'bert_base_en_uncasd'" in message
    assert "Did you mean 'bert_base_en_uncased'?" in message
    assert "Did you mean 'minilm'?" in refusal("minilmm")


def test_names_of_keras_hub_are_known_without_a_download():
    for name, expected in [
        ("bert_base_en_uncased", keras_hub.models.BertBackbone),
        ("gpt2_base_en", keras_hub.models.GPT2Backbone),
        ("llama3_8b_en", keras_hub.models.Llama3Backbone),
    ]:
        assert presets.find(name).backbone_class is expected


def test_image_preset_is_refused():
    message = refusal("resnet_18_imagenet")
    assert "not a text model" in message
    assert "ResNetBackbone" in message


def test_directory_without_config_names_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    message = refusal(tmp_path)
    assert str(tmp_path) in message
    assert "no config.json (found notes.txt)" in message


def test_broken_config_is_told(tiny_preset, tmp_path):
    copy = copied(tiny_preset, tmp_path)
    (copy / "config.json").write_text("{")
    message = refusal(copy)
    assert str(copy) in message
    assert "config.json: not valid JSON" in message


@pytest.mark.parametrize(
    ("damage", "expected"),
    [(Path.unlink, "cannot be loaded"), (lambda path: path.write_bytes(b"damaged"), "model.weights.h5: not a file of")],
    ids=["missing", "damaged"],
)
def test_weights_that_cannot_be_read_are_told(damage, expected, tiny_preset, tmp_path):
    copy = copied(tiny_preset, tmp_path)
    damage(copy / "model.weights.h5")
    message = refusal(copy)
    assert str(copy) in message
    assert expected in message


def test_missing_words_are_told(tiny_preset, tmp_path):
    copy = copied(tiny_preset, tmp_path)
    for path in copy.rglob("vocabulary.txt"):
        path.unlink()
    assert str(copy) in refusal(copy)


def test_hugging_face_directory_that_nobody_knows_is_told(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "abacus"}))
    assert f"preset {str(tmp_path)!r} cannot be loaded" in refusal(tmp_path)


def test_local_preset_says_what_it_is(tiny_preset):
    preset = presets.find(tiny_preset)
    assert preset.classifier_class() is keras_hub.models.BertTextClassifier
    assert not preset.is_causal()
    backbone = preset.backbone("mixed_bfloat16")
    assert backbone.compute_dtype == "bfloat16"
    assert presets.max_positions(backbone) == 64
    assert presets.count_parameters(backbone) == backbone.count_params()
    assert presets.Preset("gpt2", "gpt2", keras_hub.models.GPT2Backbone).is_causal()


def test_layers_that_are_shared_count_each_time():
    settings = {"vocabulary_size": 50, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
    shared = {"embedding_dim": 16, "num_groups": 1, "num_inner_repetitions": 1, **settings}

    def count(num_layers):
        return presets.count_parameters(keras_hub.models.AlbertBackbone(num_layers=num_layers, **shared))

    apart = [keras_hub.models.BertBackbone(num_layers=n, **settings).count_params() for n in (2, 4)]
    assert count(4) - count(2) == apart[1] - apart[0] > 0


def test_minilm_opens_from_its_package():
    preset = presets.find("minilm")
    model = heads.sequence_model(preset, 2, 16, "float32", seed=0)
    assert presets.count_parameters(model.backbone) == pytest.approx(22.6e6, rel=0.01)
    features = {name: np.ones((1, 4), np.int32) for name in model.input}
    assert np.asarray(model(features)).shape == (1, 2)
    assert preset.tokenizer().id_to_token(101) == "[CLS]"
