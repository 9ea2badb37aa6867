import keras
import numpy as np

from kft.data import store
from kft.text.encoded import Encoded
from kft.training import devices, inference


class Encoder:
    pad_values, mask_names = {"token_ids": 0}, ()


class Traced(keras.layers.Layer):
    """Counts how often it is traced: Python code runs then only."""

    num_traces = 0

    def call(self, inputs):
        self.num_traces += 1
        return inputs


def test_one_trace_serves_batches_of_every_shape():
    lengths = np.arange(2, 25)
    ids = np.random.default_rng(0).integers(1, 30, (len(lengths), 24))
    rows = store.in_memory(Encoded({"token_ids": ids}, {"": lengths}, np.arange(len(lengths))), Encoder)
    tokens, traced = keras.Input((None,), dtype="int32", name="token_ids"), Traced()
    outputs = keras.layers.Dense(3)(traced(keras.layers.Embedding(30, 4)(tokens))[:, 0])
    network = keras.Model({"token_ids": tokens}, {"logits": outputs})
    expected = [network({"token_ids": ids[row : row + 1, :length]})["logits"][0] for row, length in enumerate(lengths)]
    before, chosen = traced.num_traces, devices.choose("none", "float32")
    for batch_size in (4, 5):
        np.testing.assert_allclose(inference.outputs(network, rows, chosen, batch_size)["logits"], expected, atol=1e-6)
    assert traced.num_traces == before + 1
