"""Training with what the frozen layers give kept on disk is training without, on every form of network."""

import json
from types import SimpleNamespace

import keras
import keras_hub
import numpy as np
import pytest

from kft.accelerate import passes
from kft.data import store
from kft.data.store import Aligned
from kft.data.streams import Stream
from kft.losses.objective import Objective, Term, ones
from kft.losses.row_losses import crossentropy
from kft.models import anatomy, encoders, heads
from kft.recipe import Recipe
from kft.text.encoded import Encoded
from kft.training import devices, loop, prefix_cache, trainers
from kft.transfer import application, prefix, rules

SMALL = {"vocabulary_size": 30, "num_layers": 3, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16, "dropout": 0}
PLACED = {**SMALL, "max_sequence_length": 16}
GROUPED = {**SMALL, "num_query_heads": 2, "num_key_value_heads": 1}
SIZES = {
    "Bert": PLACED,
    "Roberta": PLACED,
    "Albert": {**PLACED, "embedding_dim": 4, "num_groups": 3},
    "DebertaV3": {**PLACED, "bucket_size": 4},
    "T5": SMALL,
    "Bart": PLACED,
    "GPT2": PLACED,
    "FNet": {name: size for name, size in PLACED.items() if name != "num_heads"},
    "XLNet": SMALL,
    "Llama": {name: size for name, size in GROUPED.items() if name != "num_heads"},
}
ROWS = 20
DEVICES = devices.choose("none", "float32")
OBJECTIVE = Objective((Term("label", lambda outputs, targets: crossentropy(outputs["logits"], targets["label"])),))


def of_tokens(outputs, targets):
    losses = crossentropy(keras.ops.reshape(outputs["logits"], (-1, 2)), keras.ops.reshape(targets["tag"], (-1,)))
    losses = keras.ops.reshape(losses, keras.ops.shape(targets["tag"])) * keras.ops.cast(targets["is_real"], "float32")
    return keras.ops.sum(losses, 1)


def model_of(family, kind):
    keras.utils.set_random_seed(0)
    backbone = getattr(keras_hub.models, f"{family}Backbone")(**SIZES[family])
    backbone.set_weights([5 * weight if weight.ndim > 1 else weight for weight in backbone.get_weights()])
    if kind == "tag":
        return heads.TokenClassifier(backbone, 2, dropout=0.0)
    hub_class = getattr(keras_hub.models, f"{family}TextClassifier", None)
    if hub_class is None:
        return heads.SequenceClassifier(backbone, 2, pooling="mean", dropout=0.0)
    return hub_class(backbone, preprocessor=None, num_classes=2, dropout=0.0)


def rows_of(network, seed=0):
    """Rows of different lengths, or of one where the network has no mask."""
    random = np.random.default_rng(seed)
    masks = [name for name in network.input if name.endswith("padding_mask")]
    groups = [name.removesuffix("padding_mask") for name in masks] or [""]
    lengths = {group: random.integers(3, 13, ROWS) if masks else np.full(ROWS, 12) for group in groups}
    names = [name for name in network.input if name not in masks]
    features = {name: random.integers(1, 2 if "segment" in name else 30, (ROWS, 12)).astype(np.int32) for name in names}
    encoder = SimpleNamespace(pad_values=dict.fromkeys([*names, *masks], 0), mask_names=masks)
    return store.in_memory(Encoded(features, lengths, np.arange(ROWS)), encoder)


def stream_of(rows, kind):
    random = np.random.default_rng(1)
    if kind == "tag":
        count = int(next(iter(rows.offsets.values()))[-1])
        tags, group = random.integers(0, 2, count).astype(np.int32), next(iter(rows.offsets))
        targets = {"tag": Aligned(tags, group, 0), "is_real": Aligned(np.ones(count, np.int32), group, 0)}
    else:
        targets = {"label": random.integers(0, 2, ROWS).astype(np.int32)}
    return Stream(rows, targets, {"label": np.ones(ROWS, np.float32)}, {"label": ones(targets, rows)})


def trained(family, kind, transfer, folder, is_asked=True, **knobs):
    """The loss of each step, the variables by path, those that train, and what is said of the cache."""
    folder.mkdir()
    model = model_of(family, kind)
    blocks = anatomy.blocks(model)
    ruled = application.rules(transfer, blocks)
    rules.freeze(blocks, ruled)
    network = keras.Model(model.input, {"logits": model.output})
    rows = rows_of(network)
    is_trained = prefix.trained_in(blocks, ruled)
    frontier = prefix_cache.frontier_of(network, model, is_trained, [rows], DEVICES, is_asked=is_asked)
    facts = passes.Facts(frontier.network, model, DEVICES.backend, DEVICES.platform, [rows])
    network, _ = passes.applied(facts)
    objective = OBJECTIVE if kind == "classify" else Objective((Term("label", of_tokens),))
    recipe = Recipe.of(batch_size=4, epochs=3, warmup_steps=0, **knobs)
    trainer = trainers.prepare(
        network,
        objective,
        recipe,
        DEVICES,
        peak=1e-2,
        batches_per_epoch=5,
        rule_of=rules.rule_of(blocks, ruled),
        micro_batches=2,
    )
    if frontier.cache:
        rows = frontier.cache.store(rows, lambda note: pytest.fail(note))
    loop.train(trainer, {"train": stream_of(rows, kind)}, run_dir=folder, validate=None, best_by="accuracy", quiet=True)
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    variables = {path: v for block in blocks for path, v in block.variables.items() if "seed" not in path}
    return (
        np.array([record["loss"] for record in records]),
        {path: np.array(v) for path, v in variables.items()},
        {path for path, v in variables.items() if is_trained(v)},
        frontier.text,
    )


def compared(family, kind, transfer, folder):
    losses, found, trains, text = trained(family, kind, transfer, folder / "kept")
    assert text.startswith("outputs of the frozen layers are computed once and kept, "), text
    expected, others, _, other_text = trained(family, kind, transfer, folder / "not", is_asked=False)
    assert other_text == "none: switched off"
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)
    pretrained = [v for block in anatomy.blocks(model_of(family, kind)) for v in block.variables.values()]
    pretrained = [np.array(v) for v in pretrained if "seed" not in v.path]
    for (path, values), other, before in zip(found.items(), others.values(), pretrained, strict=True):
        if path in trains:
            np.testing.assert_allclose(values, other, atol=1e-3, err_msg=path)
        else:
            assert (values == before).all() and (other == before).all(), path
    return text


def test_training_on_what_is_kept_is_training_on_all(tmp_path):
    text = compared("Bert", "classify", "last:1", tmp_path)
    assert text.endswith("and in memory: each epoch is spared 63% of the products of a forward pass")


@pytest.mark.slow
# KerasHub's T5 says of its attention that it does not support masking.
@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
@pytest.mark.parametrize("transfer", ["features", "last:1", "last:2"])
@pytest.mark.parametrize("kind", ["classify", "tag"])
@pytest.mark.parametrize("family", SIZES)
def test_every_family_trains_the_same_on_what_is_kept(family, kind, transfer, tmp_path):
    if (family, transfer) == ("T5", "last:2"):  # the one frozen layer gives the positions of all
        assert "depends on how far a batch is padded" in trained(family, kind, transfer, tmp_path / "kept")[-1]
    else:
        compared(family, kind, transfer, tmp_path)


@pytest.mark.slow
def test_a_layer_that_is_shared_is_not_cut(tmp_path):
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.AlbertBackbone(**{**SIZES["Albert"], "num_groups": 1})
    model = keras_hub.models.AlbertTextClassifier(backbone, preprocessor=None, num_classes=2)
    blocks = anatomy.blocks(model)
    ruled = application.rules("last:1", blocks)
    rules.freeze(blocks, ruled)
    network = keras.Model(model.input, {"logits": model.output})
    found = prefix_cache.frontier_of(network, model, prefix.trained_in(blocks, ruled), [rows_of(network)], DEVICES)
    assert found.cache is None and found.text == "none: it would spare 2% of the products of a forward pass"


def test_nothing_is_cut_where_all_trains_or_the_rules_freeze_nothing_that_costs():
    for transfer, text in (
        ("full", ""),
        ("layers:block_*", ""),
        ("layers:block_1+layers:block_3", "none: no layer that costs much is below all that train"),
    ):
        model = model_of("Bert", "tag")
        blocks = anatomy.blocks(model)
        ruled = application.rules(transfer, blocks)
        rules.freeze(blocks, ruled)
        network = keras.Model(model.input, {"logits": model.output})
        found = prefix_cache.frontier_of(network, model, prefix.trained_in(blocks, ruled), [rows_of(network)], DEVICES)
        assert found.network is network and found.cache is None and found.text == text


def test_the_frozen_part_is_computed_as_in_inference_and_dropout_stays_where_it_trains():
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(**{**PLACED, "dropout": 0.5})
    model = keras_hub.models.BertTextClassifier(backbone, preprocessor=None, num_classes=2, dropout=0.5)
    network = keras.Model(model.input, {"logits": model.output})
    features = rows_of(network).batch(np.arange(ROWS), 12)
    cut = prefix.cut_of(network, lambda variable: variable.path.startswith("logits"))
    assert [call.operation.name for call in cut.upper] == ["classifier_dropout", "logits"]
    apart = cut.network()
    whole = network(features, training=False)["logits"]
    np.testing.assert_allclose(apart(features, training=False)["logits"], whole, atol=1e-6)
    first, second = (np.array(apart(features, training=True)["logits"]) for _ in range(2))
    assert not np.allclose(first, second)  # by the dropout of the head
    cut = prefix.cut_of(network, lambda variable: variable.path.startswith(("logits", "pooled_dense")))
    rate, model.get_layer("classifier_dropout").rate = model.get_layer("classifier_dropout").rate, 0.0
    assert rate == 0.5
    np.testing.assert_allclose(cut.network()(features, training=True)["logits"], whole, atol=1e-6)


@pytest.mark.slow
def test_texts_beside_each_other_are_kept_each_by_its_own_length(tmp_path):
    keras.utils.set_random_seed(0)
    encoder = encoders.SentenceEncoder(keras_hub.models.BertBackbone(**PLACED), pooling_mode="mean")
    network = encoders.side_by_side(encoder, 2)
    rows = rows_of(network)
    is_trained = prefix.trained_in(anatomy.blocks(encoder), {})
    assert not any(is_trained(variable) for variable in network.variables)
    top = {id(v) for v in encoder.backbone.get_layer("transformer_layer_2").variables}
    found = prefix_cache.frontier_of(network, encoder, lambda v: id(v) in top, [rows], DEVICES)
    assert sorted(found.cache.cut.kept) == ["pair_prefix_0", "prefix_0"]
    kept = found.cache.store(rows, lambda note: pytest.fail(note))
    every = np.arange(ROWS)[::-1]
    expected = network(rows.batch(every, 12), training=False)
    answers = found.network(kept.batch(every, 12, list(found.network.input)), training=False)
    for name, values in expected.items():
        np.testing.assert_allclose(answers[name], values, atol=1e-5)


def frontier_of(network, rows, name="top"):
    return prefix_cache.frontier_of(network, None, lambda v: v.path.startswith(name), [rows], DEVICES)


@pytest.mark.slow
def test_what_depends_on_the_padding_is_not_kept_nor_read(tmp_path):
    keras.utils.set_random_seed(0)
    ids, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "padding_mask"))
    inputs, top = {"token_ids": ids, "padding_mask": mask}, keras.layers.Dense(2, name="top")
    vectors = keras.layers.Dense(8, name="below")(keras.layers.Embedding(30, 8)(ids))
    is_real = keras.ops.cast(mask, "float32")[:, :, None]
    network = keras.Model(inputs, {"logits": top(keras.ops.mean(vectors * is_real, axis=1))})  # of padding too
    found = frontier_of(network, rows_of(network))
    assert [one.value.source.operation.name for one in found.cache.cut.kept.values()] == ["multiply"]
    assert list(found.network.input) == ["prefix_0"]
    network = keras.Model(inputs, {"logits": top(keras.ops.mean(vectors, axis=1))})
    found = frontier_of(network, rows_of(network))
    assert found.cache is None and found.text == "none: what trains reads padding, which is not kept"
    narrow = keras.layers.Dense(8)(keras.ops.mean(vectors, axis=1))
    network = keras.Model(inputs, {"logits": top(narrow)})
    assert frontier_of(network, rows_of(network)).cache is None


def test_what_is_kept_is_found_again_unless_weights_or_tokens_differ_and_is_made_again_where_it_is_damaged(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("KFT_CACHE", str(tmp_path))

    def network(seed):
        keras.utils.set_random_seed(seed)
        ids, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "padding_mask"))
        vectors = keras.layers.Dense(8)(keras.layers.Embedding(30, 8)(ids))
        return keras.Model(
            {"token_ids": ids, "padding_mask": mask}, {"logits": keras.layers.Dense(2, name="top")(vectors)}
        )

    rows, notes = rows_of(network(0)), []
    first = frontier_of(network(0), rows).cache.store(rows, notes.append)
    with monkeypatch.context() as patch:
        patch.setattr(prefix_cache.PrefixCache, "_slices", lambda *given: pytest.fail("computed again"))
        again = frontier_of(network(0), rows).cache.store(rows, notes.append)
    folder = tmp_path / prefix_cache.FOLDER
    (file,) = folder.glob("*/prefix_0.float32")
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    assert notes == []
    repaired = frontier_of(network(0), rows).cache.store(rows, notes.append)
    (note,) = notes
    assert "checksum" in note and note.endswith("The outputs of the frozen layers are made again.")
    for other in (again, repaired):
        assert (other.features["prefix_0"] == first.features["prefix_0"]).all() and list(other.features) == ["prefix_0"]
    frontier_of(network(1), rows).cache.store(rows, notes.append)
    other = rows_of(network(0), seed=1)
    frontier_of(network(0), other).cache.store(other, notes.append)
    assert len(list(folder.iterdir())) == 3


# -- whole fits --------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(quick, tmp_path, monkeypatch):
    """Knobs of a fit of the last block, with a cache of its own."""
    monkeypatch.setenv("KFT_CACHE", str(tmp_path / "cache"))
    return {**quick, "label": "topic", "text": "text", "validation": 0.2, "epochs": 2, "transfer": "last:1"}


def told(run):
    return (run.path / "history.jsonl").read_text()


@pytest.mark.slow
def test_a_second_fit_skips_the_frozen_pass_and_a_damaged_file_is_made_again(
    message_rows, asked, tmp_path, monkeypatch
):
    import kft

    first = kft.fit(message_rows, out=str(tmp_path / "first"), **asked)
    folder = tmp_path / "cache" / prefix_cache.FOLDER
    assert len(list(folder.iterdir())) == 2  # train and validation
    with monkeypatch.context() as patch:
        patch.setattr(prefix_cache.PrefixCache, "_slices", lambda *given: pytest.fail("computed again"))
        second = kft.fit(message_rows, out=str(tmp_path / "second"), **asked)
    damaged = next(folder.glob("*/prefix_0.*"))
    content = bytearray(damaged.read_bytes())
    content[7] ^= 1
    damaged.write_bytes(content)
    third = kft.fit(message_rows, out=str(tmp_path / "third"), **asked)
    assert told(first) == told(second) == told(third)
    (note,) = [note for note in third.manifest["notes"] if "checksum" in note]
    assert note.endswith("The outputs of the frozen layers are made again.")
    assert not [note for note in second.manifest["notes"] if "checksum" in note]


@pytest.mark.slow
@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"transfer": "features"},
        {"precision": "mixed_bfloat16"},
        {"gradient_accumulation_steps": 3},
        {"max_length": 8, "task": "classify"},
        {"accelerate": False},
    ],
    ids=str,
)
def test_a_fit_with_the_cache_is_one_without(knobs, message_rows, asked, tmp_path):
    import kft

    losses = []
    for is_asked in (True, False):
        knobs = {**asked, **knobs, "cache_features": is_asked}
        run = kft.fit(message_rows, out=str(tmp_path / str(is_asked)), **knobs)
        records = [json.loads(line) for line in told(run).splitlines()]
        losses.append([value for record in records for name, value in record.items() if name in ("loss", "val_loss")])
        assert len(list((tmp_path / "cache" / prefix_cache.FOLDER).iterdir())) == 2  # of the first of the two fits
    np.testing.assert_allclose(*losses, atol=3e-2 if knobs["precision"] == "mixed_bfloat16" else 1e-4)
