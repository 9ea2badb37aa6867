"""Logits of words to sequences of tags and to entities, in TensorFlow graph code that predict and the export share.

Inside, tags are ids of classes: one for each tag of a plain scheme, or of `O`, `B-x` and `I-x` for entities. Words
that are read off one token are one unit: they get one class, and are parts of one entity or of none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from kft.text import characters, ragged, words
from kft.text.tagging import word_logits, words_of

OUTSIDE = "O"
IMPOSSIBLE = -1e9


def viterbi(logits: tf.Tensor, lengths: tf.Tensor, allowed: tf.Tensor, allowed_first: tf.Tensor) -> tf.Tensor:
    """The likeliest sequence of classes in which every step is allowed.

    Args:
        logits: `(batch, words, classes)` float32.
        lengths: Words in each text, `(batch,)` int32.
        allowed: Whether a class may follow another, `(classes, classes)` bool.
        allowed_first: Whether a class may come first, `(classes,)` bool.

    Returns:
        `(batch, words)` int32; 0 after the last word.

    Reference:
        Viterbi, 1967, https://doi.org/10.1109/TIT.1967.1054010
    """
    scores = tf.nn.log_softmax(logits, axis=-1)
    batch, num_words, classes = tf.shape(scores)[0], tf.shape(scores)[1], tf.shape(scores)[2]
    step_cost = tf.where(allowed, 0.0, IMPOSSIBLE)  # from, to
    best = tf.where(allowed_first, scores[:, 0], IMPOSSIBLE)
    pointers = tf.TensorArray(tf.int32, num_words, element_shape=(None, None))
    pointers = pointers.write(0, tf.zeros((batch, classes), tf.int32))

    def forward(word: tf.Tensor, best: tf.Tensor, pointers: tf.TensorArray) -> tuple[Any, ...]:
        through = best[:, :, tf.newaxis] + step_cost  # (batch, from, to)
        origin = tf.argmax(through, axis=1, output_type=tf.int32)
        is_word = (word < lengths)[:, tf.newaxis]
        stay = tf.tile(tf.range(classes)[tf.newaxis], [batch, 1])
        best = tf.where(is_word, tf.reduce_max(through, axis=1) + scores[:, word], best)
        return word + 1, best, pointers.write(word, tf.where(is_word, origin, stay))

    _, best, pointers = tf.while_loop(
        lambda word, *_: word < num_words,
        forward,
        (1, best, pointers),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None]), tf.TensorShape(None)),
    )
    back = pointers.stack()  # (words, batch, classes)
    chosen = tf.TensorArray(tf.int32, num_words, element_shape=(None,))

    def backward(word: tf.Tensor, current: tf.Tensor, chosen: tf.TensorArray) -> tuple[Any, ...]:
        chosen = chosen.write(word, current)
        return word - 1, tf.gather(back[word], current, batch_dims=1), chosen

    last = tf.argmax(best, axis=-1, output_type=tf.int32)
    *_, chosen = tf.while_loop(
        lambda word, *_: word >= 0,
        backward,
        (num_words - 1, last, chosen),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape(None)),
    )
    return tf.where(tf.sequence_mask(lengths, num_words), tf.transpose(chosen.stack()), 0)


def answers(
    logits: tf.Tensor,
    classes: Sequence[str],
    scheme: str,
    missing: int,
    extras: Mapping[str, Any],
    texts: Sequence[Any],
    rule: str = words.WORDS,
) -> dict[str, tf.Tensor]:
    """The words of each text, their tags, and the entities they make.

    Args:
        logits: `(windows, tokens, classes)` float.
        classes: Their names; for entities `O`, then `B-x` and `I-x` for each type.
        scheme: `"bio"`, `"bioes"` or `"plain"`: how the tags are written.
        missing: The class of words that no token stands for.
        extras: What `encode` gives beside the backbone's inputs.
        texts: `(batch,)` strings, and where the words are given their marks.
        rule: How other words are found. By the first one a word is a unit of its own, whichever token it is read off.

    Returns:
        `tags` and `words.text` `(batch, words)` strings, filled up with empty ones, `words.start` and `.end` `(batch,
        words)` int32 in characters, and for entities `entities.type` and `.text` `(batch, entities)` strings, `.start`
        and `.end` int32, and `.score` float32, the mean probability of its words' classes.
    """
    strings = characters.valid(tf.convert_to_tensor(texts[0]))
    found = words_of(strings, texts[1:], rule)
    by_word, shares = word_logits(logits, extras, found, missing)
    if rule == words.FIRST:
        shares = shares.with_flat_values(tf.zeros_like(shares.flat_values))
    num_words = ragged.lengths(found.starts)
    width = tf.maximum(tf.reduce_max(tf.concat([num_words, [0]], axis=0)), 1)
    is_plain = scheme == "plain"
    ids, probability = _of_units(by_word, shares, width, classes, is_plain=is_plain)
    is_word = tf.sequence_mask(num_words, width)

    def filled(ragged: tf.RaggedTensor, fill: Any) -> tf.Tensor:
        values = ragged.to_tensor(fill)
        return tf.pad(values, [[0, 0], [0, width - tf.shape(values)[1]]], constant_values=fill)

    starts, ends = filled(found.starts, 0), filled(found.ends, 0)
    answer = {"words.text": filled(found.texts, ""), "words.start": starts, "words.end": ends}
    if is_plain:
        names = tf.gather(tf.constant(list(classes)), ids)
        return {**answer, "tags": tf.where(is_word, names, "")}
    return {
        **answer,
        "tags": tf.where(is_word, _written(ids, is_word, classes, scheme), ""),
        **_entities(strings, ids, probability, starts, ends, is_word, classes),
    }


def _of_units(
    by_word: tf.RaggedTensor, shares: tf.RaggedTensor, width: tf.Tensor, classes: Sequence[str], *, is_plain: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """The class of each word and its probability, `(batch, width)`, decided once for all words of a unit.

    Args:
        by_word: The words' logits, ragged `(batch, words, classes)`.
        shares: Whether a word belongs to the unit of the word before it, ragged `(batch, words)` bool.
        width: Words of the longest text, or more.
        classes: Their names.
        is_plain: Whether any class may follow any other.
    """
    is_first = ~shares.flat_values
    of_word = ragged.rows(shares)
    num_units = tf.math.unsorted_segment_sum(tf.cast(is_first, tf.int32), of_word, tf.cast(shares.nrows(), tf.int32))
    heads = tf.boolean_mask(by_word.flat_values, is_first)
    units = tf.RaggedTensor.from_row_lengths(heads, tf.cast(num_units, shares.row_splits.dtype), validate=False)
    dense = units.to_tensor(0.0, shape=(None, None, len(classes)))
    dense = tf.pad(dense, [[0, 0], [0, width - tf.shape(dense)[1]], [0, 0]])
    ids = tf.argmax(dense, axis=-1, output_type=tf.int32) if is_plain else _decoded(dense, num_units, classes)
    probability = tf.gather(tf.nn.softmax(dense, axis=-1), ids, batch_dims=2)

    number = tf.cumsum(tf.cast(is_first, tf.int32)) - 1 - tf.gather(ragged.begins(num_units), of_word)

    def at_words(values: tf.Tensor, fill: Any) -> tf.Tensor:
        padded = shares.with_flat_values(values).to_tensor(fill)
        return tf.pad(padded, [[0, 0], [0, width - tf.shape(padded)[1]]], constant_values=fill)

    unit = at_words(number, 0)
    further = tf.constant([classes.index(continued(name)) if not is_plain else i for i, name in enumerate(classes)])
    ids = tf.gather(ids, unit, batch_dims=1)
    ids = tf.where(at_words(shares.flat_values, False), tf.gather(further, ids), ids)
    return ids, tf.gather(probability, unit, batch_dims=1)


def continued(name: str) -> str:
    """The class of the words of a unit after its first.

    >>> continued("B-PER"), continued("O")
    ('I-PER', 'O')
    """
    return f"I-{name[2:]}" if name.startswith("B-") else name


def _decoded(logits: tf.Tensor, lengths: tf.Tensor, classes: Sequence[str]) -> tf.Tensor:
    """Class ids in which no `I-x` stands but after `B-x` or `I-x`."""
    allowed = [[not to.startswith("I-") or before[2:] == to[2:] for to in classes] for before in classes]
    allowed_first = [not name.startswith("I-") for name in classes]
    return viterbi(logits, lengths, tf.constant(allowed), tf.constant(allowed_first))


def _continues(ids: tf.Tensor, is_word: tf.Tensor, classes: Sequence[str]) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether each word is inside an entity that began before it, and whether the next word is."""
    is_inside = tf.gather(tf.constant([name.startswith("I-") for name in classes]), ids) & is_word
    return is_inside, tf.pad(is_inside[:, 1:], [[0, 0], [0, 1]])


def _written(ids: tf.Tensor, is_word: tf.Tensor, classes: Sequence[str], scheme: str) -> tf.Tensor:
    """The names of the tags in the user's scheme."""
    names = tf.gather(tf.constant(list(classes)), ids)
    if scheme == "bio":
        return names
    _, goes_on = _continues(ids, is_word, classes)
    last = {OUTSIDE: OUTSIDE} | {name: ("S-" if name[0] == "B" else "E-") + name[2:] for name in classes[1:]}
    return tf.where(goes_on, names, tf.gather(tf.constant([last[name] for name in classes]), ids))


def _entities(
    strings: tf.Tensor,
    ids: tf.Tensor,
    probability: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
    is_word: tf.Tensor,
    classes: Sequence[str],
) -> dict[str, tf.Tensor]:
    is_first = tf.gather(tf.constant([name.startswith("B-") for name in classes]), ids) & is_word
    is_inside, goes_on = _continues(ids, is_word, classes)
    is_part = is_first | is_inside
    # Entities are numbered through all texts; each gathers its words.
    first = tf.where(is_first)  # (entities, 2)
    number = tf.reshape(tf.cumsum(tf.reshape(tf.cast(is_first, tf.int32), [-1])), tf.shape(ids)) - 1
    parts = tf.boolean_mask(number, is_part)
    total = tf.shape(first)[0]
    summed = tf.math.unsorted_segment_sum(tf.boolean_mask(probability, is_part), parts, total)
    count = tf.math.unsorted_segment_sum(tf.ones_like(parts), parts, total)
    start = tf.gather_nd(starts, first)
    end = tf.boolean_mask(ends, is_part & ~goes_on)
    rows = tf.cast(first[:, 0], tf.int32)
    text = tf.strings.substr(tf.gather(strings, rows), start, end - start, unit="UTF8_CHAR")
    kinds = tf.gather(tf.constant([name[2:] or name for name in classes]), tf.gather_nd(ids, first))

    def by_text(values: tf.Tensor, fill: Any) -> tf.Tensor:
        return tf.RaggedTensor.from_value_rowids(values, rows, tf.size(strings, tf.int32)).to_tensor(fill)

    return {
        "entities.type": by_text(kinds, ""),
        "entities.text": by_text(text, ""),
        "entities.start": by_text(start, 0),
        "entities.end": by_text(end, 0),
        "entities.score": by_text(summed / tf.cast(tf.maximum(count, 1), tf.float32), 0.0),
    }
