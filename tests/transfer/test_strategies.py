"""Which variables train under each strategy, and at which rates: by the rules, and by what one update moves."""

import keras
import keras_hub
import numpy as np
import pytest

from kft.errors import RecipeError
from kft.losses.objective import Objective, Term
from kft.models import anatomy, heads
from kft.recipe import Recipe
from kft.training import devices, trainers
from kft.transfer import application, rules

SMALL = {"vocabulary_size": 20, "num_layers": 3, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
SIZES = {
    "Bert": {**SMALL, "max_sequence_length": 12},
    "Albert": {**SMALL, "max_sequence_length": 12, "embedding_dim": 4},
    "GPT2": {**SMALL, "max_sequence_length": 12},
    "T5": SMALL,
    "Bart": {**SMALL, "max_sequence_length": 12},
}
PEAK, HEAD = 0.01, 5.0


def model_of(family, kind):
    keras.utils.set_random_seed(0)
    backbone = getattr(keras_hub.models, f"{family}Backbone")(**SIZES[family])
    if kind == "SequenceClassifier":
        return heads.SequenceClassifier(backbone, 2, pooling="mean")
    further = {"num_classes": 2} if kind == "TextClassifier" else {}
    return getattr(keras_hub.models, f"{family}{kind}")(backbone, preprocessor=None, compile=False, **further)


def rates(blocks, ruled):
    """For each block in which something trains, the rates there."""
    found = {}
    for block in blocks:
        own = {ruled[path].rate for path in block.variables if path in ruled and not ruled[path].frozen}
        if own:
            found[block.name] = own.pop() if len(own) == 1 else own
    return found


BERT = {"embeddings": 1, "block_1": 1, "block_2": 1, "block_3": 1, "pooler": 1, "head": HEAD}
UPPER = {"block_3": 1, "pooler": 1, "head": HEAD}
ENCODER = {f"encoder_block_{number}": 1 for number in (1, 2, 3)}
DECODER = {f"decoder_block_{number}": 1 for number in (1, 2, 3)}


# KerasHub's T5 says of its attention that it does not support masking.
@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
@pytest.mark.parametrize(
    ("family", "kind", "transfer", "expected"),
    [
        ("Bert", "TextClassifier", "full", BERT),
        ("Bert", "TextClassifier", "features", {"head": HEAD}),
        ("Bert", "TextClassifier", "last:1", UPPER),
        ("Bert", "TextClassifier", "layers:pool*+layers:block_3", UPPER),
        ("Bert", "TextClassifier", "layer_decay:0.5", {**BERT, "block_2": 0.5, "block_1": 0.25, "embeddings": 0.125}),
        ("Bert", "TextClassifier", "last:2 + layer_decay:0.5", {**UPPER, "block_2": 0.5}),
        ("Bert", "MaskedLM", "full", {name: rate for name, rate in BERT.items() if name != "pooler"}),
        ("Albert", "TextClassifier", "last:1", {"shared_block_1": 1, "pooler": 1, "head": HEAD}),
        ("GPT2", "CausalLM", "last:1", {"block_3": 1, "final_norm": 1}),
        ("GPT2", "SequenceClassifier", "features", {"head": HEAD}),
        (
            *("T5", "SequenceClassifier", "full+layer_decay:0.5"),
            {
                **{"embeddings": 0.125, "encoder_block_1": 0.25, "encoder_block_2": 0.5, "encoder_block_3": 1},
                **{"encoder_final_norm": 1, "head": HEAD},
            },
        ),
        ("Bart", "Seq2SeqLM", "last:4", {"encoder_block_3": 1, **DECODER}),
        ("Bart", "SequenceClassifier", "last:3", {**ENCODER, "head": HEAD}),
    ],
)
def test_one_update_moves_what_the_rules_say_at_their_rates(family, kind, transfer, expected):
    keras.backend.clear_session()
    model = model_of(family, kind)
    model.backbone.trainable = True
    blocks = anatomy.blocks(model)
    ruled = application.rules(transfer, blocks, HEAD)
    assert rates(blocks, ruled) == expected
    rules.freeze(blocks, ruled)

    network = keras.Model(model.input, {"logits": model.output})
    recipe = Recipe.of(warmup_steps=0, weight_decay=0, max_grad_norm=0)
    objective, chosen = Objective((Term("any", lambda outputs, targets: 0.0),)), devices.choose("none", "float32")
    rule_of = rules.rule_of(blocks, ruled)
    trainer = trainers.prepare(network, objective, recipe, chosen, peak=PEAK, batches_per_epoch=10, rule_of=rule_of)
    optimizer = trainer.learner.optimizer
    before = {path: np.array(v) for block in blocks for path, v in block.variables.items()}
    random = np.random.default_rng(0)
    trainable = network.trainable_variables
    optimizer.apply([keras.ops.convert_to_tensor(random.normal(size=v.shape), "float32") for v in trainable])
    for block in blocks:
        for path, variable in block.variables.items():
            moved = np.abs(np.array(variable).astype("float64") - before[path])
            if path in ruled and not ruled[path].frozen:  # by its rate, as the first update of Adam
                np.testing.assert_allclose(moved, PEAK * ruled[path].rate, rtol=1e-2, err_msg=path)
            else:
                assert not moved.any(), path
    trained = sum(not rule.frozen for rule in ruled.values())
    slots = (optimizer._momentums, optimizer._velocities)
    assert [len(slot) for slot in slots] == [trained, trained]


def test_only_kernels_decay_and_a_pattern_takes_parts_of_blocks():
    blocks = anatomy.blocks(model_of("Bert", "TextClassifier"))
    ruled = application.rules("layers:*layer_norm/*", blocks)
    for path, rule in ruled.items():
        assert rule.decay == path.endswith("/kernel")
        assert rule.frozen != ("layer_norm/" in path or path.startswith("logits/"))
    plans = {plan.name: plan.text() for plan in rules.planned(blocks, [ruled], 1e-4)}
    assert plans["block_1"].startswith("transformer_layer_0: 600 parameters, 32 of them trained at 0.0001")
    assert plans["embeddings"].startswith("token_embedding, position_embedding, …: ")
    assert plans["pooler"] == "pooled_dense: 72 parameters, frozen"


def test_what_a_model_has_not_is_refused_with_what_it_has():
    blocks = anatomy.blocks(model_of("Bert", "TextClassifier"))
    with pytest.raises(
        RecipeError, match="found last:4, expected at most 3, as there are blocks: block_1, block_2, bl"
    ):
        application.rules("last:4", blocks)
    with pytest.raises(
        RecipeError, match=r"layers:blok_\* matches no block .* are: embeddings, block_1, .*, head\. Path"
    ):
        application.rules("layers:blok_*", blocks)
    unread = anatomy.blocks(model_of("Bert", "MaskedLM"))
    with pytest.raises(RecipeError, match="layers:pooler matches no block"):
        application.rules("layers:pooler", unread)
    with pytest.raises(RecipeError, match="'features' leaves nothing to train"):
        application.rules("features", anatomy.blocks(model_of("GPT2", "CausalLM")))


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ("lasst:2", "found 'lasst:2': expected full or features or last:N or first:N or layers:.* Did you mean 'last'"),
        ("last", "expected last:N, with a number of blocks, as in last:2"),
        ("last:0", "expected last:N"),
        ("last:-1", "expected last:N"),
        ("full:2", "expected full, with nothing after it"),
        ("layers:", "expected layers:PATTERN"),
        ("layer_decay:1.5", "expected layer_decay:RATE, with a number above 0, at most 1"),
        ("layer_decay:nan", "expected layer_decay:RATE"),
        ("full+last:2", "expected full without last"),
        ("last:2+last:2", "expected each strategy once"),
        ("layer_decay:0.9+layer_decay:0.8", "expected each strategy once"),
        ("features+layer_decay:0.9", "expected one of the two"),
        ("", "expected full or features"),
    ],
)
def test_the_recipe_refuses_what_is_no_strategy(transfer, message):
    with pytest.raises(RecipeError, match=f"^transfer: .*{message}"):
        Recipe.of(transfer=transfer)


@pytest.mark.parametrize(
    "transfer", ["full", "features", "last:12", "layers:*kernel+layers:pooler", "full+layer_decay:1"]
)
def test_the_recipe_takes_strategies_as_they_are_written(transfer):
    assert Recipe.of(transfer=transfer).transfer == transfer
