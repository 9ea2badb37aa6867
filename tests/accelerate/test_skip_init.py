import keras
import keras_hub
import numpy as np

from kft.accelerate import skip_init
from kft.models import presets


def tiny_backbone():
    keras.utils.set_random_seed(0)
    return keras_hub.models.BertBackbone(
        vocabulary_size=20, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=8
    )


def test_a_preset_is_read_without_drawing_what_it_overwrites(tiny_preset, monkeypatch):
    drawn = []
    draw = keras.initializers.TruncatedNormal.__call__
    monkeypatch.setattr(
        keras.initializers.TruncatedNormal,
        "__call__",
        lambda self, shape, dtype=None: drawn.append(shape) or draw(self, shape, dtype),
    )
    backbone = presets.find(tiny_preset).backbone()
    assert not drawn
    assert all(np.any(weight) for weight in backbone.weights if weight.path.endswith(("kernel", "embeddings")))
    tiny_backbone()
    assert drawn


def test_what_no_file_fills_gets_the_random_numbers_it_always_had():
    expected = tiny_backbone().get_weights()
    with skip_init.by_files():
        backbone = tiny_backbone()
        table = backbone.get_layer("token_embedding").embeddings
        table.assign(np.ones(table.shape))
    for weight, value in zip(backbone.weights, expected, strict=True):
        np.testing.assert_array_equal(weight, np.ones(weight.shape) if weight is table else value)


def test_zeros_of_a_file_stay_zeros(tmp_path):
    before = tiny_backbone()
    table = before.get_layer("token_embedding").embeddings
    table.assign(np.zeros(table.shape))
    before.save_to_preset(str(tmp_path / "preset"))
    with skip_init.by_files():
        after = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    assert not np.any(after.get_layer("token_embedding").embeddings)
