import numpy as np
import pytest
import tensorflow as tf

import kft
from kft.models import scratch
from kft.text import vocabularies


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
