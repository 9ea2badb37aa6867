"""How much of some texts a tokenizer does not know."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf
from keras_hub.tokenizers import SentencePieceTokenizer, WordPieceTokenizer

from kft.text import characters

WARNED_SHARE = 0.05
MULTILINGUAL = ("xlm_roberta_base_multi", "bert_base_multi")


def unknown_id(tokenizer: Any) -> int | None:
    """The id of the unknown token; None where every byte is a token, and so every text is known."""
    if isinstance(tokenizer, WordPieceTokenizer):
        return int(tokenizer.token_to_id(tokenizer.oov_token))
    if isinstance(tokenizer, SentencePieceTokenizer):
        return int(getattr(tokenizer, "unk_token_id", tokenizer._unk_token_id))
    return None


def share(tokenizer: Any, slices: Iterable[Sequence[Sequence[str]]]) -> float | None:
    """The share of a tokenizer's tokens that are unknown, in [0, 1]; None where there is no unknown token.

    Args:
        tokenizer: A KerasHub tokenizer.
        slices: Lists of strings for each text column.
    """
    if unknown_id(tokenizer) is None:
        return None
    counts = _counter(tokenizer)
    found = [counts(tf.constant(list(column), tf.string)) for part in slices for column in part]
    num_unknown, num_tokens = (sum(int(pair[i]) for pair in found) for i in (0, 1))
    return num_unknown / max(num_tokens, 1)


@functools.lru_cache(maxsize=4)
def _counter(tokenizer: Any) -> Any:
    """(Texts) to how many of their tokens are unknown and how many there are, traced once for a tokenizer."""
    number = unknown_id(tokenizer)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def counts(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ids = tokenizer.tokenize(characters.without_nul(characters.valid(texts))).flat_values
        return tf.reduce_sum(tf.cast(ids == number, tf.int32)), tf.size(ids)

    return counts


def warning(preset: str, found: float | None) -> str | None:
    """What to say of a share that is too large."""
    if found is None or found <= WARNED_SHARE:
        return None
    return (
        f"{found:.0%} of the tokens are unknown to {preset}: words or characters that its vocabulary lacks, all read "
        f"alike. Take a preset of the language of the rows, or a multilingual one such as {MULTILINGUAL[0]}."
    )
