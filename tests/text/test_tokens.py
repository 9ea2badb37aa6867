import string

import keras
import keras_hub
import pytest
import tensorflow as tf

from kft.text.tokens import Encoder, SequencePreprocessor, encode

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "tea", "soup", "was", "good"]  # ids 5 to 9
START, END, THE, TEA, SOUP, WAS, GOOD = 2, 3, 5, 6, 7, 8, 9


def bert(sequence_length=12):
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=[*SPECIAL, *WORDS])
    return keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=sequence_length)


def gpt2(sequence_length=12, **settings):
    """Letters are ids 1 to 26, before a space and `th`; id 0 begins, ends and pads."""
    vocabulary = {token: number for number, token in enumerate(["<|endoftext|>", *string.ascii_lowercase, "Ġ", "th"])}
    tokenizer = keras_hub.tokenizers.GPT2Tokenizer(vocabulary=vocabulary, merges=["t h"])
    return SequencePreprocessor(tokenizer, sequence_length=sequence_length, **settings)


def sequence(sequence_length=12, **settings):
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=[*SPECIAL, *WORDS])
    return SequencePreprocessor(tokenizer, sequence_length=sequence_length, **settings)


def in_graph(preprocessor, *texts):
    graph = tf.function(lambda *texts: encode(preprocessor, texts))
    return {name: value.numpy().tolist() for name, value in graph(*map(tf.constant, texts)).items()}


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (bert, [["the tea", "soup"]]),
        (bert, [["the tea", "a"], ["was", "good soup"]]),
        (sequence, [["the tea", "a"], ["was", "good soup"]]),
        pytest.param(gpt2, [["the tea", "soup"]], marks=pytest.mark.slow),
    ],
)
def test_eager_and_graph_agree(make, texts):
    eager = encode(make(), [tf.constant(column) for column in texts])
    assert {name: value.numpy().tolist() for name, value in eager.items()} == in_graph(make(), *texts)


def test_rows_are_padded_to_the_longest():
    assert in_graph(bert(), ["the tea was good", "soup"]) == {
        "token_ids": [[START, THE, TEA, WAS, GOOD, END], [START, SOUP, END, 0, 0, 0]],
        "segment_ids": [[0] * 6, [0] * 6],
        "padding_mask": [[True] * 6, [True] * 3 + [False] * 3],
    }


def test_two_texts_share_a_row():
    features = in_graph(bert(), ["the tea"], ["was good"])
    assert features["token_ids"] == [[START, THE, TEA, END, WAS, GOOD, END]]
    assert features["segment_ids"] == [[0, 0, 0, 0, 1, 1, 1]]


@pytest.mark.parametrize("make", [bert, sequence])
def test_pairs_are_cut_evenly_and_keep_their_ends(make):
    long, short = "the tea " * 9, "soup"
    features = in_graph(make(9), [long, long], [long, short])
    assert features["token_ids"] == [
        [START, THE, TEA, THE, END, THE, TEA, THE, END],
        [START, THE, TEA, THE, TEA, THE, END, SOUP, END],
    ]


@pytest.mark.parametrize("make", [bert, sequence])
def test_long_text_is_cut_before_its_end(make):
    assert in_graph(make(5), ["the tea " * 9])["token_ids"] == [[START, THE, TEA, THE, END]]


def test_nul_characters_are_dropped():
    assert in_graph(bert(), ["\0the tea", "the\0 tea"])["token_ids"] == [[START, THE, TEA, END]] * 2


def test_empty_text_keeps_its_special_tokens():
    assert in_graph(bert(), ["", "tea"])["token_ids"] == [[START, END, 0], [START, TEA, END]]
    assert in_graph(sequence(), [""])["padding_mask"] == [[True, True]]


def test_mask_follows_lengths_where_padding_is_an_ordinary_token():
    assert in_graph(gpt2(), ["ab", "a"]) == {
        "token_ids": [[1, 2, 0], [1, 0, 0]],
        "padding_mask": [[True, True, True], [True, True, False]],
    }


def test_encoder_of_a_sequence_to_sequence_model_has_its_own_names():
    assert in_graph(sequence(prefix="encoder_"), ["tea"]) == {
        "encoder_token_ids": [[START, TEA, END]],
        "encoder_padding_mask": [[True, True, True]],
    }


def test_row_ends_as_xlnet_ends_it():
    features = in_graph(sequence(with_segments=True, end_order=[1, 4]), ["the tea"], ["was"])
    assert features["token_ids"] == [[START, THE, TEA, END, WAS, 1, 4]]
    assert features["segment_ids"] == [[0, 0, 0, 0, 1, 1, 1]]


def test_preprocessor_passes_targets_through_and_reopens_from_its_config():
    made = sequence(prefix="encoder_", with_segments=True, end_order=[1])
    features, labels, weights = made(tf.constant(["tea"]), tf.constant([1]), tf.constant([0.5]))
    assert labels.numpy().tolist() == [1]
    assert weights.numpy().tolist() == [0.5]
    assert features["encoder_token_ids"].shape == (1, made.sequence_length)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert again.get_config() == made.get_config()  # the vocabulary comes back with the preset's files


def test_encoder_gives_lengths_and_what_padding_holds():
    encoder = Encoder(bert(), 1)
    ids, lengths, texts, *_ = encoder([["the tea", "soup"]])
    assert texts.tolist() == [0, 1]
    assert set(ids) == {"token_ids", "segment_ids"}
    assert lengths[""].tolist() == [4, 3]
    assert encoder.max_length == 12
    assert encoder.mask_names == ["padding_mask"]
    assert encoder.pad_values == {"token_ids": 0, "segment_ids": 0, "padding_mask": 0}
    assert Encoder(sequence(), 2)([["tea"], ["soup"]]).lengths[""].tolist() == [5]


@pytest.mark.parametrize("has_pair", [False, True])
def test_a_padding_token_in_a_text_is_a_token_like_others(has_pair):
    vocabulary = [*SPECIAL, *WORDS]
    tokenizer = keras_hub.tokenizers.BertTokenizer(
        vocabulary=vocabulary, special_tokens=SPECIAL, special_tokens_in_strings=True
    )
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=16)
    texts = ["the [PAD] tea", "[PAD] the tea", "tea was [PAD]", "[PAD]", "the tea was good soup"]
    pairs = ["soup [PAD]", "[PAD]", "soup", "[PAD] was good", "tea"]
    features = in_graph(preprocessor, texts, pairs) if has_pair else in_graph(preprocessor, texts)
    for row, (text, pair) in enumerate(zip(texts, pairs, strict=True)):
        words = ["[CLS]", *text.split(), "[SEP]", *([*pair.split(), "[SEP]"] if has_pair else [])]
        assert features["token_ids"][row][: len(words)] == [vocabulary.index(word) for word in words]
        assert features["padding_mask"][row] == [place < len(words) for place in range(len(features["token_ids"][row]))]
