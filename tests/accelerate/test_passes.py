"""The list of passes: what they decide, how they are switched off, and that a fit learns the same with and without."""

import json

import keras
import keras_hub
import numpy as np
import pytest

import kft
from kft.accelerate import kernels, passes
from kft.accelerate.overrides import has_own_call, replace_call
from kft.data import store
from kft.errors import RecipeError
from kft.recipe import Recipe
from kft.text.encoded import Encoded

NAMES = [one.name for one in passes.PASSES]


class Encoder:
    pad_values, mask_names = {"token_ids": 0, "segment_ids": 0, "padding_mask": 0}, ["padding_mask"]


def model_of(**settings):
    keras.utils.set_random_seed(0)
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16, "max_sequence_length": 16}
    backbone = keras_hub.models.BertBackbone(vocabulary_size=40, **sizes, **settings)
    return keras_hub.models.BertTextClassifier(backbone, 3, dropout=settings.get("dropout", 0.1))


def facts_of(model, **others):
    ids = np.arange(1, 19).reshape(2, 9)
    rows = store.in_memory(
        Encoded({"token_ids": ids, "segment_ids": ids * 0}, {"": np.array([9, 5])}, np.arange(2)), Encoder
    )
    return passes.Facts(model, model, **{"backend": "tensorflow", "platform": "cpu", "stores": [rows], **others})


def notes(decisions):
    return {one.name: one.note for one in decisions if not one.is_applied}


def test_what_can_be_applied_is():
    _, decisions = passes.applied(facts_of(model_of()))
    assert passes.summary(decisions) == ", ".join(NAMES)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (
            {"stores": ()},
            {"sparse_embeddings": "for training", "kernels": "for training", "fused_adam": "for training"},
        ),
        ({"platform": "gpu"}, {"kernels": "for TensorFlow on CPUs"}),
        ({"backend": "jax"}, {"kernels": "for TensorFlow on CPUs", "fused_adam": "for TensorFlow"}),
        ({"is_collated_anew": True}, {"sparse_embeddings": "the tokens of a row are others in each epoch"}),
    ],
)
def test_what_cannot_be_says_why(others, expected):
    assert notes(passes.applied(facts_of(model_of(), **others))[1]) == expected


def test_several_devices_of_tensorflow_need_the_fused_update():
    for asked in (False, "-fused_adam", "kernels"):
        with pytest.raises(RecipeError, match="several devices.*Leave fused_adam on"):
            passes.applied(facts_of(model_of(), num_devices=2), asked)
    passes.applied(facts_of(model_of(), num_devices=2, stores=()), False)
    passes.applied(facts_of(model_of(), num_devices=2, backend="jax"), False)


def test_layers_that_were_changed_keep_what_they_do_and_are_named():
    """As an adapter changes them: a kernel in its place would drop it without a word."""
    model = model_of(dropout=0.0)
    dense = model.backbone.transformer_layers[0]._feedforward_intermediate_dense
    replace_call(dense, lambda layer, inputs, **how: type(layer).call(layer, inputs) + 1.0)
    features = {name: np.ones((2, 9), "int32") for name in model.input}
    expected = model(features)
    facts = facts_of(model)
    network, decisions = passes.applied(facts)
    assert next(one.note for one in decisions if one.name == "kernels") == "not of 1 Dense"
    np.testing.assert_allclose(network(features), expected, atol=1e-5)
    assert "1 Dense" in passes.summary(decisions)


def test_layers_of_a_derived_class_stay_with_keras_and_are_named():
    class Louder(keras.layers.Dense):
        pass

    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), Louder(4)])
    given, left = kernels.kernels_for(network)
    assert [layer for layer, _ in given] == network.layers[:1]
    assert left == network.layers[1:]


def test_without_passes_the_layers_are_plain():
    model = model_of()
    network, decisions = passes.applied(facts_of(model), False)
    assert passes.summary(decisions) == f"none; not {', '.join(NAMES)}: switched off"
    assert type(network) is type(keras.Model(model.input, model.output))
    assert all(has_own_call(layer) for layer in network._flatten_layers())


@pytest.mark.parametrize(
    ("given", "expected", "names"),
    [
        (True, True, NAMES),
        ("false", False, []),
        ([], False, []),
        ("kernels, fused_adam", "kernels,fused_adam", ["kernels", "fused_adam"]),
        (["kernels"], "kernels", ["kernels"]),
        ("-kernels", "-kernels", [name for name in NAMES if name != "kernels"]),
        (["-kernels", "-fused_adam"], "-kernels,-fused_adam", ["first_token", "sparse_embeddings"]),
    ],
)
def test_the_knob_has_one_form_however_it_is_given(given, expected, names, tmp_path):
    recipe = Recipe.of(accelerate=given)
    assert recipe.accelerate == expected
    assert passes.names_of(recipe.accelerate) == set(names)
    for file in ("recipe.yaml", "recipe.json"):
        recipe.write(tmp_path / file)
        assert Recipe.read(tmp_path / file) == recipe
    assert Recipe.of(accelerate=str(recipe.accelerate)).accelerate == expected  # as a shell gives it


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("kernel", "Did you mean 'kernels'?"),
        ("kernels,-fused_adam", "found both"),
        ("", "no pass is called"),
        (3, "expected true, false or names"),
        ([1], "names of passes in the list"),
    ],
)
def test_other_values_are_refused(given, message):
    with pytest.raises(RecipeError, match=message.replace("?", "[?]")):
        Recipe.of(accelerate=given)


def losses_of(run):
    lines = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def fitted(preset, rows, quick, folder, accelerate):
    """The losses of a few steps, without dropout, whose draws differ."""
    knobs = {**quick, "preset": preset, "max_steps": 4, "learning_rate": 1e-3, "validation": 0}
    applied = passes.applied

    def applied_without_dropout(facts, asked):
        for layer in facts.network._flatten_layers():
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        return applied(facts, asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "applied", applied_without_dropout)
        run = kft.fit(rows, text="text", label="topic", accelerate=accelerate, out=str(folder / "run"), **knobs)
    return losses_of(run)


@pytest.fixture(scope="module")
def roomy_bert(tiny_bert, tmp_path_factory):
    """A preset of so many tokens that most are not in the rows."""
    path = tmp_path_factory.mktemp("presets") / "roomy"
    return tiny_bert(path, *(f"unused{number}" for number in range(100)))


@pytest.fixture(scope="module")
def plain_losses(roomy_bert, message_rows, quick, tmp_path_factory):
    return fitted(roomy_bert, message_rows, quick, tmp_path_factory.mktemp("plain"), False)


@pytest.mark.slow
def test_all_passes_together_learn_what_none_does(plain_losses, roomy_bert, message_rows, quick, tmp_path):
    losses = fitted(roomy_bert, message_rows, quick, tmp_path, True)
    assert losses == pytest.approx(plain_losses, abs=1e-4)
    assert abs(losses[-1] - losses[0]) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_pass_alone_learns_what_none_does(name, plain_losses, roomy_bert, message_rows, quick, tmp_path):
    assert fitted(roomy_bert, message_rows, quick, tmp_path, name) == pytest.approx(plain_losses, abs=1e-4)


@pytest.mark.slow
def test_a_plan_says_which_apply(roomy_bert, message_rows, quick):
    knobs = {**quick, "preset": roomy_bert, "text": "text", "label": "topic", "accelerate": "-kernels"}
    del knobs["quiet"]
    (line,) = [text for name, text in kft.plan(message_rows, **knobs).lines() if name == "accelerate"]
    assert line == "first_token, sparse_embeddings, fused_adam; not kernels: switched off"
