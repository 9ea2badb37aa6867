import keras
import numpy as np
import pytest
import tensorflow as tf

from kft.training import dropout

ONES = np.ones((50, 4001), np.float32)


@pytest.mark.parametrize("is_graph", [False, True])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.99])
def test_the_share_that_is_dropped_and_the_mean(rate, is_graph):
    draw = tf.function(dropout.dropped) if is_graph else dropout.dropped
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
        found = dropout.dropped(inputs, 0.25, tf.constant([1, 2]))
    np.testing.assert_array_equal(tape.gradient(found, inputs), found)


def test_layers_keep_their_config_and_their_rest_in_inference():
    layer = keras.layers.Dropout(0.1, seed=5)
    model = keras.Sequential([keras.Input((4001,)), layer, keras.layers.Dropout(0.001)])
    config = layer.get_config()
    dropout.make_cheap(model)
    assert layer.get_config() == config
    np.testing.assert_array_equal(model(ONES, training=False), ONES)
    first, second = model.layers[0](ONES, training=True), model.layers[0](ONES, training=True)
    assert not np.array_equal(first, second)
    assert (np.asarray(first) == 0).mean() == pytest.approx(26 / 256, abs=0.004)
    assert "call" not in vars(model.layers[1])
