"""Adapters in linear layers: what they compute, where they go, what trains, and what a run keeps of them."""

import json
import shutil
import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
import safetensors.numpy

import kft
from kft.errors import RecipeError, RunError
from kft.models import anatomy, heads, linear
from kft.recipe import Recipe
from kft.transfer import adapters, application, strategies
from tests.models.test_anatomy import FAMILIES, backbone_of

PRODUCTS = {
    "dense": (6,),
    "abc,cde->abde": (2, 3),
    "abcd,cde->abe": (5,),
    "btd,ndh->btnh": (2, 3),
    "ibnd,hnd->ibh": (5,),
    "abc,cd->abd": (5,),
}
SETTINGS = {"lora_alpha": 6.0, "lora_dropout": 0.0, "lora_targets": "all", "lora_variant": "plain"}


def layer_of(product):
    """A built layer with bias and activation, and inputs for it."""
    random = np.random.default_rng(0)
    if product == "dense":
        layer, shape = keras.layers.Dense(6, activation="gelu", name="ffn"), (2, 4, 5)
    else:
        inputs, outputs = product.split(",")[0], product.split("->")[1]
        shape = (2, 4, 5) if len(inputs) == 3 else (2, 4, 2, 3)
        given = [None, *PRODUCTS[product]]
        bias = "".join(axis for axis in outputs if axis not in inputs)
        layer = keras.layers.EinsumDense(product, given, activation="gelu", bias_axes=bias, name="ffn")
    values = keras.ops.convert_to_tensor(random.normal(size=shape), "float32")
    layer(values)
    layer.bias.assign(random.normal(size=layer.bias.shape))
    return layer, values


def array(value):
    return keras.ops.convert_to_numpy(value)


def outputs_of(layer, inputs, **how):
    return array(layer(inputs, **how))


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("how", ["plain", "rslora", "dora", "pissa", "dora+pissa", "ia3", "ia3 of inputs"])
def test_a_layer_begins_as_it_was_and_is_merged_to_the_same(product, how):
    layer, inputs = layer_of(product)
    before, kernel = outputs_of(layer, inputs), array(layer.kernel)
    role = "feed-forward" if how.endswith("inputs") else "value"
    name, argument = ("ia3", None) if how.startswith("ia3") else ("lora", 2)
    if how == "ia3":  # scales what comes before any activation that a key or a value might have
        layer.activation = keras.activations.linear
        before = outputs_of(layer, inputs)
    place = linear.Linear(layer, (role,), "block_1", is_last=True)
    other = linear.Linear(layer_of("dense")[0], ("key",), "block_1")
    further = linear.Linear(
        layer_of("dense")[0], ("value",) if role == "feed-forward" else ("feed-forward",), "b", True
    )
    settings = {**SETTINGS, "lora_variant": how, "lora_targets": role}
    made = strategies.STRATEGIES[name].insert([place, other, further], argument, settings, 0, ())
    adapter = next(one for one in made if one.linear is place)
    np.testing.assert_allclose(outputs_of(layer, inputs), before, atol=2e-6)

    random = np.random.default_rng(1)
    for variable in adapter.part.trainable_variables:
        variable.assign(array(variable) + random.normal(size=variable.shape))
    moved = outputs_of(layer, inputs)
    assert np.abs(moved - before).max() > 0.1 and np.array_equal(array(layer.kernel), kernel)
    assert adapter.part in layer._layers and adapters.merge([adapter]) == []
    assert [v.name for v in layer.variables] == ["kernel", "bias"]
    np.testing.assert_allclose(outputs_of(layer, inputs), moved, rtol=1e-4, atol=1e-4)


def test_alpha_rank_and_the_root_of_it():
    layer, inputs = layer_of("dense")
    layer.activation = keras.activations.linear
    place, before = linear.Linear(layer, ("value",), "block_1"), outputs_of(layer, inputs)
    added = {}
    for variant in ("plain", "rslora"):
        settings = {**SETTINGS, "lora_targets": "value", "lora_variant": variant}
        (adapter,) = strategies.STRATEGIES["lora"].insert([place], 4, settings, 0, ())
        adapter.part.b.assign(np.ones(adapter.part.b.shape))
        added[variant] = outputs_of(layer, inputs) - before
        by_hand = array(inputs) @ array(adapter.part.a) @ array(adapter.part.b)
        np.testing.assert_allclose(added[variant], by_hand * (6 / 4 if variant == "plain" else 6 / 2), rtol=1e-4)
        adapters.take_out(adapter)
    np.testing.assert_array_equal(outputs_of(layer, inputs), before)


def test_dropout_is_of_the_inputs_of_the_matrices_alone():
    layer, inputs = layer_of("dense")
    settings = {**SETTINGS, "lora_targets": "value", "lora_dropout": 0.5}
    place = linear.Linear(layer, ("value",), "block_1")
    (adapter,) = strategies.STRATEGIES["lora"].insert([place], 4, settings, 0, ())
    np.testing.assert_array_equal(outputs_of(layer, inputs, training=True), outputs_of(layer, inputs))  # B is zero
    adapter.part.b.assign(np.ones(adapter.part.b.shape))
    assert np.abs(outputs_of(layer, inputs, training=True) - outputs_of(layer, inputs, training=False)).max() > 0.01


@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables .*mask_emb.* when:UserWarning")
@pytest.mark.parametrize(
    ("family", "transfer"),
    [
        pytest.param(family, transfer, marks=pytest.mark.slow)
        for family in FAMILIES
        for transfer in ("lora:2", "ia3", "adapters:2", "bitfit", "norms", "first:1", "lora:2+norms")
    ],
)
def test_what_trains_in_a_family_is_what_the_table_says(family, transfer):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    backbone = backbone_of(family)
    backbone.set_weights([5 * weight if weight.ndim > 1 else weight for weight in backbone.get_weights()])
    model = heads.TokenClassifier(backbone, 2, dropout=0.0)
    random = np.random.default_rng(0)
    features = {name: np.ones((2, 6), "int32") for name in model.input}
    for name in features:
        if name.endswith("token_ids"):
            features[name] = random.integers(2, 20, (2, 6)).astype("int32")
        if name.startswith("segment"):
            features[name] = np.zeros((2, 6), "int32")
    outputs = np.array(model(features, training=False))
    before = {path: np.array(v) for block in anatomy.blocks(model) for path, v in block.variables.items()}
    lacking = {
        "bitfit": ("T5", "Gemma", "Llama", "Llama3", "Mistral", "Phi3", "Qwen3", "RoformerV2"),
        "ia3": ("FNet", "GPTNeoX"),
    }
    if family in lacking.get(transfer, ()):
        with pytest.raises(RecipeError, match=transfer):
            application.apply(model, transfer, SETTINGS)
        return
    applied = application.apply(model, transfer, SETTINGS)
    np.testing.assert_allclose(np.array(model(features, training=False)), outputs, atol=1e-5)

    chosen = {path for path, rule in applied.rules.items() if not rule.frozen}
    network = keras.Model(model.input, model.output)
    trainable = network.trainable_variables
    variables = {path: v for block in applied.blocks for path, v in block.variables.items()}
    assert {id(variables[path]) for path in chosen} == {id(v) for v in trainable}
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(trainable)
    assert len(optimizer._momentums) == len(chosen)
    network.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = random.integers(0, 2, (2, 6))
    for _ in range(3):
        network.train_on_batch(features, labels)
    for path, variable in variables.items():
        if path in chosen:
            # Softmax takes away what the bias of keys adds to all scores of a row; XLNet masks no token here.
            is_unread = path.endswith(("key/bias", "mask_emb")) or "seed" in path
            assert is_unread or path not in before or not np.array_equal(variable, before[path]), path
        elif path in before and "seed" not in path:
            assert np.array_equal(variable, before[path]), path
    for adapter in applied.adapters:
        gradient_free = {"lora_start_a", "lora_start_b"}
        for variable in adapter.variables:
            is_one_key = adapter.linear.roles == ("key",) and adapter.kind == "ia3"
            start = 1.0 if adapter.kind == "ia3" else 0.0
            assert is_one_key or variable.name in gradient_free or np.any(np.array(variable) != start), variable.path
    trained = np.array(model(features, training=False))
    if transfer != "adapters:2":
        assert adapters.merge(applied.adapters) == []
        np.testing.assert_allclose(np.array(model(features, training=False)), trained, atol=1e-5)
    assert np.abs(trained - outputs).max() > 1e-3


def refused(family, transfer, match, **settings):
    keras.backend.clear_session()
    with pytest.raises(RecipeError, match=match):
        application.apply(heads.TokenClassifier(backbone_of(family), 2), transfer, {**SETTINGS, **settings})


def test_what_a_family_has_not_is_refused_by_name():
    none = "'query' .queries of attention., and this model has none.*roles: feed-forward"
    refused("FNet", "lora:2", none, lora_targets="query")
    refused("GPTNeoX", "lora:2", "query_key_value gives query, key, value in one product", lora_targets="query")
    refused("Bert", "lora:2+last:3", "lora has no layer to go into: all of its target layers train", lora_targets="key")
    refused("Bert", "first:4", "found first:4, expected at most 3")
    refused("Gemma", "bitfit", "bitfit trains biases, and this model has none")
    model = heads.TokenClassifier(backbone_of("Bert"), 2)
    model.backbone.transformer_layers[0]._feedforward_intermediate_dense.quantize("int8")
    with pytest.raises(RecipeError, match="feedforward_intermediate_dense: it is quantized to int8"):
        application.apply(model, "lora:2", SETTINGS)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"lora_alpha": 4}, "lora_alpha is used with transfer=lora:"),
        ({"transfer": "lora:4", "lora_targets": "querry"}, "lora_targets: found 'querry': expected some of query, key"),
        ({"transfer": "lora:4", "lora_variant": "ddora"}, "lora_variant: found 'ddora': expected plain, or some of"),
        ({"transfer": "lora"}, "expected lora:RANK, with a rank, as in lora:8"),
        ({"transfer": "lora:4+ia3"}, "expected one of lora and ia3: a layer takes one adapter"),
        ({"transfer": "full+lora:4"}, "expected full without lora"),
    ],
)
def test_the_recipe_refuses_adapters_that_cannot_be(knobs, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.of(**knobs)


def test_the_recipe_takes_adapters_in_every_form():
    recipe = Recipe.of(transfer="norms + lora:4", lora_targets=["query", "value"], lora_variant="dora+rslora")
    assert (recipe.lora_targets, recipe.lora_variant) == ("query+value", "dora+rslora")


@pytest.fixture(scope="module")
def lora_run(message_rows, quick, tmp_path_factory):
    """A run of LoRA whose every trained variable has moved, its model as trained kept beside it."""
    out = tmp_path_factory.mktemp("runs") / "lora"
    knobs = {"label": "topic", "validation": 0, "epochs": 1, "transfer": "lora:4", "lora_dropout": 0.1}
    return kft.fit(message_rows, out=str(out), **knobs, **quick)


PREDICTING = """
import json, sys, kft
run = kft.load(sys.argv[1])
print(json.dumps([answer["scores"] for answer in run.predict(json.loads(sys.argv[2]))]))
"""


@pytest.mark.slow
def test_a_run_keeps_the_delta_alone_and_merges(lora_run, message_rows, tiny_preset, tiny_bert, tmp_path):
    assert not (lora_run.path / "preset").exists()
    file = lora_run.path / "delta.safetensors"
    with safetensors.safe_open(file, framework="numpy") as opened:
        about, names = json.loads(opened.metadata()["about"]), list(opened.keys())
    assert "model.weights.h5" in about["base"] and set(about["roles"].values()) >= {"query", "feed-forward", "pooler"}
    assert len(names) == 2 * len(about["roles"]) + 2  # A and B of each layer, and the head
    assert lora_run.manifest["forecast"]["trained"] < lora_run.manifest["forecast"]["frozen"]

    base = keras_hub.models.Backbone.from_preset(tiny_preset)
    own = {v.path: v for v in lora_run.model.backbone.weights}
    for weight in base.weights:
        np.testing.assert_array_equal(own[weight.path], weight)
    for variable in lora_run.model.backbone.weights:
        if variable.path.endswith("lora_b"):
            assert np.any(np.array(variable)), variable.path

    texts = [row["text"] for row in message_rows]
    before = lora_run.predict(texts)
    merged = lora_run.merge(tmp_path / "merged")
    assert (merged.path / "preset").is_dir() and not (merged.path / "delta.safetensors").exists()
    for one, other in zip(before, merged.predict(texts), strict=True):
        np.testing.assert_allclose(list(one["scores"].values()), list(other["scores"].values()), atol=1e-5)
    with pytest.raises(RunError, match="holds a whole preset already"):
        merged.merge(tmp_path / "again")
    plain = keras_hub.models.TextClassifier.from_preset(str(merged.path / "preset"), compile=False)
    assert not any("lora" in weight.path for weight in plain.weights)

    wrong = kft.load(lora_run.path, base=tiny_bert(tmp_path / "other", "further"))
    with pytest.raises(
        RunError, match=r"not the base that it was trained on: its .* differ \(.* was .*, and is .* here"
    ):
        wrong.predict(texts)
    shutil.copytree(tiny_preset, tmp_path / "moved")
    (tmp_path / "moved" / "notes.txt").write_text("a file that is none of the base")
    assert kft.load(lora_run.path, base=tmp_path / "moved").predict(texts) == before
    spoilt = tmp_path / "spoilt"
    shutil.copytree(lora_run.path, spoilt)
    with safetensors.safe_open(file, framework="numpy") as opened:
        arrays, metadata = {name: opened.get_tensor(name) for name in names}, opened.metadata()
    arrays[names[0]] = np.full_like(arrays[names[0]], np.nan)
    safetensors.numpy.save_file(arrays, spoilt / "delta.safetensors", metadata=metadata)
    with pytest.raises(RunError, match="delta.safetensors: the weights .* not finite"):
        kft.load(spoilt).predict(texts)
    missing = kft.load(lora_run.path, base=tmp_path / "none")
    with pytest.raises(RunError, match="its base cannot be opened: .* base=...."):
        missing.predict(texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transfer", "knobs"),
    [
        ("lora:4", {}),
        ("lora:4", {"lora_variant": "dora+pissa+rslora", "lora_plus_ratio": 4.0}),
        ("ia3", {}),
        ("bitfit+norms", {}),
        ("adapters:4", {}),
    ],
)
def test_a_run_answers_the_same_in_another_process_and_exported(
    transfer, knobs, message_rows, quick, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    run = kft.fit(
        message_rows, label="topic", epochs=2, validation=0.2, transfer=transfer, out=str(out), **knobs, **quick
    )
    texts = [row["text"] for row in message_rows]
    own = [answer["scores"] for answer in run.predict(texts)]
    command = [sys.executable, "-c", PREDICTING, str(out), json.dumps(texts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == own
    version = run.export(tmp_path / "saved_models" / "topics")
    assert (version / "saved_model.pb").is_file()
    trained = run.manifest["forecast"]["trained"]
    with safetensors.safe_open(out / "delta.safetensors", framework="numpy") as opened:
        held = {name: int(np.prod(opened.get_slice(name).get_shape())) for name in opened.keys()}  # noqa: SIM118
    starts = {name for name in held if "lora_start_" in name}
    assert bool(starts) == ("pissa" in str(knobs))
    assert sum(size for name, size in held.items() if name not in starts) == trained
    if transfer == "adapters:4":
        with pytest.raises(RunError, match="adapters cannot be merged"):
            run.merge(tmp_path / "merged")
    else:
        for one, other in zip(own, run.merge(tmp_path / "merged").predict(texts), strict=True):
            np.testing.assert_allclose(list(one.values()), list(other["scores"].values()), atol=1e-5)
