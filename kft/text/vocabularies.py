"""Tokenizers trained on a corpus, with every character of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator

import keras_hub
import tensorflow as tf
import tokenizers
from keras_hub.src.tokenizers.word_piece_tokenizer import pretokenize
from tokenizers import models, pre_tokenizers, trainers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
END = "<|endoftext|>"
SLICE_TEXTS = 1024


def word_piece(texts: Iterable[str], size: int) -> keras_hub.tokenizers.BertTokenizer:
    """A lower-case WordPiece tokenizer in which each character of the texts is a token, at any place in a word.

    Args:
        texts: The corpus; read once.
        size: Tokens, more if the characters need them.

    Reference:
        Wu et al., 2016, sec. 4.1, https://arxiv.org/abs/1609.08144
    """
    trained = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
    trained.train_from_iterator(_words(texts), trainer)
    found = trained.get_vocab()
    learnt = sorted(found, key=lambda token: found[token])
    characters = [token for token in learnt if len(token) == 1]
    every = dict.fromkeys([*SPECIAL, *characters, *(f"##{character}" for character in characters)])
    rest = [token for token in learnt if token not in every]
    return keras_hub.tokenizers.BertTokenizer(
        vocabulary=[*every, *rest[: max(0, size - len(every))]], lowercase=True, strip_accents=False
    )


def byte_pair(texts: Iterable[str], size: int) -> keras_hub.tokenizers.GPT2Tokenizer:
    """A byte-level BPE tokenizer: every text is tokens of it, since every byte is one.

    Args:
        texts: The corpus; read once.
        size: Tokens, the 256 bytes and the end token among them.

    Reference:
        Radford et al., 2019, sec. 2.2, https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    """
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(_without_nul(texts), trainer)
    merges = [" ".join(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    return keras_hub.tokenizers.GPT2Tokenizer(vocabulary=trained.get_vocab(), merges=merges)


def _words(texts: Iterable[str]) -> Iterator[str]:
    """The texts as WordPiece reads them: KerasHub's words in lower case, with a space between two."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def words(strings: tf.Tensor) -> tf.Tensor:
        return tf.strings.reduce_join(pretokenize(strings, lowercase=True, strip_accents=False), axis=-1, separator=" ")

    clean = _without_nul(texts)
    while part := list(itertools.islice(clean, SLICE_TEXTS)):
        yield from (text.decode("utf-8") for text in words(tf.constant(part)).numpy())


def _without_nul(texts: Iterable[str]) -> Iterator[str]:
    return (text.replace("\0", "") for text in texts)
