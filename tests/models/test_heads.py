import keras
import keras_hub
import numpy as np
import pytest

from kft.models import heads, presets
from kft.models.heads import Pool, SequenceClassifier

SEQUENCE = np.array([[[1.0, 2.0], [3.0, 6.0], [50.0, 50.0]], [[5.0, 7.0], [9.0, 9.0], [1.0, 1.0]]], np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1]], np.int32)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("first", [[1, 2], [5, 7]]), ("last", [[3, 6], [1, 1]]), ("mean", [[2, 4], [5, 17 / 3]])],
)
@pytest.mark.parametrize("mask", [MASK, MASK.astype(bool)], ids=["integers", "bools"])
def test_pooling_by_hand(pooling, expected, mask):
    pool = Pool(pooling)
    np.testing.assert_allclose(pool(SEQUENCE, mask), expected, rtol=1e-6)
    assert pool.compute_output_shape((2, 3, 2)) == (2, 2)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pool))
    assert again.pooling == pooling


def test_mean_of_a_row_of_padding_is_zero():
    assert np.asarray(Pool("mean")(SEQUENCE[:1], MASK[:1] * 0)).tolist() == [[0, 0]]


def test_head_follows_from_the_seed_and_the_backbone_from_its_preset(tiny_preset):
    preset = presets.find(tiny_preset)
    first, same, other = (heads.sequence_model(preset, 3, 16, "float32", seed=seed) for seed in (1, 1, 2))

    def kernel(model):
        return next(np.asarray(v) for v in model.weights if v.path.endswith("logits/kernel"))

    np.testing.assert_array_equal(kernel(first), kernel(same))
    assert np.abs(kernel(first) - kernel(other)).max() > 0
    for found, expected in zip(other.backbone.weights, preset.backbone().weights, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_precision_is_of_the_whole_model_and_a_saved_one_opens_in_another(tiny_preset, tmp_path):
    model = heads.sequence_model(presets.find(tiny_preset), 2, 16, "mixed_bfloat16", seed=0)
    assert model.compute_dtype == "bfloat16"
    assert {weight.dtype for weight in model.weights if weight.trainable} == {"float32"}
    model.save_to_preset(str(tmp_path))
    opened = heads.open_task(str(tmp_path))
    assert opened.compute_dtype == "float32"
    features = {name: np.ones((1, 4), np.int32) for name in model.input}
    np.testing.assert_allclose(opened(features), np.asarray(model(features), np.float32), atol=0.05)


def test_preprocessor_comes_back_with_its_length(tiny_preset, tmp_path):
    heads.sequence_model(presets.find(tiny_preset), 2, 24, "float32", seed=0).save_to_preset(str(tmp_path))
    assert heads.open_task(str(tmp_path)).preprocessor.sequence_length == 24


def test_own_head_keeps_its_settings(tmp_path):
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4, max_sequence_length=8
    )
    model = SequenceClassifier(backbone, 5, pooling="mean", dropout=0.25)
    again = SequenceClassifier.from_config(model.get_config())
    assert (again.num_classes, again.pooling, again.dropout) == (5, "mean", 0.25)
    assert again.output.shape == (None, 5)
