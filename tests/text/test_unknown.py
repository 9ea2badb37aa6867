import keras_hub
import pytest

import kft
from kft.data.tokenise import cache_dir
from kft.errors import PresetError
from kft.text import unknown
from kft.text.tokens import Encoder, SequencePreprocessor

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "tea"]


def test_the_share_is_of_all_tokens_of_all_columns():
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=WORDS)
    assert unknown.share(tokenizer, [[["the tea", "tea"], ["茶 tea"]], [["the"], [""]]]) == 1 / 6
    assert unknown.share(tokenizer, []) == 0


def test_every_text_is_bytes():
    tokenizer = keras_hub.tokenizers.GPT2Tokenizer(vocabulary={"<|endoftext|>": 0, "a": 1, "aa": 2}, merges=["a a"])
    assert unknown.share(tokenizer, [[["茶"]]]) is None


def test_a_large_share_is_warned_of_by_a_preset_that_exists():
    assert unknown.warning("minilm", None) is None
    assert unknown.warning("minilm", 0.05) is None
    warning = unknown.warning("minilm", 0.725)
    assert warning.startswith("72% of the tokens are unknown to minilm")
    assert unknown.MULTILINGUAL[0] in warning
    assert set(unknown.MULTILINGUAL) <= set(keras_hub.models.Backbone.presets)


def test_check_and_plan_tell_it(message_rows, quick):
    knobs = {key: value for key, value in quick.items() if key != "quiet"} | {"text": "text", "label": "topic"}
    told = [note for note in kft.check(message_rows, **knobs).notes if "unknown tokens: 0.0%" in note]
    assert len(told) == 1
    chinese = [{**row, "text": f"{row['text']} 茶茶茶茶茶茶"} for row in message_rows]
    assert any("unknown to" in note and "xlm_roberta_base_multi" in note for note in kft.check(chinese, **knobs).notes)
    assert kft.plan(chinese, **knobs).unknown_share > 0.3
    assert cache_dir().exists()


def test_a_byte_that_is_no_token_is_one_line():
    letters = {token: number for number, token in enumerate(["<|endoftext|>", *"abcdefgh", "Ġ", "ab"])}
    tokenizer = keras_hub.tokenizers.GPT2Tokenizer(vocabulary=letters, merges=["a b"])
    encoder = Encoder(SequencePreprocessor(tokenizer, sequence_length=8), 1)
    encoder([["a b"]])
    with pytest.raises(PresetError, match="GPT2Tokenizer: its vocabulary lacks a byte that stands in the texts"):
        encoder([["a é"]])
