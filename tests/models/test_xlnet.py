"""XLNet computes what its paper says, whatever else is in the batch; the reference is NumPy alone."""

import math

import keras
import keras_hub
import numpy as np

from kft.models import heads, xlnet

SIZES = {"vocabulary_size": 30, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
LENGTHS = (7, 3, 5)


def backbone_of(**settings):
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.XLNetBackbone(**SIZES, **settings)
    random = np.random.default_rng(0)
    backbone.set_weights([random.normal(scale=0.5, size=w.shape) for w in backbone.get_weights()])
    return backbone


def rows():
    random = np.random.default_rng(1)
    return [(random.integers(1, 30, n), np.arange(n) >= n // 2) for n in LENGTHS]


def batch_of(rows, length):
    def filled(values):
        return np.stack([np.pad(np.asarray(v, np.int32), (0, length - len(v))) for v in values])

    ids, segments = zip(*rows, strict=True)
    mask = [np.ones(len(row), np.int32) for row in ids]
    return {"token_ids": filled(ids), "segment_ids": filled(segments), "padding_mask": filled(mask)}


def by_the_paper(backbone, ids, segments):
    """The hidden states of one row without padding: `(tokens, width)`."""

    def array(weight):
        return np.asarray(keras.ops.convert_to_numpy(weight), np.float64)

    def norm(x, layer):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * array(layer.gamma) + array(layer.beta)

    def dense(x, layer):
        return x @ array(layer.kernel) + array(layer.bias)

    gelu = np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2)
    width, count = SIZES["hidden_dim"], len(ids)
    frequencies = [10000 ** (-2 * k / width) for k in range(width // 2)]

    def position(distance):
        angles = np.array([distance * f for f in frequencies])
        return np.concatenate([np.sin(angles), np.cos(angles)])

    hidden = array(backbone.token_embedding.embeddings)[ids]
    for layer in backbone.transformer_layers:
        attention = layer.relative_attention
        query, key, value, place = (
            array(getattr(attention, f"_{name}_dense").kernel) for name in ("query", "key", "value", "encoding")
        )
        output = array(attention._output_dense.kernel)
        of_content, of_place, of_segment = (
            array(getattr(layer, f"{name}_attention_bias")) for name in ("content", "positional", "segment")
        )
        attended = np.zeros_like(hidden)
        for head in range(SIZES["num_heads"]):
            q, k, v = (hidden @ kernel[:, head] for kernel in (query, key, value))
            scores = np.zeros((count, count))
            for i in range(count):
                for j in range(count):
                    differ = int(segments[i] != segments[j])
                    scores[i, j] = (
                        (q[i] + of_content[head]) @ k[j]
                        + (q[i] + of_place[head]) @ (position(i - j) @ place[:, head])
                        + (q[i] + of_segment[head]) @ array(layer.segment_encoding)[differ, head]
                    ) / math.sqrt(width / SIZES["num_heads"])
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            attended += (shares / shares.sum(-1, keepdims=True)) @ v @ output[:, head].T
        attended = norm(attended + hidden, layer.layer_norm)
        inner = gelu(dense(attended, layer.feedforward_intermediate_dense))
        hidden = norm(dense(inner, layer.feedforward_output_dense) + attended, layer.layer_norm_ff)
    return hidden


def test_each_row_of_a_batch_is_what_the_paper_says():
    backbone = backbone_of()
    xlnet.mend(backbone)
    for length in (max(LENGTHS), 11):
        found = keras.ops.convert_to_numpy(backbone(batch_of(rows(), length)))
        for row, (ids, segments) in enumerate(rows()):
            np.testing.assert_allclose(found[row, : len(ids)], by_the_paper(backbone, ids, segments), atol=1e-5)


def test_one_row_without_padding_is_what_keras_hub_makes_of_it():
    backbone, (row, *_) = backbone_of(), rows()
    before = keras.ops.convert_to_numpy(backbone(batch_of([row], len(row[0]))))
    xlnet.mend(backbone)
    np.testing.assert_allclose(backbone(batch_of([row], len(row[0]))), before, atol=1e-6)


def test_a_head_mends_its_backbone_and_dropout_still_drops():
    model = heads.TokenClassifier(backbone_of(dropout=0.5), num_classes=2)
    network, features = keras.Model(model.input, model.output), batch_of(rows(), 7)
    together = network.predict(features, verbose=0)
    for row, n in enumerate(LENGTHS):
        alone = network.predict({name: value[row : row + 1, :n] for name, value in features.items()}, verbose=0)
        np.testing.assert_allclose(alone[0], together[row, :n], atol=1e-5)
    training = [np.asarray(network(features, training=True)) for _ in range(2)]
    assert np.abs(training[0] - training[1]).max() > 1e-3


def test_other_backbones_stay_as_they_are():
    settings = {**SIZES, "max_sequence_length": 16}
    backbone = keras_hub.models.BertBackbone(**settings)
    xlnet.mend(backbone)
    assert not any("call" in vars(layer) for layer in backbone.layers)
