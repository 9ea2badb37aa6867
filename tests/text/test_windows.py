import functools
import string

import keras_hub
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.errors import RecipeError
from kft.text import layout, windows
from kft.text.layout import Layout
from kft.text.tokens import SequencePreprocessor, encode

BERT = Layout((101,), (102,), (102,), 0, ("token_ids", "segment_ids", "padding_mask"))
ROBERTA = Layout((1,), (2, 2), (2,), 9, ("token_ids", "padding_mask"))
T5 = Layout((), (3,), (3,), 0, ("encoder_token_ids", "encoder_padding_mask"))
GPT = Layout((), (), (), 0, ("token_ids", "padding_mask"))

rows_of_tokens = st.lists(st.lists(st.integers(10, 99), max_size=20), min_size=1, max_size=4)


@functools.cache
def traced(packing, length, stride, with_first):
    ragged = tf.RaggedTensorSpec([None, None], tf.int32, row_splits_dtype=tf.int64)
    if with_first:
        return tf.function(
            lambda ids, first: windows.cut(packing, ids, length, stride, first), input_signature=[ragged, ragged]
        )
    return tf.function(lambda ids: windows.cut(packing, ids, length, stride), input_signature=[ragged])


def ragged(rows):
    return tf.RaggedTensor.from_row_lengths(tf.constant(sum(rows, []), tf.int32), [len(row) for row in rows])


def by_hand(packing, rows, length, stride, first):
    """What BERT's `run_squad.py` does, token by token."""
    found = []
    for number, tokens in enumerate(rows):
        head, least = list(packing.start), 1
        special = len(packing.start) + len(packing.end) + (len(packing.middle) if first else 0)
        if first:
            least = -(-length // 4)
            head += [*first[number][: length - special - least], *packing.middle]
        room = length - len(head) - len(packing.end)
        step = room - min(stride, room // 2)
        spans = [(0, min(room, len(tokens)))]
        while sum(spans[-1]) < len(tokens):
            begin = spans[-1][0] + step
            spans.append((begin, min(room, len(tokens) - begin)))
        for begin, size in spans:
            ids = [*head, *tokens[begin : begin + size], *packing.end]
            best = []
            for token in range(begin, begin + size):
                scores = [min(token - b, b + s - 1 - token) + 0.01 * s if b <= token < b + s else -1 for b, s in spans]
                best.append(spans[scores.index(max(scores))] == (begin, size))
            padding = length - len(ids)
            tail = len(packing.end)
            found.append(
                {
                    "row": number,
                    "token_ids": ids + [packing.pad] * padding,
                    "padding_mask": [True] * len(ids) + [False] * padding,
                    "segment_ids": [0] * len(head) + [int(bool(first))] * (size + tail) + [0] * padding,
                    "token_index": [-1] * len(head) + [*range(begin, begin + size)] + [-1] * (tail + padding),
                    "best": [False] * len(head) + best + [False] * (tail + padding),
                }
            )
    return found


def listed(cut):
    columns = {"row": cut.rows, "token_index": cut.token_index, "best": cut.has_most_context}
    columns |= {name.removeprefix("encoder_"): value for name, value in cut.features.items()}
    lists = {name: value.numpy().tolist() for name, value in columns.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    rows=rows_of_tokens,
    packing=st.sampled_from([BERT, ROBERTA, T5, GPT]),
    size=st.sampled_from([(7, 0), (7, 1), (8, 2), (8, 100), (12, 4)]),
    with_first=st.booleans(),
    data=st.data(),
)
def test_windows_are_those_of_the_squad_script(rows, packing, size, with_first, data):
    length, stride = size
    first = None
    if with_first:
        first = data.draw(st.lists(st.lists(st.integers(10, 99), max_size=9), min_size=len(rows), max_size=len(rows)))
    arguments = [ragged(rows)] if first is None else [ragged(rows), ragged(first)]
    cut = traced(packing, length, stride, with_first)(*arguments)
    assert set(cut.features) == set(packing.names)
    found, expected = listed(cut), by_hand(packing, rows, length, stride, first)
    for name in found[0]:
        assert [window[name] for window in found] == [window[name] for window in expected]
    # Each token is in a window, and best in just one.
    best = [(w["row"], i) for w in found for i, is_best in zip(w["token_index"], w["best"], strict=True) if is_best]
    assert sorted(best) == [(row, i) for row, tokens in enumerate(rows) for i in range(len(tokens))]


@pytest.mark.parametrize("way", [lambda function: function, tf.function], ids=["eager", "graph"])
def test_windows_by_hand(way):
    cut = way(lambda ids, first: windows.cut(BERT, ids, 8, 1, first))(
        ragged([[11, 12, 13, 14], []]), ragged([[51, 52], [53]])
    )
    assert cut.features["token_ids"].numpy().tolist() == [
        [101, 51, 52, 102, 11, 12, 13, 102],
        [101, 51, 52, 102, 13, 14, 102, 0],
        [101, 53, 102, 102, 0, 0, 0, 0],
    ]
    assert cut.features["segment_ids"].numpy().tolist() == [
        [0] * 4 + [1] * 4,
        [0] * 4 + [1] * 3 + [0],
        [0] * 3 + [1] + [0] * 4,
    ]
    assert cut.rows.numpy().tolist() == [0, 0, 1]
    assert cut.token_index.numpy().tolist()[1] == [-1, -1, -1, -1, 2, 3, -1, -1]
    assert cut.has_most_context.numpy()[:, 4:7].tolist() == [[True] * 3, [False, True, False], [False] * 3]
    assert cut.features["token_ids"].shape[1] == 8


def test_long_first_text_leaves_a_quarter_of_the_window():
    cut = windows.cut(BERT, ragged([[11, 12, 13]]), 12, 0, ragged([list(range(50, 70))]))
    assert cut.features["token_ids"].numpy().tolist() == [[101, *range(50, 56), 102, 11, 12, 13, 102]]


def test_no_texts():
    assert windows.cut(BERT, ragged([]), 8).features["token_ids"].shape == (0, 8)


@pytest.mark.parametrize(("length", "stride", "first"), [(2, 0, None), (4, 0, [[1]]), (8, -1, None)])
def test_refusals(length, stride, first):
    message = f"max_length={length} leaves no room" if stride == 0 else "stride=-1"
    with pytest.raises(RecipeError, match=message):
        windows.cut(BERT, ragged([[1]]), length, stride, first and ragged(first))


def bert_tokenizer(name="Bert"):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(vocabulary=vocabulary)


def byte_pair_tokenizer(name, *special):
    vocabulary = {token: number for number, token in enumerate([*special, "Ġ", *string.ascii_lowercase, "ab"])}
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(vocabulary=vocabulary, merges=["a b"])


def classifier(name, tokenizer):
    return getattr(keras_hub.models, f"{name}TextClassifierPreprocessor")(tokenizer, sequence_length=12)


PREPROCESSORS = {
    "bert": lambda: classifier("Bert", bert_tokenizer()),
    "distil_bert": lambda: classifier("DistilBert", bert_tokenizer("DistilBert")),
    "roberta": lambda: classifier("Roberta", byte_pair_tokenizer("Roberta", "<s>", "<pad>", "</s>", "<mask>")),
    "gpt2": lambda: SequencePreprocessor(byte_pair_tokenizer("GPT2", "<|endoftext|>"), sequence_length=12),
    "bart": lambda: SequencePreprocessor(
        byte_pair_tokenizer("Bart", "<s>", "<pad>", "</s>"), sequence_length=12, prefix="encoder_"
    ),
    "ends_as_xlnet": lambda: SequencePreprocessor(
        bert_tokenizer(), sequence_length=12, with_segments=True, end_order=[3, 2]
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ("bart", "distil_bert") else []) for n in PREPROCESSORS]
)
@pytest.mark.parametrize("texts", [[["a b", ""]], [["a", "", "b"], ["b a", "", ""]]])
def test_one_window_is_the_row_that_the_preprocessor_packs(name, texts):
    preprocessor = PREPROCESSORS[name]()
    tokens = [tf.function(preprocessor.tokenizer.tokenize)(tf.constant(text)) for text in texts]
    cut = windows.cut(layout.of(preprocessor), tokens[-1], 12, 0, tokens[0] if len(tokens) == 2 else None)
    expected = tf.function(lambda *texts: encode(preprocessor, texts))(*map(tf.constant, texts))
    assert set(cut.features) == set(expected)
    for feature, value in expected.items():
        longest = value.shape[1]
        assert cut.features[feature][:, :longest].numpy().tolist() == value.numpy().tolist()
        assert cut.features[feature].dtype == value.dtype
