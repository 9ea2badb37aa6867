"""Classifiers whose last layer is computed for the first token alone: the same outputs and gradients as of all."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kft.accelerate import first_token
from kft.accelerate.overrides import replace_call
from kft.models.heads import SequenceClassifier

SMALL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16, "max_sequence_length": 16}
SIZES = {**SMALL, "vocabulary_size": 30}
MODELS = {
    "bert": lambda: keras_hub.models.BertTextClassifier(keras_hub.models.BertBackbone(**SIZES), 3),
    "distil_bert": lambda: keras_hub.models.DistilBertTextClassifier(keras_hub.models.DistilBertBackbone(**SIZES), 3),
    "roberta": lambda: keras_hub.models.RobertaTextClassifier(keras_hub.models.RobertaBackbone(**SIZES), 3),
    "xlm_roberta": lambda: keras_hub.models.XLMRobertaTextClassifier(keras_hub.models.XLMRobertaBackbone(**SIZES), 3),
    "electra": lambda: SequenceClassifier(
        keras_hub.models.ElectraBackbone(30, **SMALL, embedding_dim=8), 3, pooling="first"
    ),
}
OTHERS = {
    "mean": lambda: SequenceClassifier(keras_hub.models.BertBackbone(**SIZES), 3, pooling="mean"),
    "shared layers": lambda: keras_hub.models.AlbertTextClassifier(
        keras_hub.models.AlbertBackbone(**SIZES, embedding_dim=8), 3
    ),
    "decoder": lambda: SequenceClassifier(keras_hub.models.GPT2Backbone(**SIZES), 3, pooling="last"),
}


def features_of(model):
    ids = np.random.default_rng(0).integers(1, 30, (4, 9))
    mask = np.arange(9) < np.array([[9], [1], [5], [7]])
    features = {"token_ids": ids * mask, "segment_ids": ids * 0, "padding_mask": mask}
    return {name: features[name] for name in model.input}


def outcome(network, variables, features):
    """Outputs, and the gradients of a sum of them by these variables."""
    with tf.GradientTape() as tape:
        outputs = network(features, training=False)
        total = tf.reduce_sum(tf.square(outputs) * tf.range(1.0, 4.0))
    gradients = tape.gradient(total, [variable.value for variable in variables], unconnected_gradients="zero")
    return outputs, [tf.convert_to_tensor(gradient) for gradient in gradients]


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_those_of_all_tokens(name):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    features, variables = features_of(model), model.trainable_variables
    expected, by_all = outcome(keras.Model(model.input, model.output), variables, features)
    network = first_token.apply(model, model)
    found, by_first = outcome(network, variables, features)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for variable, one, other in zip(variables, by_first, by_all, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=variable.path)


@pytest.mark.parametrize("name", MODELS)
def test_only_the_network_computes_less(name):
    model = MODELS[name]()
    dense = model.backbone.transformer_layers[-1]._feedforward_intermediate_dense
    whole, shapes = dense.call, []
    dense.call = lambda inputs, **how: shapes.append(inputs.shape) or whole(inputs, **how)
    network, features = first_token.apply(model, model), features_of(model)
    network(features, training=True)
    model(features)
    model.backbone(features)
    assert shapes == [(4, 1, 8), (4, 9, 8), (4, 9, 8)]


@pytest.mark.parametrize("name", OTHERS)
def test_where_other_tokens_are_read_all_are_computed(name):
    model = OTHERS[name]()
    assert first_token.unfit(model, model)


def test_a_layer_that_was_changed_and_a_network_of_more_outputs_are_left_alone():
    model = MODELS["bert"]()
    assert first_token.unfit(model, model) is None
    more = keras.Model(model.input, {"label": model.output, "tokens": model.backbone.output["sequence_output"]})
    assert "outputs" in first_token.unfit(more, model)
    layer = model.backbone.transformer_layers[-1]
    first_token.apply(model, model)(features_of(model))
    assert first_token.unfit(model, model) is None  # kft's own replacement, which is there only within its network
    replace_call(layer, lambda layer, inputs, **how: inputs)
    assert "its own" in first_token.unfit(model, model)
