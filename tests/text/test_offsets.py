import io
import itertools
import string
import unicodedata

import keras_hub
import pytest
import sentencepiece
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_hub.src.tokenizers.byte_pair_tokenizer import bytes_to_unicode
from keras_hub.src.tokenizers.word_piece_tokenizer import pretokenize_python

from kft.errors import PresetError
from kft.text import offsets, words

SENTENCES = ["the tea was good", "the soup was thin", "a warm lamp", "这茶很好 naïve café", "हिन्दी १६६ ラーメン"] * 4
LETTERS = [*string.ascii_lowercase, *string.digits, *"éıßα我爱ラーメンहिन्दी१६", "한", "가", "⁄"]
BYTES, BYTE_LETTERS = bytes_to_unicode()


def word_piece(**settings):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), *".,!'", "the", "tea", "T", "caf", "##ee"]
    return keras_hub.tokenizers.BertTokenizer(vocabulary=list(dict.fromkeys(vocabulary)), **settings)


def byte_pair(name, special, letters=BYTE_LETTERS, **settings):
    merges = ["t h", "th e", "Ġ t", "Ġ th", "Ã ©", "à ¥"] if len(letters) > 100 else ["t h"]
    tokens = [*special, *letters, *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(vocabulary=vocabulary, merges=merges, **settings)


def sentence_piece(name):
    ids = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(proto=model.getvalue())


MAKERS = {
    "uncased": lambda: word_piece(lowercase=True, strip_accents=True),
    "cased": lambda: word_piece(),
    "lowercase": lambda: word_piece(lowercase=True, special_tokens_in_strings=True),
    "whole_cjk": lambda: word_piece(lowercase=True, split_on_cjk=False),
    "gpt2": lambda: byte_pair("GPT2", ["<|endoftext|>"]),
    "gpt2_prefix": lambda: byte_pair("GPT2", ["<|endoftext|>"], add_prefix_space=True),
    "gpt2_few_bytes": lambda: byte_pair("GPT2", ["<|endoftext|>"], [*string.ascii_lowercase, "Ġ"]),
    "roberta": lambda: byte_pair("Roberta", ["<s>", "<pad>", "</s>", "<mask>"]),
    "special_beyond_ascii": lambda: byte_pair("BytePair", ["<é>"], unsplittable_tokens=["<é>"]),
    "sentencepiece": lambda: sentence_piece("SentencePiece"),
    "xlm_roberta": lambda: sentence_piece("XLMRoberta"),
}
WORD_PIECE = ["uncased", "cased", "lowercase", "whole_cjk"]
BYTE_PAIR = [name for name in MAKERS if "gpt2" in name or name in ("roberta", "special_beyond_ascii")]


class Traced:
    """A tokenizer with everything about it as one graph."""

    def __init__(self, make):
        self.tokenizer = make()
        signature = [tf.TensorSpec([None], tf.string)]
        self.own_ids = tf.function(lambda texts: self.tokenizer(texts), input_signature=signature)
        self.graph = tf.function(self.everything, input_signature=signature)

    def everything(self, texts):
        tokens, found = offsets.tokenize(self.tokenizer, texts), words.find(texts)
        return tokens, found, offsets.first_tokens(found, tokens)

    def __call__(self, batch):
        """For each text, its tokens `(id, start, end)`, words `(start, end)` and their first tokens."""
        tokens, found, first = self.graph(tf.constant(batch, tf.string))
        columns = [*tokens, found.starts, found.ends, first]
        for ids, starts, ends, word_starts, word_ends, firsts in zip(*(c.to_list() for c in columns), strict=True):
            spans, word_spans = zip(ids, starts, ends, strict=True), zip(word_starts, word_ends, strict=True)
            yield list(spans), list(word_spans), firsts


@pytest.fixture(scope="module")
def traced():
    made = {}
    return lambda name: made.get(name) or made.setdefault(name, Traced(MAKERS[name]))


QUICK = {"uncased", "lowercase", "xlm_roberta"}


def each_of(names):
    marked = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in names]
    return pytest.mark.parametrize("name", marked)


each_tokenizer = each_of(MAKERS)

PIECES = [
    *"aTte9é़६中爱ラーｱﾞ한가ㄱㅏ½ﬁßİ.,'#_ĴA¨",
    *" \n\t\r\x0b\x1c\x85\u00a0\u3000\u200b\ufeff\0\x01\x7f\u200d\u00ad\ufe0f",
]
PIECES += [
    "e\u0301",
    "\u0301",
    "\u1112\u1161\u11ab",
    "👩\u200d👧",
    "👍🏽",
    "🇩🇪",
    "ﷺ",
    " the",
    " ६ ",
    "१६६",
    "हिन्दी",
    "[SEP]",
    "<s>",
]
PIECES += ["<|endoftext|>", "<é>"]
texts = st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=8), max_size=5)
HARD = [
    "The TEA, café cafe\u0301 NAÏVE!",
    "我爱北京 ラーメン한국어 가나",
    "हिन्दी १६६ ६ 5६ ६६ x६",
    "مرحبا، نص",
    "👩\u200d👩\u200d👧🇩🇪👍🏽 ❤️\u200d🔥",
    "a\u00a0b\r\n\tc\u3000d  e   ",
    "½ﬁx ﷺ Straße İstanbul ｶﾞ",
    "\0the\0 te\0a",
    "",
    " ",
    "\x01\x7f",
    "t" * 5000,
    "ü" * 5000,
    "[CLS]the[MASK] <s>the</s><mask> <|endoftext|>x<é> xĴAy",
]


@pytest.mark.slow
@each_tokenizer
def test_ids_are_those_of_the_whole_text(traced, name):
    check_ids(traced(name), HARD)


def check_ids(traced, batch):
    own = traced.own_ids(tf.constant([text.replace("\0", "") for text in batch], tf.string)).to_list()
    assert [[number for number, _, _ in tokens] for tokens, _, _ in traced(batch)] == own


@each_tokenizer
def test_eager_and_graph_agree(traced, name):
    batch = tf.constant(HARD)
    eager, graph = traced(name).everything(batch), traced(name).graph(batch)
    for ours, theirs in zip(tf.nest.flatten(eager), tf.nest.flatten(graph), strict=True):
        assert ours.to_list() == theirs.to_list()


@each_tokenizer
@settings(max_examples=60, deadline=None)
@given(batch=texts)
def test_any_text(traced, name, batch):
    check_ids(traced(name), batch)
    for text, (tokens, word_spans, firsts) in zip(batch, traced(name)(batch), strict=True):
        not_empty = [token for token in tokens if token[1] < token[2]]
        for (_, start, end), (_, next_start, next_end) in itertools.pairwise(not_empty):
            assert start <= next_start
            assert end <= next_end
        for _, start, end in tokens:
            assert 0 <= start <= end <= len(text)
            span = text[start:end]
            assert not is_space(span[:1]) or all(map(is_space, span))
            assert not is_space(span[-1:]) or all(map(is_space, span))
        for (start, end), first in zip(word_spans, firsts, strict=True):
            overlapping = [i for i, (_, s, e) in enumerate(tokens) if s < e and s < end and e > start]
            assert first == (overlapping[0] if overlapping else -1)


def is_space(character):
    return character != "" and (character.isspace() or character in "\u200b\ufeff")


@each_of(WORD_PIECE)
@settings(max_examples=60, deadline=None)
@given(batch=texts)
def test_word_pieces_are_in_their_span(traced, name, batch):
    tokenizer = traced(name).tokenizer
    for text, (tokens, _, _) in zip(batch, traced(name)(batch), strict=True):
        for number, start, end in tokens:
            token = tokenizer.id_to_token(number)
            span = text[start:end].replace("\0", "")
            assert span
            if token == "[UNK]" or span == token:
                continue
            [folded] = pretokenize_python(span, tokenizer.lowercase, tokenizer.strip_accents, split=False)
            assert token.removeprefix("##") in folded


@each_of(BYTE_PAIR)
@settings(max_examples=60, deadline=None)
@given(batch=texts)
def test_bytes_are_in_their_span_and_all_there(traced, name, batch):
    tokenizer = traced(name).tokenizer
    names = {number: token for token, number in tokenizer.vocabulary.items()}
    as_byte = dict(zip(BYTE_LETTERS, BYTES, strict=True))
    batch = [text.replace("Ĵ", "") for text in batch]  # stands for special tokens inside KerasHub
    for text, (tokens, _, _) in zip(batch, traced(name)(batch), strict=True):
        covered = set()
        for number, start, end in tokens:
            covered.update(range(start, end))
            if number == -1:
                continue  # a byte that the vocabulary lacks
            token = names[number]
            raw = token.encode() if token in tokenizer.special_tokens + ["<é>"] else b"".join(map(as_byte.get, token))
            assert raw.strip(b" \t\r\n\v\f\x1c\x1d\x1e\x1f\x85\xa0") in text[start:end].replace("\0", "").encode()
        for i, character in enumerate(text):
            assert i in covered or is_space(character) or character in "\0\u096c"


@each_of(["sentencepiece", "xlm_roberta"])
@settings(max_examples=60, deadline=None)
@given(batch=texts)
def test_sentence_pieces_are_in_their_span(traced, name, batch):
    tokenizer = traced(name).tokenizer
    for text, (tokens, _, _) in zip(batch, traced(name)(batch), strict=True):
        for number, start, end in tokens:
            piece = tokenizer.id_to_token(number)
            if piece != "<unk>":
                span = unicodedata.normalize("NFKC", text[start:end].replace("\0", ""))
                assert piece.replace("▁", "") in span


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("uncased", "The TÉA, cafe\u0301e 我爱", ["The", "TÉA", ",", "caf", "e\u0301e", "我", "爱"]),
        ("uncased", "½t", ["½", "½", "½", "t"]),
        ("uncased", "\u1112\u1161\u11aba", ["\u1112\u1161\u11ab", "a"]),
        ("uncased", "\0the\0 te\0a", ["the", "te\0a"]),
        ("uncased", "q☃q", ["q☃q"]),
        ("lowercase", "T[SEP]t", ["T", "[SEP]", "t"]),
        ("gpt2", "the tea\u00a0é!", ["the", "t", "e", "a", "\u00a0", "\u00a0", "é", "!"]),
        ("gpt2", "the 6६", ["the", " ", "6"]),
        ("gpt2", "a<|endoftext|> b", ["a", "<|endoftext|>", " ", "b"]),
        pytest.param("special_beyond_ascii", "a<é>é", ["a", "<é>", "é"], marks=pytest.mark.slow),
    ],
)
def test_spans_by_hand(traced, name, text, expected):
    [(tokens, _, _)] = traced(name)([text])
    assert [text[start:end] for _, start, end in tokens] == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("uncased", "the tea \x01 q☃q", [0, 1, -1, 2, 2, 2]),
        ("gpt2", "\0a ६ the", [-1, 0, -1, 3]),
        ("uncased", "a\u00a0b", [0, 0]),
        ("uncased", "\x01", [-1]),
        ("uncased", "", []),
    ],
)
def test_first_tokens_by_hand(traced, name, text, expected):
    [(_, _, firsts)] = traced(name)([text])
    assert firsts == expected


def test_bytes_that_are_no_text(traced):
    [(tokens, _, _)] = traced("gpt2")([b"a\xff\xe4\xb8b"])
    assert [(start, end) for _, start, end in tokens] == [(0, 1), *[(1, 2)] * 3, *[(2, 3)] * 3, (3, 4)]


@each_tokenizer
def test_no_texts(traced, name):
    assert list(traced(name)([])) == []


@each_tokenizer
def test_graph_has_no_python_in_it(traced, name):
    assert not [op for op in traced(name).graph.get_concrete_function().graph.get_operations() if "PyFunc" in op.type]


@pytest.mark.slow
@each_tokenizer
def test_saved_model_gives_the_same(traced, name, tmp_path):
    module = tf.Module()
    module.tokenizer, module.graph = traced(name).tokenizer, traced(name).graph  # tables are saved with the tokenizer
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    ours, theirs = traced(name).graph(tf.constant(HARD)), loaded.graph(tf.constant(HARD))
    for mine, other in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        assert mine.to_list() == other.to_list()


def clip():
    tokens = ["<|startoftext|>", "<|endoftext|>", "a", "a</w>", "aa</w>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return keras_hub.tokenizers.CLIPTokenizer(vocabulary=vocabulary, merges=["a a</w>"])


class Spaces(keras_hub.tokenizers.Tokenizer):
    def tokenize(self, inputs):
        return tf.strings.split(inputs)


@pytest.mark.parametrize("make", [clip, Spaces, keras_hub.tokenizers.ByteTokenizer])
def test_other_tokenizers_are_refused(make):
    with pytest.raises(PresetError, match=r"does not tell .* WordPiece .* SentencePiece .* byte-level BPE"):
        offsets.tokenize(make(), tf.constant(["a"]))


@pytest.mark.parametrize("setting", [{"sequence_length": 4}, {"split": False}])
def test_settings_that_lose_offsets_are_refused(setting):
    [(name, value)] = setting.items()
    with pytest.raises(PresetError, match=f"BertTokenizer has {name}={value}"):
        offsets.tokenize(word_piece(**setting), tf.constant(["a"]))
