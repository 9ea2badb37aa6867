import itertools
import unicodedata

import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kft.data import detokenized
from kft.errors import RunError
from kft.text import tagging, words

in_graph = words.finder(words.WORDS)
by_every_rule = pytest.mark.parametrize("rule", words.RULES)
ways = pytest.mark.parametrize("find", [words.find, in_graph], ids=["eager", "graph"])

# What has broken tokenizers before, put together in every order.
PIECES = [*"aZ9é़६中文ラーｱﾞ한가.,'#_$", *" \n\t\r\x0b\x1c\x85\u00a0\u3000\u200b\ufeff\0\x01\x7f\u200d\u200c\u00ad\ufe0f"]
PIECES += [
    "e\u0301",
    "\u0301",
    "👩\u200d👧",
    "👍🏽",
    "🇩🇪",
    "🇫",
    "❤️\u200d🔥",
    "1\ufe0f\u20e3",
    "हिन्दी",
    "عربي",
    "𝒳",
    "\U000e0067",
]
texts = st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=8), max_size=6)


def found(find, *texts):
    """The words of each text with their spans, as Python has them."""
    lists = [part.to_list() for part in find(tf.constant([*texts], tf.string))]
    return [
        [(word.decode(), start, end) for word, start, end in zip(*row, strict=True)] for row in zip(*lists, strict=True)
    ]


def is_space(character):
    return character.isspace() or character in "\u200b\ufeff"


@by_every_rule
@settings(max_examples=100, deadline=None)
@given(batch=texts)
@example(batch=["\U000e0067\u200d\0"])
def test_words_are_spans_that_cover_what_is_no_space(batch, rule):
    for text, row in zip(batch, found(words.finder(rule), *batch), strict=True):
        assert [text[start:end] for _, start, end in row] == [word for word, _, _ in row]
        covered = [i for _, start, end in row for i in range(start, end)]
        assert covered == [i for i, character in enumerate(text) if not is_space(character)]
        assert all(start < end for _, start, end in row)


@by_every_rule
@settings(max_examples=100, deadline=None)
@given(batch=texts)
def test_no_word_begins_inside_a_character(batch, rule):
    for text, row in zip(batch, found(words.finder(rule), *batch), strict=True):
        for _, start, _ in row:
            if unicodedata.category(text[start]) in ("Mn", "Mc", "Me", "Cf"):
                assert start == 0 or is_space(text[start - 1])


@ways
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, wörld!", ["Hello", ",", "wörld", "!"]),
        ("don't\u00a0stop\r\n\tnow", ["don", "'", "t", "stop", "now"]),
        ("3.14 €5 a_b", ["3", ".", "14", "€", "5", "a", "_", "b"]),
        ("我爱abc北京。", ["我", "爱", "abc", "北", "京", "。"]),
        ("ラーメン\u3000を", ["ラ", "ー", "メ", "ン", "を"]),
        ("ｶﾞ〇", ["ｶﾞ", "〇"]),
        ("한국어는 좋다", ["한국어는", "좋다"]),
        ("مرحبا، نص می\u200cخواهم", ["مرحبا", "،", "نص", "می\u200cخواهم"]),
        ("हिन्दी १६६।", ["हिन्दी", "१६६", "।"]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("👩\u200d👩\u200d👧👍🏽!", ["👩\u200d👩\u200d👧", "👍🏽", "!"]),
        ("🇩🇪🇫🇷🇬", ["🇩🇪", "🇫🇷", "🇬"]),
        ("❤️\u200d🔥1\ufe0f\u20e3", ["❤️\u200d🔥", "1\ufe0f\u20e3"]),
        ("🏴\U000e0067\U000e0062\U000e007f.", ["🏴\U000e0067\U000e0062\U000e007f", "."]),
        ("\0a\0b\x01", ["\0", "a", "\0", "b", "\x01"]),
        (" \u0301 a", ["\u0301", "a"]),
        ("\ufeffa\u200bb", ["a", "b"]),
        (" \n\t ", []),
        ("", []),
        ("x" * 5000, ["x" * 5000]),
        ("é中" * 2500, [*itertools.chain(*[["é", "中"]] * 2500)]),
    ],
)
def test_words_of_many_scripts(find, text, expected):
    [row] = found(find, text)
    assert [word for word, _, _ in row] == expected


@pytest.mark.parametrize(
    ("text", "first", "second", "characters"),
    [
        ("5kg x²", "5kg x²", "5 kg x ²", "5 k g x ²"),
        ("iPhone15 abc中", "iPhone15 abc 中", "iPhone 15 abc 中", "i P h o n e 1 5 a b c 中"),
        ("EUweite", "EUweite", "EUweite", "E U w e i t e"),
        ("K팝에서", "K팝에서", "K 팝에서", "K 팝 에 서"),
        ("\u1112\u1161\u11ab글", "\u1112\u1161\u11ab글", "\u1112\u1161\u11ab글", "\u1112\u1161\u11ab 글"),
        ("обʼєкт µm", "обʼєкт µm", "обʼєкт µm", "о б ʼ є к т µ m"),
        ("VIPам", "VIPам", "VIP ам", "V I P а м"),
        ("ที่กรุงเทพ ๑๒", "ที่กรุงเทพ ๑๒", "ที่ ก รุ ง เ ท พ ๑๒", "ที่ ก รุ ง เ ท พ ๑ ๒"),
        ("ລາວ", "ລາວ", "ລ າ ວ", "ລ າ ວ"),
        ("မြန်မာ က္က", "မြန်မာ က္က", "မြ န် မာ က္က", "မြ န် မာ က္က"),
        ("ខ្មែរ", "ខ្មែរ", "ខ្មែ រ", "ខ្មែ រ"),
        ("cafe\u0301!", "cafe\u0301 !", "cafe\u0301 !", "c a f e\u0301 !"),
        ("👩\u200d👧🇩🇪🇫🇷", "👩\u200d👧 🇩🇪 🇫🇷", "👩\u200d👧 🇩🇪 🇫🇷", "👩\u200d👧 🇩🇪 🇫🇷"),
    ],
)
def test_each_rule_cuts_where_its_name_has_always_said(text, first, second, characters):
    for rule, expected in zip((words.FIRST, words.WORDS, words.CHARACTERS), (first, second, characters), strict=True):
        [row] = found(words.finder(rule), text)
        assert " ".join(word for word, _, _ in row) == expected


def test_an_unknown_rule_is_refused():
    with pytest.raises(RunError, match="found words by the rule 'words/9'. Did you mean"):
        tagging.reader("words/9")


@ways
def test_bytes_that_are_no_text_count_as_python_has_them(find):
    broken = [b"a\xff b", b"\xe4\xb8 x", b"\xed\xa0\x80y", b"\xf0\x9f\x98"]
    for raw, row in zip(broken, found(find, *broken), strict=True):
        assert [raw.decode(errors="replace")[start:end] for _, start, end in row] == [word for word, _, _ in row]


@ways
def test_no_texts(find):
    assert found(find) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.text(min_size=1, max_size=5).filter(str.strip), min_size=1, max_size=5), max_size=4))
def test_marked_words_are_those_that_were_joined(rows):
    joined_rows = [detokenized._joined(row) for row in rows]
    strings, marks = ([row[i] for row in joined_rows] for i in range(2))
    found = words.marked(tf.constant(strings, tf.string), tf.constant(marks, tf.string))
    assert [[word.decode() for word in row] for row in found.texts.to_list()] == rows
    for text, starts, ends, row in zip(strings, found.starts.to_list(), found.ends.to_list(), rows, strict=True):
        assert [text[start:end] for start, end in zip(starts, ends, strict=True)] == row
