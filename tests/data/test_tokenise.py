import shutil
from pathlib import Path

import keras_hub
import numpy as np
import pyarrow as pa
import pytest

import kft
from kft.data import tokenise
from kft.data.table import Table
from kft.text.tokens import Encoder, encode

WORDS = ["the", "tea", "was", "good"]


def preprocessor(words=WORDS, sequence_length=16):
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])
    return keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=sequence_length)


def table(*texts):
    return Table(pa.table({"text": list(texts)}), "texts")


class Counting(Encoder):
    """An encoder that counts the slices it is asked for."""

    calls = 0

    def __call__(self, texts):
        type(self).calls += 1
        return super().__call__(texts)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KFT_CACHE", str(tmp_path))


def test_same_texts_are_tokenised_once():
    encoder = Counting(preprocessor(), 1)
    key = tokenise.fingerprint(preprocessor())
    first = tokenise.tokenise(table("the tea", "good"), ["text"], encoder, key)
    again = tokenise.tokenise(table("the tea", "good"), ["text"], encoder, key)
    assert Counting.calls == 1
    assert first.batch(np.array([0, 1]), 4)["token_ids"].tolist() == [[2, 5, 6, 3], [2, 8, 3, 0]]
    assert again.batch(np.array([0]), 4)["token_ids"].tolist() == [[2, 5, 6, 3]]
    tokenise.tokenise(table("the tea", "was good"), ["text"], encoder, key)
    assert Counting.calls == 2


def test_fingerprint_follows_words_and_length():
    same = tokenise.fingerprint(preprocessor())
    assert tokenise.fingerprint(preprocessor()) == same
    assert tokenise.fingerprint(preprocessor([*WORDS[:3], "bad"])) != same
    assert tokenise.fingerprint(preprocessor(sequence_length=17)) != same


def test_auto_length_covers_the_rows_in_multiples_of_32():
    for words, expected in [(3, 128), (140, 160), (500, 300)]:
        cut = preprocessor()
        length = tokenise.length_that_covers(table("the", "tea " * words), ["text"], cut, encode, limit=300)
        assert length == expected
        assert cut.sequence_length == 16


def test_auto_length_leaves_out_the_longest_half_percent():
    rows = table(*["the tea"] * 999, "tea " * 200)
    assert tokenise.length_that_covers(rows, ["text"], preprocessor(), encode, limit=512) == 128


def test_the_cache_stands_where_the_environment_says(tmp_path, monkeypatch):
    assert tokenise.cache_dir() == tmp_path
    monkeypatch.setenv("KFT_CACHE", "none")
    assert tokenise.cache_dir() is None
    kept = tokenise.tokenise(table("the tea"), ["text"], Encoder(preprocessor(), 1), "key")
    assert kept.batch(np.array([0]), 4)["token_ids"].tolist() == [[2, 5, 6, 3]]
    assert list(tmp_path.iterdir()) == []


def test_tokens_of_other_code_or_other_libraries_are_not_taken(tmp_path, monkeypatch):
    encoder = Counting(preprocessor(), 1)
    before = Counting.calls
    tokenise.tokenise(table("the tea"), ["text"], encoder, "key")
    copied = Path(shutil.copytree(Path(kft.__file__).parent, tmp_path / "copy" / "kft"))
    for file, change in [("text/prompts.py", "# changed"), ("tasks/tag.py", "# changed"), (None, "0.33")]:
        if file:
            (copied / file).write_text((copied / file).read_text() + change)
        else:
            monkeypatch.setattr(tokenise.metadata, "version", lambda name: "0.33")
        monkeypatch.setattr(kft, "__file__", str(copied / "__init__.py"))
        tokenise.code_version.cache_clear()
        for _ in range(2):
            tokenise.tokenise(table("the tea"), ["text"], encoder, "key")
    monkeypatch.undo()
    tokenise.code_version.cache_clear()
    assert Counting.calls - before == 4
