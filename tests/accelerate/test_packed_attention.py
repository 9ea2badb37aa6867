"""Rows on one line get the outputs and gradients that they get alone, in every family that packing allows."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kft.accelerate import packed_attention
from kft.errors import PresetError
from kft.models.presets import Preset

VOCABULARY = 40
SMALL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
WITH_POSITIONS = {**SMALL, "max_sequence_length": 24}
GROUPED = {"num_layers": 2, "num_query_heads": 2, "num_key_value_heads": 1, "hidden_dim": 16, "intermediate_dim": 32}
FALCON = {"num_layers": 2, "num_attention_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
SLIDING = {**GROUPED, "head_dim": 8, "use_sliding_window_attention": True, "sliding_window_size": 3}
SMOL = {
    **{"num_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_dim": 16, "intermediate_dim": 32},
    **{"attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "layer_norm_epsilon": 1e-6},
    **{"rope_layer_enabled_list": [True, False], "layer_types": ["full_attention"] * 2, "rope_theta": 1e4},
    **{"max_position_embeddings": 24, "partial_rotary_factor": 1.0},
}
CASES = {
    "GPT2": ("GPT2", WITH_POSITIONS),
    "OPT": ("OPT", WITH_POSITIONS),
    "Bloom": ("Bloom", SMALL),
    "GPTNeoX": ("GPTNeoX", SMALL),
    "Falcon": ("Falcon", FALCON),
    "Llama": ("Llama", GROUPED),
    "Llama3": ("Llama3", GROUPED),
    "Mistral": ("Mistral", {**GROUPED, "sliding_window": 3}),
    "Mixtral": ("Mixtral", {**GROUPED, "num_experts": 2, "top_k": 1, "sliding_window": 3}),
    "Gemma": ("Gemma", {**GROUPED, "head_dim": 8}),
    "Gemma 2": ("Gemma", {**SLIDING, "attention_logit_soft_cap": 50.0, "use_post_attention_norm": True}),
    "Phi3": ("Phi3", GROUPED),
    "Qwen": ("Qwen", GROUPED),
    "Qwen3": ("Qwen3", {**GROUPED, "head_dim": 8}),
    "SmolLM3": ("SmolLM3", SMOL),
}
QUICK = {"GPT2", "OPT", "Llama", "Gemma 2"}
LENGTHS = (5, 3, 4)


def model_of(case):
    keras.utils.set_random_seed(0)
    family, settings = CASES[case]
    backbone = getattr(keras_hub.models, f"{family}Backbone")(vocabulary_size=VOCABULARY, **settings)
    backbone.set_weights([10 * weight if weight.ndim > 1 else weight for weight in backbone.get_weights()])
    return getattr(keras_hub.models, f"{family}CausalLM")(backbone=backbone, preprocessor=None)


def rows():
    random = np.random.default_rng(0)
    return [random.integers(1, VOCABULARY, length) for length in LENGTHS]


def on_one_line():
    """All rows on one line of 14 tokens, and a line of the last row alone."""
    of_rows = rows()
    ids, row_ids = np.zeros((2, 14), int), np.zeros((2, 14), int)
    ids[0, :12], row_ids[0, :12] = np.concatenate(of_rows), np.repeat([1, 2, 3], LENGTHS)
    ids[1, :4], row_ids[1, :4] = of_rows[2], 1
    return {"token_ids": ids, "padding_mask": (row_ids > 0).astype(int), "row_ids": row_ids}


def logits_of(network):
    return lambda features, training: network(features, training=training)["logits"]


def outcome(network, features, wanted, variables):
    """The logits that are wanted of these features, and the gradients of a sum of them."""
    with tf.GradientTape() as tape:
        logits = tf.boolean_mask(network(features, training=False), wanted)
        total = tf.reduce_sum(tf.square(logits) * tf.range(1.0, VOCABULARY + 1.0))
    found = tape.gradient(total, [v.value for v in variables], unconnected_gradients="zero")
    return logits, [tf.convert_to_tensor(gradient).numpy() for gradient in found]


@pytest.mark.parametrize("case", [pytest.param(c, marks=[] if c in QUICK else pytest.mark.slow) for c in CASES])
def test_rows_on_a_line_are_as_alone(case):
    model = model_of(case)
    length = max(LENGTHS)
    mask = np.arange(length) < np.array([*LENGTHS, LENGTHS[2]])[:, None]
    ids = np.stack([np.pad(row, (0, length - len(row))) for row in [*rows(), rows()[2]]])
    alone = {"token_ids": ids, "padding_mask": mask.astype(int)}
    expected, by_rows = outcome(keras.Model(model.input, model.output), alone, mask, model.trainable_variables)
    packed, network = on_one_line(), packed_attention.network(model, 1)
    found, by_lines = outcome(logits_of(network), packed, packed["row_ids"] > 0, model.trainable_variables)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    largest = max(np.abs(gradient).max() for gradient in by_rows)
    for variable, one, other in zip(model.trainable_variables, by_lines, by_rows, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * largest, err_msg=variable.path)
    # Without row_ids the rows would see each other: the comparison above can tell.
    plain = {name: packed[name] for name in ("token_ids", "padding_mask")}
    assert np.abs(model(plain, training=False) - logits_of(network)(packed, False))[0, 5:12].max() > 1e-2
    assert len(network.trainable_variables) == len(model.trainable_variables)


def test_every_family_of_the_list_is_compared():
    assert set(packed_attention.DECODERS) <= {family for family, _ in CASES.values()}


def test_a_model_that_cannot_keep_rows_apart_is_refused():
    with pytest.raises(PresetError, match="packing: found a BartBackbone.* Leave packing out; expected .*: GPT2, OPT"):
        packed_attention.refuse_others(Preset("bart", "bart", keras_hub.models.BartBackbone))
    packed_attention.refuse_others(Preset("llama", "llama", keras_hub.models.Llama3Backbone))
