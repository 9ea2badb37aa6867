import json

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import kft
from kft.data import blocks, store
from kft.errors import DataError, RecipeError
from kft.models import heads
from kft.readers import formats
from kft.recipe import Recipe
from kft.tasks import pretrain
from kft.text import causal, vocabularies
from kft.text.tokens import Encoder


@pytest.fixture(scope="module")
def tiny_gpt(tmp_path_factory, corpus):
    """The directory of a GPT-2 of two layers with a tokenizer of the corpus."""
    keras.utils.set_random_seed(0)
    path = str(tmp_path_factory.mktemp("presets") / "gpt")
    tokenizer = vocabularies.byte_pair(corpus, 300)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=32,
    )
    backbone.save_to_preset(path)
    tokenizer.save_to_preset(path)
    return path


@pytest.fixture(scope="module")
def mlm_run(corpus, quick, tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "messages.txt"
    path.write_text("\n\n".join(corpus), encoding="utf-8")
    out = tmp_path_factory.mktemp("runs") / "mlm"
    return kft.fit(path, task="pretrain", validation=0.2, epochs=3, out=str(out), **quick)


@pytest.fixture(scope="module")
def clm_run(corpus, quick, tiny_gpt, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "clm"
    rows = [{"text": text} for text in corpus]
    knobs = {**quick, "preset": tiny_gpt, "max_length": 16, "epochs": 3, "validation": 0.2}
    return kft.fit(rows, task="pretrain", out=str(out), **knobs)


def perplexities(run):
    lines = (run.path / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["val_perplexity"] for record in map(json.loads, lines) if record["kind"] == "epoch"]


# -- rows ----------------------------------------------------------------------------------------------------------


def test_paragraphs_are_rows_and_lines_where_there_are_none(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\nOne\r\ntwo\r\n \t\nthree\n\n\n", encoding="utf-8", newline="")
    table = formats.read(path, file_format="text")
    assert table.texts("text") == ["One\ntwo", "three"] and table.texts("__row__") == [3, 6]
    path.write_text("One\ntwo\n\n", encoding="utf-8")
    table = formats.read(path, file_format="text")
    assert table.texts("text") == ["One", "two"] and "a row is a line" in table.notes[0]
    path.write_text(" \n\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds nothing but white space; expected text"):
        formats.read(path, file_format="text")


# -- masked tokens -------------------------------------------------------------------------------------------------


def test_losses_by_hand():
    logits = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    truth = np.array([[1, 4, -1, 2], [0, -1, -1, -1]], np.int32)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    by_row = [-(log_probs[0, 0, 1] + log_probs[0, 1, 4] + log_probs[0, 3, 2]) / 3, -log_probs[1, 0, 0]]
    weights = np.array([0.75, 0.25], np.float32)
    outputs = {"tokens": logits, "pair": logits[:, 0, :2]}
    targets = {"tokens": truth, "pair": np.array([1, -1], np.int32)}
    objectives = {
        name: pretrain.restore({"objective": name, "mask_rate": 0.15}, Recipe.of()) for name in ("mlm", "sop")
    }
    (tokens,) = objectives["mlm"].objective.terms
    found = tokens.of_batch(outputs, targets, weights)
    assert float(found) == pytest.approx(0.75 * by_row[0] + 0.25 * by_row[1], rel=1e-5)
    pair, same = objectives["sop"].objective.terms
    assert float(same.of_batch(outputs, targets, weights)) == pytest.approx(float(found), rel=1e-6)
    by_pair = logits[:, 0, :2] - np.log(np.exp(logits[:, 0, :2]).sum(-1, keepdims=True))
    assert float(pair.of_batch(outputs, targets, weights)) == pytest.approx(0.75 * -by_pair[0, 1], rel=1e-5)


@pytest.mark.slow
def test_perplexity_falls_and_is_that_of_the_loss(mlm_run, corpus):
    found = perplexities(mlm_run)
    assert found[-1] < found[0] < 80
    scores = mlm_run.metrics["validation"]
    assert scores["perplexity"] == pytest.approx(np.exp(scores["loss"]))
    assert scores["perplexity"] == pytest.approx(min(found), rel=1e-3)
    assert mlm_run.labels["objective"] == "mlm"
    assert set(mlm_run.evaluate([{"text": text} for text in corpus[:5]])) == {"loss", "perplexity"}


@pytest.mark.slow
def test_masks_are_filled(mlm_run):
    first, none, two = mlm_run.predict(["the [MASK] is late", "no mask", "[MASK] parcel was [MASK] today " * 9])
    assert none == {"fills": []}
    (fill,) = first["fills"]
    assert fill["token"] == fill["tokens"][0] and len(fill["tokens"]) == len(fill["scores"]) == 5
    assert fill["scores"] == sorted(fill["scores"], reverse=True) and 0 < sum(fill["scores"]) <= 1.0001
    assert len(two["fills"]) == 18 and two["fills"][0]["token"] == "the"  # in windows, none left out


@pytest.mark.slow
def test_the_preset_is_one_of_kerashub_and_every_task_begins_from_it(mlm_run, message_rows, quick, tmp_path):
    preset = str(mlm_run.path / "preset")
    opened = keras_hub.models.MaskedLM.from_preset(preset, compile=False)
    for one, other in zip(opened.weights, mlm_run.model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    knobs = {**quick, "preset": preset, "max_steps": 1, "learning_rate": 1e-9}
    run = kft.fit(message_rows, text="text", label="topic", validation=0.2, out=str(tmp_path / "topics"), **knobs)
    tuned = run.model.backbone.token_embedding.get_weights()[0]
    np.testing.assert_allclose(tuned, mlm_run.model.backbone.token_embedding.get_weights()[0], atol=1e-5)

    again = kft.fit(message_rows, task="pretrain", validation=0.2, out=str(tmp_path / "again"), **knobs)
    found = [run.model.masked_lm_head.get_weights() for run in (mlm_run, again)]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)  # the head went on, too


@pytest.mark.slow
def test_the_export_fills_the_same(mlm_run, clm_run, tmp_path):
    for name, run, text in (("mlm", mlm_run, "the [MASK] was late"), ("clm", clm_run, "the parcel was late")):
        version = run.export(tmp_path / "saved_models" / name)
        assert json.loads((version / "assets.extra" / "kft.json").read_text())["largest_difference"] <= 1e-5
        served = tf.saved_model.load(str(version)).signatures["serving_default"](text=tf.constant([text]))
        answer = run.predict(text)[0]
        if name == "mlm":
            assert served["fills.token"].numpy()[0, 0].decode() == answer["fills"][0]["token"]
        else:
            assert float(served["perplexity"][0]) == pytest.approx(answer["perplexity"], rel=1e-5)


# -- pairs of sentences --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sentence_order_is_learnt_jointly(corpus, quick, tmp_path):
    rows = [{"text": text} for text in corpus]
    knobs = {**quick, "pretrain_objective": "sop", "max_steps": 6, "validation": 0.2}
    run = kft.fit(rows, task="pretrain", out=str(tmp_path / "sop"), **knobs)
    scores = run.metrics["validation"]
    assert 0 <= scores["pair_accuracy"] <= 1 and scores["loss"] > np.log(scores["perplexity"])
    assert isinstance(run.model, heads.MaskedPairLM)
    assert run.predict("the [MASK] is late")[0]["fills"][0]["token"]
    knobs = {**quick, "preset": str(run.path / "preset"), "max_steps": 1, "validation": 0.2}
    kft.fit(rows, task="pretrain", out=str(tmp_path / "mlm"), **knobs)  # the head of the tokens goes on


# -- the next token ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_blocks_foresee_every_token_once(tiny_gpt, corpus):
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(tiny_gpt)
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=16)
    encoder = Encoder(preprocessor, 1, causal.encode)
    rows = store.in_memory(encoder([corpus]), encoder)
    line = np.concatenate([[*tokenizer(text), tokenizer.end_token_id] for text in corpus])
    np.testing.assert_array_equal(rows.features["token_ids"], line)
    cut = blocks.cut(rows, 16, "a.txt")
    targets = blocks.following(cut)
    assert set(cut.lengths[:-1].tolist()) == {16} and 1 <= cut.lengths[-1] <= 16
    order = np.random.default_rng(0).permutation(len(cut))
    seen = np.concatenate([cut.batch(np.array([i]), int(cut.lengths[i]))["token_ids"][0] for i in np.sort(order)])
    foreseen = np.concatenate([cut.padded(targets, np.array([i]), int(cut.lengths[i]))[0] for i in np.sort(order)])
    np.testing.assert_array_equal(seen, line[:-1])
    np.testing.assert_array_equal(foreseen, line[1:])
    padded = cut.padded(targets, np.array([len(cut) - 1]), 16)[0]
    assert (padded >= 0).sum() == cut.lengths[-1]
    with pytest.raises(DataError, match=r"a.txt: the training texts have [\d,]+ tokens together, fewer than one block"):
        blocks.cut(rows, 100_000, "a.txt")


@pytest.mark.slow
def test_a_decoder_foresees_its_texts(clm_run, corpus):
    found = perplexities(clm_run)
    assert found[-1] < found[0] < 300 and clm_run.labels["objective"] == "clm"
    known, unknown, empty = clm_run.predict([corpus[0], "zq xj " * 30, ""])
    assert known["perplexity"] < unknown["perplexity"] and empty["num_tokens"] == 1
    opened = keras_hub.models.CausalLM.from_preset(str(clm_run.path / "preset"), compile=False)
    tokenizer = opened.preprocessor.tokenizer
    ids = [tokenizer.end_token_id, *tf.function(tokenizer.tokenize)("the lamp").numpy(), tokenizer.end_token_id]
    features = {"token_ids": np.array([ids[:-1]]), "padding_mask": np.ones((1, len(ids) - 1), np.int32)}
    logits = np.asarray(opened(features))[0]
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(ids) - 1), ids[1:]]
    (answer,) = clm_run.predict("the lamp")
    assert answer == {"perplexity": pytest.approx(np.exp(losses.mean()), rel=1e-4), "num_tokens": len(ids) - 1}
    assert clm_run.evaluate([{"text": text} for text in corpus])["perplexity"] < 300


# -- refusals ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_learnt_is_refused(corpus, quick, tiny_gpt):
    rows = [{"text": text} for text in corpus]
    knobs = {name: value for name, value in quick.items() if name != "quiet"}
    gpt = {**knobs, "preset": tiny_gpt}
    with pytest.raises(
        RecipeError, match="'mlm', but .* is a GPT2Backbone, which has no model for it. Expected .*: clm"
    ):
        kft.check(rows, task="pretrain", pretrain_objective="mlm", **gpt)
    with pytest.raises(RecipeError, match="'clm', but .* is a BertBackbone, .* Expected one of: mlm, nsp, sop"):
        kft.check(rows, task="pretrain", pretrain_objective="clm", **knobs)
    with pytest.raises(RecipeError, match="transfer: found 'features', which trains the head alone"):
        kft.check(rows, task="pretrain", transfer="features", **gpt)
    with pytest.raises(RecipeError, match="whole_word_mask is not used with pretrain_objective=clm"):
        kft.check(rows, task="pretrain", whole_word_mask=True, **gpt)
    with pytest.raises(RecipeError, match="class_weights is for task classify and relate, not for pretrain"):
        kft.check(rows, task="pretrain", class_weights="balanced", **knobs)
    with pytest.raises(DataError, match="fewer than one block of max_length=32 and the token after it. Add text"):
        kft.plan([{"text": "tea"}, {"text": "soup"}], task="pretrain", max_length=32, validation=0, **gpt)
    with pytest.raises(RecipeError, match="num_layers is used with preset=scratch:\\* only"):
        kft.plan(rows, task="pretrain", num_layers=3, **knobs)
    with pytest.raises(RecipeError, match="hidden_dim: found 30, expected a multiple of num_heads, which is 4"):
        kft.plan(rows, task="pretrain", **{**knobs, "preset": "scratch:gpt2"}, hidden_dim=30)
