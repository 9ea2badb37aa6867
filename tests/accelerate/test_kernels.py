import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from keras_hub.src.utils.keras_utils import gelu_approximate

from kft.accelerate import kernels
from kft.transfer import application

ONES = np.ones((50, 4001), np.float32)


@pytest.mark.parametrize("is_graph", [False, True])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.99])
def test_the_share_that_is_dropped_and_the_mean(rate, is_graph):
    draw = tf.function(kernels.dropped) if is_graph else kernels.dropped
    found = draw(tf.constant(ONES), rate, tf.constant([3, 4])).numpy()
    share = round(rate * 256) / 256
    assert (found == 0).mean() == pytest.approx(share, abs=0.004)
    assert np.unique(found[found > 0]) == pytest.approx(1 / (1 - share))
    assert np.array_equal(found, draw(tf.constant(ONES), rate, tf.constant([3, 4])).numpy())
    assert not np.array_equal(found, draw(tf.constant(ONES), rate, tf.constant([3, 5])).numpy())


def test_gradients_pass_where_the_numbers_did():
    inputs = tf.constant(ONES)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        found = kernels.dropped(inputs, 0.25, tf.constant([1, 2]))
    np.testing.assert_array_equal(tape.gradient(found, inputs), found)


def test_rates_too_small_for_it_stay_with_keras():
    model = keras.Sequential([keras.Input((4001,)), keras.layers.Dropout(0.1), keras.layers.Dropout(0.001)])
    kernels.use(model)
    assert ["call" in vars(layer) for layer in model.layers] == [True, False]
    np.testing.assert_array_equal(model(ONES, training=False), ONES)
    first, second = model.layers[0](ONES, training=True), model.layers[0](ONES, training=True)
    assert not np.array_equal(first, second)
    assert (np.asarray(first) == 0).mean() == pytest.approx(26 / 256, abs=0.004)


def outcome(layer, inputs, is_graph, call=None):
    """Outputs, and gradients by inputs and weights of a weighted sum of them."""

    def run(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = (call or layer)(inputs)
            total = tf.reduce_sum(tf.cast(outputs, tf.float32) * tf.range(1.0, 1.0 + outputs.shape[-1]))
        return outputs, *tape.gradient(total, [inputs, *[weight.value for weight in layer.trainable_weights]])

    return (tf.function(run) if is_graph else run)(inputs)


LAYERS = {
    "norm": lambda **how: keras.layers.LayerNormalization(epsilon=1e-3, **how),
    "dense": lambda **how: keras.layers.Dense(7, **how),
    "tanh": lambda **how: keras.layers.Dense(7, activation="tanh", **how),
    "gelu": lambda **how: keras.layers.Dense(7, activation="gelu", **how),
    "bert": lambda **how: keras.layers.Dense(7, activation=gelu_approximate, **how),
}


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6)])
@pytest.mark.parametrize("is_graph", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_numbers_and_gradients_of_keras(name, is_graph, shape):
    keras.utils.set_random_seed(0)
    layer = LAYERS[name]()
    inputs = tf.constant(3 * np.random.default_rng(0).normal(size=shape), tf.float32)
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    layer.set_weights([weight + np.random.default_rng(1).normal(size=weight.shape) for weight in layer.get_weights()])
    expected = outcome(layer, inputs, is_graph)
    config = layer.get_config()
    kernels.use(model)
    assert "call" in vars(layer)
    assert layer.get_config() == config
    for found, by_keras in zip(outcome(layer, inputs, is_graph), expected, strict=True):
        np.testing.assert_allclose(found, by_keras, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_mixed_precision_stay_in_theirs(name):
    layer = LAYERS[name](dtype="mixed_bfloat16")
    inputs = tf.cast(np.random.default_rng(0).normal(size=(2, 3, 6)), tf.bfloat16)
    model = keras.Sequential([keras.Input((3, 6), dtype="bfloat16"), layer])
    expected = layer(inputs)
    kernels.use(model)
    found = layer(inputs)
    assert found.dtype == expected.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(found, tf.float32), tf.cast(expected, tf.float32), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_of_any_number_of_rows(approximate):
    for count in [1, 7, 8, 9, 33, 100]:
        inputs = tf.constant(np.random.default_rng(count).normal(size=(count, 5)), tf.float32)
        bias = tf.range(-2.0, 3.0)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([inputs, bias])
            found = kernels.gelu(approximate=approximate)(inputs, bias)
            expected = tf.nn.gelu(inputs + bias, approximate)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        for source in (inputs, bias):
            one, other = tape.gradient(found, source), tape.gradient(expected, source)
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_few_programs_are_compiled_for_many_lengths_and_few_rows_added():
    counts = np.arange(1, 4097)
    rounded = kernels.rounded(tf.constant(counts, tf.int32)).numpy()
    assert (rounded >= counts).all() and (rounded <= counts * 5 / 4).all()
    assert len(set(rounded)) < 45


MASKS = {
    "none": None,
    "padding": np.arange(5)[None, None] < np.array([5, 3, 1])[:, None, None],
    "causal": np.tile(np.tri(5, dtype="int32"), (3, 1, 1)),
}
ATTENTION = {
    "of keras": lambda **how: keras.layers.MultiHeadAttention(num_heads=2, key_dim=3, **how),
    "of keras hub": lambda **how: keras_hub.layers.CachedMultiHeadAttention(num_heads=2, key_dim=3, **how),
    "without biases": lambda **how: keras.layers.MultiHeadAttention(num_heads=2, key_dim=3, use_bias=False, **how),
    "of narrow values": lambda **how: keras.layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=2, **how),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("is_graph", [False, True])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_gives_the_numbers_and_gradients_of_keras(name, is_graph, mask):
    keras.utils.set_random_seed(0)
    layer, tokens = ATTENTION[name](), keras.Input((5, 6))
    model = keras.Model(tokens, layer(tokens, tokens))
    random = np.random.default_rng(1)
    layer.set_weights([weight + random.normal(size=weight.shape) for weight in layer.get_weights()])
    inputs = tf.constant(random.normal(size=(3, 5, 6)), tf.float32)

    def attend(inputs):
        return layer(query=inputs, value=inputs, attention_mask=MASKS[mask])

    def attend_to_others(inputs):
        return layer(query=inputs[:, :1], value=inputs, attention_mask=None if mask == "none" else MASKS[mask][:, :1])

    expected = [outcome(layer, inputs, is_graph, call) for call in (attend, attend_to_others)]
    kernels.use(model)
    assert ("call" in vars(layer)) == name.startswith("of keras")
    found = [outcome(layer, inputs, is_graph, call) for call in (attend, attend_to_others)]
    for ours, by_keras in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        np.testing.assert_allclose(ours, by_keras, rtol=2e-5, atol=2e-5)


def test_attention_with_a_cache_stays_with_keras_hub():
    layer, tokens = ATTENTION["of keras hub"](), keras.Input((5, 6))
    model = keras.Model(tokens, layer(tokens, tokens))
    inputs, cache = np.ones((3, 1, 6), "float32"), np.ones((3, 2, 5, 2, 3), "float32")
    expected = layer(inputs, inputs, cache=cache, cache_update_index=2)
    kernels.use(model)
    for found, by_keras in zip(layer(inputs, inputs, cache=cache, cache_update_index=2), expected, strict=True):
        np.testing.assert_allclose(found, by_keras, rtol=1e-6)


def test_a_whole_backbone_gives_the_same_and_saves_the_same(tmp_path):
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=30, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=16
    )
    ids = np.random.default_rng(0).integers(1, 30, (3, 9))
    inputs = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids > 3}
    before, config = backbone(inputs), backbone.get_config()
    kernels.use(backbone)
    after = backbone(inputs)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-5)
    assert backbone.get_config() == config
    backbone.save_to_preset(str(tmp_path / "preset"))
    again = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))(inputs)
    np.testing.assert_allclose(again["sequence_output"], before["sequence_output"], atol=1e-5)


def encoder(dropout=0.1):
    keras.utils.set_random_seed(0)
    sizes = {"num_layers": 3, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32, "max_sequence_length": 16}
    return keras_hub.models.BertBackbone(vocabulary_size=30, dropout=dropout, **sizes)


def trained_on(backbone, steps=2):
    """Outputs and gradients of steps in training, as arrays, and the variables after them."""
    ids = np.random.default_rng(0).integers(1, 30, (3, 9))
    inputs = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": (ids > 3).astype("int32")}
    weights = [weight.value for weight in backbone.trainable_weights]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = backbone(inputs, training=True)["sequence_output"]
            total = tf.reduce_sum(outputs * tf.range(1.0, 17.0))
        return outputs, *map(tf.convert_to_tensor, tape.gradient(total, weights, unconnected_gradients="zero"))

    found = [array for _ in range(steps) for array in step()]
    return [np.asarray(array) for array in [*found, *backbone.variables]]


def test_layers_of_an_encoder_share_a_graph_and_keep_weights_and_dropout_of_their_own(monkeypatch):
    shared = encoder()
    traced, draw = [], kernels.dropped
    monkeypatch.setattr(kernels, "dropped", lambda *how: traced.append(how) or draw(*how))
    kernels.use(shared)
    found = trained_on(shared)
    num_shared = len(traced)
    monkeypatch.setattr(kernels, "_share_graph", lambda layers: None)
    alone = encoder()
    kernels.use(alone)
    expected = trained_on(alone)
    # One dropout of the embeddings, three of each layer.
    assert (num_shared, len(traced) - num_shared) == (1 + 3, 1 + 3 * 3)
    assert np.abs(found[0] - found[len(shared.trainable_weights) + 1]).max() > 0.1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_layers_of_unlike_settings_share_nothing():
    backbone = encoder()
    backbone.transformer_layers[1].dropout = 0.2
    assert [len(alike) for alike in kernels._encoder_layers(backbone)] == [2, 1]


@pytest.mark.parametrize("targets", ["all", "key+feed-forward", "output+value"])
def test_lora_keeps_the_kernels_and_the_numbers_and_gradients(targets):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    sizes = {"vocabulary_size": 20, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    backbone = keras_hub.models.BertBackbone(**sizes, max_sequence_length=12, dropout=0.0)
    model = keras_hub.models.BertTextClassifier(backbone, 2, preprocessor=None, dropout=0.0, compile=False)
    settings = {"lora_alpha": 8.0, "lora_dropout": 0.0, "lora_targets": targets, "lora_variant": "plain"}
    application.apply(model, "lora:2", settings)
    random = np.random.default_rng(0)
    model.set_weights([weight + random.normal(size=weight.shape) / 3 for weight in model.get_weights()])
    features = {name: tf.constant(random.integers(1, 2, (3, 5)), tf.int32) for name in model.input}
    features["token_ids"] = tf.constant(random.integers(2, 20, (3, 5)), tf.int32)

    def found():
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(model(features, training=True) * [1.0, 2.0])
        return [total, *tape.gradient(total, [weight.value for weight in model.trainable_weights])]

    by_keras = found()
    assert kernels.use(model) == []
    assert {type(layer.call.func).__name__ for layer in backbone.transformer_layers} == {
        "function"
    }  # one graph for both
    for one, other in zip(found(), by_keras, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
