"""Blocks that start from new random weights: which they are, by which seed, and where it has no meaning."""

import keras
import keras_hub
import numpy as np
import pytest

import kft
from kft.errors import RecipeError
from kft.models import anatomy, heads
from kft.transfer import application, rules

SMALL = {"vocabulary_size": 20, "num_layers": 3, "hidden_dim": 8, "intermediate_dim": 16}
PLACED = {**SMALL, "num_heads": 2, "max_sequence_length": 12}
SIZES = {
    "Bert": PLACED,
    "Albert": {**PLACED, "embedding_dim": 4},
    "DebertaV3": {**PLACED, "bucket_size": 4},
    "GPT2": PLACED,
    "Llama": {**SMALL, "num_query_heads": 2, "num_key_value_heads": 1},
    "T5": {**SMALL, "num_heads": 2},
}
RENEWED = {
    "Bert": {"block_2", "block_3", "pooler"},
    "DebertaV3": {"block_2", "block_3"},
    "GPT2": {"block_2", "block_3", "final_norm"},
    "Llama": {"block_2", "block_3", "final_norm"},
    "T5": {"encoder_block_2", "encoder_block_3", "encoder_final_norm"},
}


def model_of(family):
    """A classifier whose backbone has weights that no initializer gives."""
    keras.utils.set_random_seed(0)
    backbone = getattr(keras_hub.models, f"{family}Backbone")(**SIZES[family])
    backbone.set_weights([weight + 1.0 for weight in backbone.get_weights()])
    return heads.SequenceClassifier(backbone, 2, pooling="mean")


def renewed(family, transfer, seed=0):
    """What `apply` gives, the numbers of all variables after it, and the blocks in which one was moved by it."""
    model = model_of(family)
    before = {id(v): np.array(v) for v in model.variables}
    applied = application.apply(model, transfer, seed=seed)
    moved = {
        block.name
        for block in applied.blocks
        for v in block.variables.values()
        if not np.array_equal(before[id(v)], np.array(v))
    }
    return applied, {path: np.array(v) for b in applied.blocks for path, v in b.variables.items() if v.trainable}, moved


# KerasHub's T5 says of its attention that it does not support masking.
@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
@pytest.mark.parametrize("family", RENEWED)
def test_the_last_blocks_and_what_is_above_them_begin_as_their_family_does(family):
    applied, numbers, moved = renewed(family, "reinit_top:2")
    expected = RENEWED[family] - ({"pooler"} if family == "Bert" else set())  # a mean of tokens reads no pooler
    assert moved == applied.renewed == expected
    for block in applied.blocks:
        for path, variable in block.variables.items():
            if block.name in expected and len(variable.shape) > 1:
                assert abs(numbers[path].mean()) < 0.5, path  # pretrained, it is about 1
    (note,) = applied.notes
    assert note.endswith("start from new random weights, drawn by seed 0")
    assert all(name in note for name in expected)


def test_a_classifier_begins_its_pooler_anew_too_and_the_plan_says_so():
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(**PLACED)
    model = keras_hub.models.BertTextClassifier(backbone, preprocessor=None, num_classes=2, compile=False)
    applied = application.apply(model, "reinit_top:2+layer_decay:0.5")
    assert applied.renewed == RENEWED["Bert"]
    plans = {p.name: p.text() for p in rules.planned(applied.blocks, [applied.rules], 1e-4, (), applied.renewed)}
    assert plans["block_2"].endswith("trained at 5e-05, from new random weights")
    assert plans["block_1"].endswith("trained at 2.5e-05")


def test_the_seed_decides_and_no_other_draws_are_disturbed():
    _, first, _ = renewed("Bert", "reinit_top:1")
    _, again, _ = renewed("Bert", "reinit_top:1")
    _, other, _ = renewed("Bert", "reinit_top:1", seed=1)
    assert all(np.array_equal(first[path], again[path]) for path in first)
    differing = {path.split("/")[0] for path in first if not np.array_equal(first[path], other[path])}
    assert differing == {"transformer_layer_2"}
    kernels = [
        numbers for path, numbers in first.items() if path.startswith("transformer_layer_2") and "kernel" in path
    ]
    assert len({numbers.ravel()[0] for numbers in kernels}) == len(kernels)
    model = model_of("Bert")
    keras.utils.set_random_seed(7)
    expected = np.random.random()
    keras.utils.set_random_seed(7)
    application.apply(model, "reinit_top:1")
    assert np.random.random() == expected


@pytest.mark.parametrize(
    ("family", "transfer", "message"),
    [
        ("Bert", "reinit_top:4", "found reinit_top:4, expected at most 3, as there are blocks: block_1, "),
        ("Bert", "last:1+reinit_top:2", "reinit_top:2 gives block_2 new random weights, .* Ask for full or last:2"),
        ("Bert", "bitfit+reinit_top:1", "reinit_top:1 gives block_3 new random weights"),
        ("Albert", "reinit_top:1", "shared_block_1 is applied 3 times"),
    ],
)
def test_what_has_no_meaning_is_refused(family, transfer, message):
    with pytest.raises(RecipeError, match=message):
        application.apply(model_of(family), transfer)


def test_adapters_do_not_stand_on_blocks_that_know_nothing():
    settings = {**kft.Recipe.of(transfer="lora:2").adapter_settings}
    with pytest.raises(RecipeError, match="reinit_top:1 gives block_3 new random weights, which have to train"):
        application.apply(model_of("Bert"), "lora:2+reinit_top:1", settings)
    applied = application.apply(model_of("Bert"), "lora:2+last:1+reinit_top:1", settings)
    assert {adapter.linear.block for adapter in applied.adapters} == {"block_1", "block_2"}


def test_a_fit_records_it_and_refuses_it_without_pretrained_weights(message_rows, quick, tmp_path):
    asked = {"label": "topic", "max_steps": 1, "validation": 0, "transfer": "reinit_top:1"}
    run = kft.fit(message_rows, out=str(tmp_path / "run"), **asked, **{**quick, "learning_rate": 1e-7})
    note = "block_2, pooler: start from new random weights, drawn by seed 0"
    assert note in run.manifest["notes"]
    before = keras_hub.models.Backbone.from_preset(quick["preset"])
    after = {block.name: block for block in anatomy.blocks(run.model)}
    pairs = {block.name: zip(block.variables.values(), after[block.name].variables.values(), strict=True)
             for block in anatomy.blocks(before)}  # fmt: skip
    far = {name for name, both in pairs.items() for old, new in both
           if old.trainable and np.abs(np.array(old) - np.array(new)).max() > 1e-3}  # fmt: skip
    assert far == {"block_2", "pooler"}
    with pytest.raises(RecipeError, match="begins the top anew of a pretrained model, with preset scratch:bert"):
        kft.plan(message_rows, **{**asked, "preset": "scratch:bert"})


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ("features+reinit_top:1", "features trains no layer, so reinit_top would have no effect"),
        ("reinit_top:1+reinit_top:2", "expected each strategy once"),
        ("reinit_top", "expected reinit_top:N, with a number of blocks"),
    ],
)
def test_the_recipe_refuses_it_before_a_model_is_read(transfer, message):
    with pytest.raises(RecipeError, match=f"^transfer: .*{message}"):
        kft.Recipe.of(transfer=transfer)
