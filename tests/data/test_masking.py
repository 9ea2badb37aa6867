import keras
import keras_hub
import numpy as np
import pytest

from kft.data import feed as feeds
from kft.data import store
from kft.data.batches import Batch
from kft.data.masking import Masking, Pairing, choose
from kft.data.streams import Stream, totals_of
from kft.recipe import Recipe
from kft.tasks import pretrain
from kft.text import masked
from kft.text.tokens import Encoder


@pytest.fixture(scope="module")
def bert(tiny_preset):
    known = keras_hub.tokenizers.Tokenizer.from_preset(tiny_preset).vocabulary
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=[*known, "##s"], lowercase=True)
    return keras_hub.models.BertMaskedLMPreprocessor(tokenizer, sequence_length=12)


def texts_of(encoder, texts):
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
