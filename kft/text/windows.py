"""Long texts in overlapping windows, in TensorFlow graph code."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from kft.errors import RecipeError
from kft.text import ragged
from kft.text.layout import Layout


class Windows(NamedTuple):
    """The windows of a batch of texts, those of a text one after the other.

    Attributes:
        features: The backbone's inputs by name, `(windows, length)` each: ids and segments int32, the mask bool.
        rows: Which text each window is from, `(windows,)` int32.
        token_index: The number of the token at each position in its text, `(windows, length)` int32; -1 for special
            tokens, padding and the first text.
        has_most_context: Whether no other window shows more of both sides of this token, `(windows, length)` bool. Just
            one window of each token has it.
    """

    features: dict[str, tf.Tensor]
    rows: tf.Tensor
    token_index: tf.Tensor
    has_most_context: tf.Tensor


def cut(
    layout: Layout, ids: tf.RaggedTensor, length: int, stride: int = 0, first: tf.RaggedTensor | None = None
) -> Windows:
    """Windows that show every token of every text. Graph code.

    Args:
        layout: Where special tokens stand.
        ids: The tokens of the texts, ragged `(batch, tokens)` int32. A text without any has one window.
        length: Positions of a window, special tokens and padding included.
        stride: Tokens that a window shares with the next; no more than half of those it has room for.
        first: Tokens of a text that comes first in each window of its row, such as the question about a passage: ragged
            `(batch, tokens)` int32. They are cut where they would leave the other text less than a quarter of a window.

    Raises:
        RecipeError: A length without room for tokens, or a negative stride.
    """
    num_special = layout.num_special(1 if first is None else 2)
    least = 1 if first is None else least_room(length)
    needed = num_special + (1 if first is None else 2)
    if length < needed or length < num_special + least:
        raise RecipeError(
            f"max_length={length} leaves no room between the {num_special} special tokens of a window; expected "
            f"{needed} or more."
        )
    if stride < 0:
        raise RecipeError(f"stride={stride}: expected 0 or more, the tokens that neighbouring windows share.")

    if first is not None:
        first = first[:, : length - num_special - least]
    num_tokens = ragged.lengths(ids)
    room = length - num_special - (tf.zeros_like(num_tokens) if first is None else ragged.lengths(first))
    begins, sizes, rows = _spans(num_tokens, room, stride)
    index = tf.ragged.range(begins, begins + sizes)  # (windows, tokens)
    window = ragged.owners(sizes)
    token = (
        tf.gather(ragged.begins(num_tokens), tf.gather(rows, window)) + index.flat_values
    )  # among those of all texts

    # A window is head, body, tail: its share of the text is the body.
    body = index.with_flat_values(tf.gather(ids.flat_values, token))
    head, tail = _same_ids(layout.start, body), _same_ids(layout.end, body)
    if first is not None:
        head = tf.concat([head, tf.gather(first, rows), _same_ids(layout.middle, body)], axis=1)

    def dense(in_head: tf.RaggedTensor, in_body: tf.RaggedTensor, in_tail: tf.RaggedTensor, pad: int) -> tf.Tensor:
        return tf.concat([in_head, in_body, in_tail], axis=1).to_tensor(pad, shape=(None, length))

    no_head, no_tail = tf.zeros_like(head), tf.zeros_like(tail)
    second = 0 if first is None else 1
    features = {
        "token_ids": dense(head, body, tail, layout.pad),
        "padding_mask": tf.cast(dense(no_head + 1, tf.ones_like(body), no_tail + 1, 0), tf.bool),
        "segment_ids": dense(no_head, tf.ones_like(body) * second, no_tail + second, 0),
    }
    best = index.with_flat_values(tf.cast(_has_most_context(sizes, window, token), tf.int32))
    return Windows(
        {name: features[name.removeprefix("encoder_")] for name in layout.names},
        rows,
        dense(no_head - 1, index, no_tail - 1, -1),
        tf.cast(dense(no_head, best, no_tail, 0), tf.bool),
    )


def least_room(length: int) -> int:
    """Tokens that a window leaves the second of two texts, however long the first is."""
    return -(-length // 4)


def _spans(num_tokens: tf.Tensor, room: tf.Tensor, stride: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """First token, number of tokens and text of each window, `(windows,)` int32, from those of `(batch,)` texts."""
    step = room - tf.minimum(stride, room // 2)
    num_windows = 1 + tf.maximum((num_tokens - room + step - 1) // step, 0)
    rows = ragged.owners(num_windows)
    numbers = tf.range(tf.size(rows)) - tf.gather(ragged.begins(num_windows), rows)
    begins = numbers * tf.gather(step, rows)
    return begins, tf.minimum(tf.gather(num_tokens, rows) - begins, tf.gather(room, rows)), rows


def _has_most_context(sizes: tf.Tensor, window: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Whether the window of each token is the one that shows most of both its sides.

    The score and the choice of the first among equals are those of BERT's `run_squad.py` (Devlin et al., 2019): the
    shorter side counts, and a longer window a little.

    Args:
        sizes: Tokens in each window, `(windows,)`.
        window: The window of each token in it, `(all tokens of all windows,)`.
        token: The number of the same token among those of all texts.
    """
    size = tf.gather(sizes, window)
    left = tf.range(tf.size(window)) - tf.gather(ragged.begins(sizes), window)
    score = tf.cast(100 * tf.minimum(left, size - 1 - left) + size, tf.int64)
    # No two windows of a token score the same.
    score = score * tf.size(sizes, tf.int64) - tf.cast(window, tf.int64)
    best = tf.math.unsorted_segment_max(score, token, tf.reduce_max(tf.concat([token, [-1]], axis=0)) + 1)
    return score == tf.gather(best, token)


def _same_ids(ids: tuple[int, ...], like: tf.RaggedTensor) -> tf.RaggedTensor:
    """The same few ids in every window: `(windows, len(ids))`, ragged as `like`."""
    return tf.RaggedTensor.from_tensor(tf.tile(tf.constant([ids], like.dtype, (1, len(ids))), [like.nrows(), 1]))
