"""Tables of which only the rows of tokens that occur are trained: the same model, at the cost of what occurs."""

import json

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import kft
from kft.accelerate import passes, sparse_embeddings
from kft.data import cache, store
from kft.models.heads import SequenceClassifier
from kft.text.encoded import Encoded

SMALL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
SIZES = {**SMALL, "max_sequence_length": 16, "vocabulary_size": 40}
GROUPED = {"num_query_heads": 2, "num_key_value_heads": 1, "num_layers": 2, "hidden_dim": 8, "intermediate_dim": 16}
BACKBONES = {
    "albert": lambda: keras_hub.models.AlbertBackbone(**SIZES, embedding_dim=8),
    "bert": lambda: keras_hub.models.BertBackbone(**SIZES),
    "bert in 16 bits": lambda: keras_hub.models.BertBackbone(**SIZES, dtype="mixed_bfloat16"),
    "deberta": lambda: keras_hub.models.DebertaV3Backbone(**SIZES, bucket_size=8),
    "llama": lambda: keras_hub.models.LlamaBackbone(vocabulary_size=40, **GROUPED),
    "roberta": lambda: keras_hub.models.RobertaBackbone(**SIZES),
}


class Encoder:
    pad_values, mask_names = {"token_ids": 1}, ["padding_mask"]


def rows_of(names):
    """Four rows of tokens below 20."""
    ids = np.random.default_rng(0).integers(2, 20, (4, 9))
    features = {"token_ids": ids, **{name: ids * 0 for name in names if name == "segment_ids"}}
    return store.in_memory(Encoded(features, {"": np.array([9, 3, 5, 7])}, np.arange(4)), Encoder)


def facts_of(model, rows):
    return passes.Facts(model, model, "tensorflow", "cpu", [rows])


def outcome(network, features):
    with tf.GradientTape() as tape:
        outputs = network(features)
        total = tf.reduce_sum(tf.square(tf.cast(outputs, tf.float32)) * tf.range(1.0, 4.0))
    variables = network.trainable_variables
    gradients = tape.gradient(total, [variable.value for variable in variables], unconnected_gradients="zero")
    return outputs, {id(v): tf.convert_to_tensor(g) for v, g in zip(variables, gradients, strict=True)}


def test_tokens_of_a_store_are_the_same_when_it_comes_from_the_cache(tmp_path):
    encoded = Encoded({"token_ids": np.array([[5, 7]], np.int32)}, {"": np.array([2])}, np.arange(1))
    made, opened = (cache.cached("key", lambda: iter([encoded]), Encoder, tmp_path) for _ in range(2))
    for rows in (made, opened):
        assert sparse_embeddings.token_ids([rows], ["token_ids"], 9).tolist() == [0, 1, 5, 7]


@pytest.mark.parametrize("name", BACKBONES)
def test_outputs_and_gradients_are_those_of_the_whole_table(name):
    keras.utils.set_random_seed(0)
    backbone = BACKBONES[name]()
    model = SequenceClassifier(backbone, 3, pooling="first", dropout=0.0)
    whole, _ = passes.applied(facts_of(model, []), "first_token")
    (table,) = [variable for variable in model.trainable_variables if variable.shape[0] == 40]
    rows = rows_of(model.input)
    seen = rows.batch(np.arange(4), 9, set(model.input))
    unseen = {**seen, "token_ids": seen["token_ids"] + 20}
    expected, by_table = outcome(whole, seen)
    expected_unseen = whole(unseen)

    network, decisions = passes.applied(facts_of(model, rows), "first_token,sparse_embeddings")
    assert passes.is_applied(decisions, "sparse_embeddings")
    (moving,) = [variable for variable in network.trainable_variables if id(variable) not in by_table]
    found, by_rows = outcome(network, seen)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(network(unseen), expected_unseen)
    gradient = np.zeros(table.shape, np.float32)
    gradient[network.token_ids] = by_rows.pop(id(moving))
    np.testing.assert_allclose(gradient, by_table.pop(id(table)), atol=1e-6)
    assert set(by_rows) == set(by_table)
    for variable, one in by_rows.items():
        np.testing.assert_allclose(one, by_table[variable], atol=1e-6)

    moving.assign(moving + 1)
    before, after = np.array(table), network(seen)
    sparse_embeddings.put_back(network)
    np.testing.assert_array_equal(np.any(np.array(table) != before, axis=1), np.isin(np.arange(40), network.token_ids))
    np.testing.assert_array_equal(whole(seen), after)


@pytest.mark.slow
def test_a_fit_ends_with_the_same_weights(tiny_bert, message_rows, quick, tmp_path, monkeypatch):
    knobs = {**quick, "preset": tiny_bert(tmp_path / "preset", *(f"unused{n}" for n in range(50))), "max_steps": 4}
    weights, losses, networks, put_back = [], [], [], sparse_embeddings.put_back
    monkeypatch.setattr(
        sparse_embeddings, "put_back", lambda network: [networks.append(type(network)), put_back(network)]
    )
    columns = {"text": "text", "label": "topic", "validation": 0.2}
    for accelerate in (True, "-sparse_embeddings"):
        out = tmp_path / f"run{accelerate}"
        kft.fit(message_rows, **columns, deterministic=True, accelerate=accelerate, out=str(out), **knobs)
        weights.append(keras_hub.models.TextClassifier.from_preset(str(out / "preset"), compile=False).get_weights())
        losses.append([json.loads(line)["loss"] for line in (out / "history.jsonl").read_text().splitlines()])
    assert losses[0] == losses[1]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [network is sparse_embeddings.SparseEmbeddings for network in networks] == [True, False]


@pytest.mark.parametrize("name", ["masked", "causal", "all occur", "frozen"])
def test_a_table_that_is_read_otherwise_or_does_not_move_stays_whole(name):
    backbone = keras_hub.models.GPT2Backbone(**SIZES) if name == "causal" else BACKBONES["bert"]()
    head = {"masked": keras_hub.models.BertMaskedLM, "causal": keras_hub.models.GPT2CausalLM}.get(name)
    backbone.trainable = name != "frozen"
    model = head(backbone) if head else SequenceClassifier(backbone, 3, pooling="first")
    rows = rows_of(model.input)
    if name == "all occur":
        rows = store.in_memory(Encoded({"token_ids": np.arange(40)[None]}, {"": np.array([40])}, np.arange(1)), Encoder)
    _, decisions = passes.applied(facts_of(model, rows), "sparse_embeddings")
    (why,) = [one.note for one in decisions if one.name == "sparse_embeddings"]
    assert ("100% of the vocabulary" if name == "all occur" else "no embedding") in why
