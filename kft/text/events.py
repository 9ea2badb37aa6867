"""Events in texts, in TensorFlow graph code: triggers first, then the arguments of each in a text that marks it.

A marked text names the event's type and shows its trigger: `We @ order * ordered @ two lamps`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from kft.text import characters, responses, tag_sequences, tagging
from kft.text.tag_sequences import IMPOSSIBLE, OUTSIDE

BEFORE, BETWEEN, AFTER = "@ ", " * ", " @"


def marked(text: str, start: int, end: int, kind: str) -> str:
    """A text with the trigger of an event marked.

    >>> marked("We ordered lamps", 3, 10, "order")
    'We @ order * ordered @ lamps'
    """
    return f"{text[:start]}{BEFORE}{kind}{BETWEEN}{text[start:end]}{AFTER}{text[end:]}"


def moved(span: tuple[int, int], start: int, end: int, kind: str) -> tuple[int, int]:
    """Where a span of a text is once the trigger from `start` to `end` is marked.

    >>> moved((11, 16), 3, 10, "order"), moved((0, 2), 3, 10, "order")
    ((23, 28), (0, 2))
    """
    width = len(BEFORE) + len(kind) + len(BETWEEN)

    def past(place: int, *, is_end: bool) -> int:
        before, after = (place > start, place > end) if is_end else (place >= start, place >= end)
        return place + width * before + len(AFTER) * after

    return past(span[0], is_end=False), past(span[1], is_end=True)


def answer(
    model: Any, texts: Sequence[tf.Tensor], *, labels: Sequence[str], missing: int, rule: str
) -> dict[str, tf.Tensor]:
    """The events of each text, as `extract` gives them.

    Args:
        model: A task model with a logit of each class for each token.
        texts: One column of strings.
        labels: The classes: `O`, then `B-` and `I-` of each `trigger:x` and `role:x`.
        missing: The class of words that no token stands for.
        rule: What a word is, of `kft.text.words.RULES`.
    """
    plain = [name if name == OUTSIDE else f"{name[:2]}{name.partition(':')[2]}" for name in labels]

    def tag(strings: tf.Tensor, sort: str) -> dict[str, tf.Tensor]:
        is_banned = [name != OUTSIDE and not name[2:].startswith(sort) for name in labels]
        features = tagging.encode(model.preprocessor, [strings], rule)
        inputs = {name: features.pop(name) for name in model.input}
        logits = tf.where(is_banned, IMPOSSIBLE, tf.cast(responses.outputs(model, inputs), tf.float32))
        return tag_sequences.answers(logits, plain, "bio", missing, features, [strings], rule)

    return extract(tag, texts[0])


def extract(tag: Callable[[tf.Tensor, str], Mapping[str, tf.Tensor]], texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """The events of each text, with their arguments.

    Args:
        tag: (`(batch,)` strings, `"trigger"` or `"role"`) to the `entities.…` of `tag_sequences.answers`, those of that
            sort alone and called as users call them.
        texts: `(batch,)` strings.

    Returns:
        `events.type` and `.text` `(batch, events)` strings, filled up with empty ones, `.start`, `.end` int32 in
        characters and `.score` float32; and `events.arguments.role` and the rest likewise, `(batch, events,
        arguments)`.
    """
    strings = characters.valid(texts)
    triggers = _named(tag(strings, "trigger"), "type")
    is_event = triggers["type"] != ""
    at = tf.where(is_event)
    start, end, kind = (tf.gather_nd(triggers[name], at) for name in ("start", "end", "type"))
    own = tf.gather(strings, at[:, 0])
    # An empty text stands last, so that there always is one to tag; what fills the answers up is gathered there.
    arguments = _named(tag(tf.concat([_marked(own, start, end, kind), [""]], axis=0), "role"), "role")
    arguments = _moved_back(arguments, tf.concat([own, [""]], axis=0), *_with_nothing(start, end, kind))
    number = tf.cumsum(tf.reshape(tf.cast(is_event, tf.int32), [-1])) - 1
    number = tf.where(is_event, tf.reshape(number, tf.shape(is_event)), tf.shape(at, tf.int32)[0])
    by_event = {f"events.arguments.{name}": tf.gather(values, number) for name, values in arguments.items()}
    return {**{f"events.{name}": values for name, values in triggers.items()}, **by_event}


def _named(found: Mapping[str, tf.Tensor], kind: str) -> dict[str, tf.Tensor]:
    names = {"entities.type": kind, **{f"entities.{name}": name for name in ("text", "start", "end", "score")}}
    return {short: found[name] for name, short in names.items()}


def _marked(texts: tf.Tensor, start: tf.Tensor, end: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """`marked` for `(events,)` of each."""

    def part(begin: Any, stop: Any) -> tf.Tensor:
        return tf.strings.substr(texts, begin, stop - begin, unit="UTF8_CHAR")

    length = tf.strings.length(texts, unit="UTF8_CHAR")
    pieces = [part(tf.zeros_like(start), start), BEFORE, kind, BETWEEN, part(start, end), AFTER, part(end, length)]
    return tf.strings.join(pieces)


def _with_nothing(start: tf.Tensor, end: tf.Tensor, kind: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The same with one more, for the empty text."""
    return tf.concat([start, [0]], 0), tf.concat([end, [0]], 0), tf.concat([kind, [""]], 0)


def _moved_back(
    found: Mapping[str, tf.Tensor], texts: tf.Tensor, start: tf.Tensor, end: tf.Tensor, kind: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Arguments found in marked texts, placed in the texts as they are."""
    width = len(BEFORE) + len(BETWEEN) + tf.strings.length(kind, unit="UTF8_CHAR")
    start, end, width = (values[:, tf.newaxis] for values in (start, end, width))

    def back(place: tf.Tensor) -> tf.Tensor:
        inside = tf.clip_by_value(place - width, start, end)
        return tf.where(place <= start, place, tf.maximum(inside, place - width - len(AFTER)))

    is_one = found["role"] != ""
    first, last = (tf.where(is_one, back(found[name]), 0) for name in ("start", "end"))
    own = tf.repeat(texts[:, tf.newaxis], tf.shape(first)[1], axis=1)
    text = tf.strings.substr(own, first, last - first, unit="UTF8_CHAR")
    is_one &= text != ""  # what lies in the marks alone is nothing
    kept = {"role": tf.where(is_one, found["role"], ""), "text": text, "start": first, "end": last}
    order = tf.argsort(tf.cast(~is_one, tf.int32), axis=-1, stable=True)
    return {name: tf.gather(values, order, batch_dims=1) for name, values in {**kept, "score": found["score"]}.items()}
