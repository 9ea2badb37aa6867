import json

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import kft
from kft.data import blocks
from kft.data import feed as feeds
from kft.data.batches import Batch
from kft.data.masking import Masking, Pairing, choose
from kft.data.streams import Stream, totals_of
from kft.errors import DataError, RecipeError
from kft.models import heads, scratch
from kft.readers import formats
from kft.recipe import Recipe
from kft.tasks import pretrain
from kft.text import causal, masked, vocabularies
from kft.text.tokens import Encoder


@pytest.fixture(scope="module")
def corpus(message_rows):
    """60 paragraphs of three sentences each."""
    texts = [row["text"] for row in message_rows]
    return [f"{text}. {texts[i - 1]}! {texts[i - 2]}." for i, text in enumerate(texts)]


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


@pytest.fixture(scope="module")
def bert(tiny_preset):
    known = keras_hub.tokenizers.Tokenizer.from_preset(tiny_preset).vocabulary
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=[*known, "##s"], lowercase=True)
    return keras_hub.models.BertMaskedLMPreprocessor(tokenizer, sequence_length=12)


def texts_of(encoder, texts):
    from kft.data import store

    return store.in_memory(encoder([texts]), encoder)


@pytest.mark.slow
def test_windows_have_each_token_once_and_know_its_word(bert):
    texts = ["the parcels was late. my tea was good today my tea was good", "", "the [MASK] was late"]
    found = texts_of(Encoder(bert, 1, masked.encode), texts)
    tokens = [bert.tokenizer.id_to_token(int(i)) for i in found.features["token_ids"]]
    assert found.texts.tolist() == [0, 0, 1, 2]
    plain = [token for token in tokens if token not in ("[CLS]", "[SEP]")]
    assert " ".join(plain).replace(" ##", "") == " ".join(texts).replace(".", " .").replace("  ", " ")
    words = dict(zip(tokens, found.features["word"].tolist(), strict=True))
    assert words["parcel"] == words["##s"] >= 0
    assert words["[CLS]"] == words["[SEP]"] == words["[MASK]"] == -1


def test_masks_are_80_10_10_by_count_and_a_function_of_seed_epoch_and_row():
    ids = np.arange(100 * 200, dtype=np.int32).reshape(100, 200) + 10
    words = np.tile(np.arange(200, dtype=np.int32), (100, 1))
    words[:, [0, 199]] = -1
    features = {"token_ids": ids, "word": words}
    batch = Batch(np.arange(100), 200)

    def hidden(rows, epoch, seed=3):
        same = Masking(4, np.arange(5, 10), 0.15, False, seed)
        found, truth = same(None, Batch(rows, 200), {n: v[rows] for n, v in features.items()}, {}, epoch)
        return found, truth["tokens"]

    found, truth = hidden(batch.rows, 1)
    assert truth.shape == found["mask_positions"].shape == (100, 30) and (truth >= 0).all()
    np.testing.assert_array_equal(np.take_along_axis(ids, found["mask_positions"], 1), truth)
    shown = np.take_along_axis(found["token_ids"], found["mask_positions"], 1)
    assert np.mean(shown == 4) == pytest.approx(0.8, abs=0.03)
    assert np.mean((shown >= 5) & (shown < 10)) == pytest.approx(0.1, abs=0.02)
    assert np.mean(shown == truth) == pytest.approx(0.1, abs=0.02)
    assert (found["token_ids"] != ids).sum() == (shown != truth).sum()  # nothing else was touched

    rows = np.array([7, 3])
    np.testing.assert_array_equal(hidden(rows, 1)[0]["token_ids"], found["token_ids"][rows])  # whatever the batch
    assert (hidden(rows, 2)[1] != truth[rows]).any() and (hidden(rows, 1, seed=4)[1] != truth[rows]).any()
    np.testing.assert_array_equal(
        hidden(rows, None)[1], hidden(rows, None, seed=4)[1]
    )  # measured rows stay as they are


def test_whole_words_are_hidden_or_shown():
    words = np.array([-1, 0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 4, 4, 5, -1])
    seen = set()
    for seed in range(200):
        chosen = choose(words, 0.3, True, np.random.default_rng(seed))
        assert 1 <= len(chosen) <= 4 and (np.diff(chosen) > 0).all()
        for word in set(words[chosen]):
            assert set(np.flatnonzero(words == word)) <= set(chosen)
        seen |= set(words[chosen])
    assert seen == {0, 1, 2, 3, 5}  # the one of six tokens never fits
    only = choose(np.array([-1, 7, 7, 7, 7, -1]), 0.3, True, np.random.default_rng(0))
    assert only.tolist() == [1]  # a single word is hidden as far as it goes
    assert choose(np.array([-1, -1]), 0.3, True, np.random.default_rng(0)).tolist() == []


def test_a_batch_is_the_same_wherever_a_fit_goes_on_from(bert):
    rows = texts_of(Encoder(bert, 1, masked.encode), ["the parcel was late today", "my lamp is good", "the tea"] * 5)
    masking = pretrain.masking(Recipe.of(seed=1), bert)
    planned = [Batch(np.arange(i, i + 5), 8) for i in (0, 5, 10)]
    counts = {"tokens": pretrain.num_masked(0.15, {}, rows)}
    stream = Stream(rows, {}, dict.fromkeys(counts, np.ones(len(rows), np.float32)), counts, masking)
    inputs = ["token_ids", "segment_ids", "padding_mask", "mask_positions"]

    def feed(part, epoch):
        totals = {"tokens": totals_of(part, counts["tokens"])}
        steps = [{"train": batch} for batch in part]
        return feeds.to_train({"train": stream}, steps, inputs, totals, {"tokens": "train"}, epoch=epoch)

    whole, rest = feed(planned, 2), feed(planned[2:], 2)
    keras.tree.map_structure(np.testing.assert_array_equal, whole[2], rest[0])
    features, targets, weights = (part["train"] if "train" in part else part["tokens"] for part in whole[0])
    assert list(features) == sorted(inputs, key=list(features).index)
    assert targets["tokens"].shape == features["mask_positions"].shape and weights.sum() == pytest.approx(1.0)
    assert (feed(planned, 3)[2][0]["train"]["token_ids"] != rest[0][0]["train"]["token_ids"]).any()


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


@pytest.fixture(scope="module")
def sentence_rows(bert, corpus):
    long = keras_hub.models.BertMaskedLMPreprocessor(bert.tokenizer, sequence_length=64)
    return long, texts_of(Encoder(long, 1, masked.encode_pairs), [*corpus, "the tea was good"])


def halves(tokens, segments):
    first = [t for t, s in zip(tokens, segments, strict=True) if s == 0 and t > 4]
    return first, [t for t, s in zip(tokens, segments, strict=True) if s == 1 and t > 4]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nsp", "sop"])
def test_pairs_are_moved_in_half_of_the_rows(sentence_rows, kind):
    preprocessor, rows = sentence_rows
    pairing = pretrain.pairing(Recipe.of(), kind, preprocessor)
    never = Pairing(Masking(4, np.arange(5, 9), 1e-9, False, 0), kind, pairing.num_special)
    batch = Batch(np.arange(len(rows)), 64)
    features = rows.batch(batch.rows, 64)
    found, targets = never(rows, batch, features, {}, 0)
    truth, hidden = targets["pair"], targets["tokens"]
    assert found["token_ids"].shape == (61, 64) and truth[-1] == -1  # the last has one sentence alone
    assert 20 < (truth == 1).sum() < 40
    for row in range(60):
        ids, positions = found["token_ids"][row].copy(), found["mask_positions"][row]
        ids[positions[0]] = hidden[row, 0]  # undoes the one mask
        before = halves(features["token_ids"][row], features["segment_ids"][row])
        after = halves(ids, found["segment_ids"][row])
        assert found["padding_mask"][row].sum() == (ids > 0).sum()
        if truth[row] == 0:
            assert after == before
        elif kind == "sop":
            assert after == before[::-1]
        else:
            assert after[0] == before[0] and after[1] != before[1]
    again, _ = never(rows, Batch(batch.rows[9:10], 64), rows.batch(batch.rows[9:10], 64), {}, 0)
    np.testing.assert_array_equal(again["token_ids"][0], found["token_ids"][9])


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
    rows = texts_of(Encoder(preprocessor, 1, causal.encode), corpus)
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


# -- from scratch --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("train", [vocabularies.word_piece, vocabularies.byte_pair])
def test_every_character_of_the_corpus_survives(train):
    texts = [
        "Ünïcode ﬁts: 你好，世界！ नमस्ते ñandú \0 Straße",
        "🙂 emoji, ﷽ and ✓ " + "".join(map(chr, range(0x4E00, 0x5600))),
    ]
    tokenizer = train(texts, 300)
    ids = tf.function(tokenizer.tokenize)(tf.constant([text.replace("\0", "") for text in texts]))
    if train is vocabularies.byte_pair:
        found = [text.decode() for text in tf.function(tokenizer.detokenize)(ids).numpy()]
        assert found == [text.replace("\0", "") for text in texts]
    else:
        assert tokenizer.token_to_id("[UNK]") not in ids.flat_values.numpy().tolist()
        turned = tf.function(tokenizer.tokenize)(tf.constant(["dñü好ñ"]))  # in places where it did not stand
        assert tokenizer.token_to_id("[UNK]") not in turned.flat_values.numpy().tolist()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_from_scratch(family, corpus, tmp_path):
    sizes = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "vocabulary_size": 320, "max_length": 32}
    knobs = {"task": "pretrain", "preset": f"scratch:{family}", "validation": 0.2, "max_steps": 2, "quiet": True}
    rows = [{"text": text} for text in corpus]
    run = kft.fit(rows, out=str(tmp_path / "run"), **knobs, **sizes)
    assert run.model.backbone.num_layers == 1 and run.model.backbone.hidden_dim == 16
    assert run.metrics["validation"]["perplexity"] == pytest.approx(run.model.backbone.vocabulary_size, rel=0.5)


def test_a_preset_from_scratch_is_the_same_wherever_it_is_made(corpus, tmp_path):
    sizes = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "vocabulary_size": 320}
    found = [
        scratch.begin("scratch:gpt2", corpus, "texts", tmp_path / name, max_length=16, seed=1, **sizes) for name in "ab"
    ]
    tokenizers = [preset.tokenizer() for preset in found]
    assert tokenizers[0].vocabulary == tokenizers[1].vocabulary and tokenizers[0].merges == tokenizers[1].merges
    for one, other in zip(*(preset.backbone().weights for preset in found), strict=True):
        np.testing.assert_array_equal(one, other)
    again = scratch.begin("scratch:gpt2", [], "texts", tmp_path / "a", max_length=16, seed=1, **sizes)
    assert again == found[0]  # kept, so no text is read


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
