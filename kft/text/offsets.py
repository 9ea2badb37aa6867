"""Tokens with the characters they stand for, and which tokens a word has, in TensorFlow graph code."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops that tokenizers use)
from keras_hub.tokenizers import BytePairTokenizer, SentencePieceTokenizer, WordPieceTokenizer, XLMRobertaTokenizer

from kft.errors import PresetError
from kft.text import bytepair, characters, original, ragged, rules, sentencepiece, wordpiece
from kft.text.words import Words


class Tokens(NamedTuple):
    """The tokens of a batch of texts, all ragged `(batch, tokens)` int32.

    Attributes:
        ids: As the tokenizer gives them, without special tokens.
        starts: First characters in the text: Unicode code points, as Python counts them.
        ends: One past the last characters.
    """

    ids: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


def check(tokenizer: Any) -> None:
    """Refuses a tokenizer whose tokens cannot be traced back to characters.

    Raises:
        PresetError: It is no plain WordPiece, byte-level BPE or SentencePiece tokenizer of KerasHub, or is set to cut,
            to pad or to add tokens itself.
    """
    name = type(tokenizer).__name__
    if _kind(tokenizer) is None:
        raise PresetError(
            f"{name} does not tell which characters its tokens stand for. Words and answers in a text need a tokenizer "
            "of KerasHub that is WordPiece (BERT, DistilBERT, ELECTRA), SentencePiece (ALBERT, DeBERTa, XLM-RoBERTa, "
            "T5) or byte-level BPE (GPT-2, RoBERTa, BART); expected a preset with one of these."
        )
    settings = {"sequence_length": None, "split": True, "add_bos": False, "add_eos": False}
    for setting, expected in settings.items():
        value = getattr(tokenizer, setting, expected)
        if value != expected:
            raise PresetError(f"{name} has {setting}={value!r}; to trace tokens to characters, set it to {expected!r}.")


def _kind(tokenizer: Any) -> type | None:
    """Which of KerasHub's three tokenizers this is, if it tokenises as that one does: CLIP's, say, does not."""
    # Each base class with those of its own graph paths that give a token for each of the base's.
    paths = {
        WordPieceTokenizer: [WordPieceTokenizer._tokenize_tf],
        BytePairTokenizer: [BytePairTokenizer._tokenize_tf],
        SentencePieceTokenizer: [SentencePieceTokenizer._tokenize_tf, XLMRobertaTokenizer._tokenize_tf],
    }
    for kind, known in paths.items():
        if isinstance(tokenizer, kind) and type(tokenizer)._tokenize_tf in known:
            return kind if type(tokenizer).tokenize is kind.tokenize else None
    return None


def tokenize(tokenizer: Any, texts: tf.Tensor) -> Tokens:
    """Token ids of whole texts, the same as the tokenizer's own, and the characters each token stands for. Graph code.

    A span has no spaces at its edges, unless it has nothing else. Tokens may share a character (bytes of an emoji, the
    parts of a ligature), leave characters out (spaces, control characters), and span nothing (a space that the
    tokenizer adds). Spans that are not empty are in order.

    Args:
        tokenizer: A KerasHub tokenizer that `check` lets pass.
        texts: `(batch,)` strings. NUL characters are not tokenised, as in `kft.text.tokens.encode`, yet count.

    Raises:
        PresetError: As `check`.
    """
    check(tokenizer)
    texts = characters.valid(texts)
    seen = characters.without_nul(texts)
    kind = _kind(tokenizer)
    if rules.of(tokenizer) is not None:
        ids, starts, ends = original.tokenize(tokenizer, seen)
    elif kind is WordPieceTokenizer:
        ids, starts, ends = wordpiece.spans(tokenizer, seen)
    else:
        # Outside a graph KerasHub takes a Python path, whose ids can differ.
        ids = (tf.function(tokenizer.tokenize, autograph=False) if tf.executing_eagerly() else tokenizer.tokenize)(seen)
        find = bytepair.spans if kind is BytePairTokenizer else sentencepiece.spans
        starts, ends = find(tokenizer, ids, seen)
    starts, ends = characters.from_bytes(texts, starts, ends, skips_nul=True)
    starts, ends = characters.without_spaces(texts, starts, ends)
    return Tokens(ids, starts, ends)


def first_tokens(words: Words, tokens: Tokens) -> tf.RaggedTensor:
    """The number of each word's first token in its text, -1 where no token stands for any of its characters.

    Tokens may be coarser than words (several words then share one), or finer. Graph code.

    Args:
        words: The words of `(batch,)` texts.
        tokens: The tokens of the same texts.

    Returns:
        Ragged `(batch, words)` int32.
    """
    # Tokens that span nothing would hide those after them.
    spans_any = tokens.ends.flat_values > tokens.starts.flat_values
    token_rows, word_rows = ragged.rows(tokens.ids), ragged.rows(words.starts)
    rows = tf.boolean_mask(token_rows, spans_any)
    starts, ends = (tf.boolean_mask(offsets.flat_values, spans_any) for offsets in (tokens.starts, tokens.ends))
    numbers = tf.range(tf.size(spans_any)) - tf.gather(ragged.begins(ragged.lengths(tokens.ids)), token_rows)
    numbers = tf.concat([tf.boolean_mask(numbers, spans_any), [-1]], axis=0)
    # One sorted line of positions for all texts: each text has a stretch of its own.
    stretch = tf.reduce_max(tf.concat([tokens.ends.flat_values, words.ends.flat_values, [0]], axis=0)) + 1
    stretch = tf.cast(stretch, tf.int64)

    def line(positions: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        return tf.cast(positions, tf.int64) + tf.cast(rows, tf.int64) * stretch

    word_starts, word_ends = line(words.starts.flat_values, word_rows), line(words.ends.flat_values, word_rows)
    found = tf.searchsorted(line(ends, rows), word_starts, side="right")  # the first that ends past the word's start
    token_starts = tf.concat([line(starts, rows), [tf.int64.max]], axis=0)
    overlaps = tf.gather(token_starts, found) < word_ends
    return words.starts.with_flat_values(tf.where(overlaps, tf.gather(numbers, found), -1))
