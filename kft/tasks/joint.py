"""Joint intent and slots: one class for a text, and entities in it, from one backbone with two heads.

Reference:
    Chen, Zhuo and Wang, 2019, "BERT for joint intent classification and slot filling",
    https://arxiv.org/abs/1902.10909
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import clean, task_columns
from kft.data.store import Aligned, Store
from kft.data.table import Table
from kft.errors import PresetError
from kft.models import heads
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks import classify, tag
from kft.tasks.task import Task, Vocabulary
from kft.text import decode
from kft.text import tagging as graph


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
    """The intents as `labels`, and what `tag` learns of the slots as `slots`."""
    slots = tag.vocabulary(parts, recipe)
    names = clean.label_names(parts["train"])
    clean.check_labels(parts["train"], {name: part for name, part in parts.items() if name != "train"}, names)
    return {"labels": names, "slots": slots}


def targets(table: Table, vocabulary: Vocabulary, tokens: Store) -> Aligned:
    """For each token `intent x (slots + 1) + slot + 1`, the slot -1 where no word is read off it."""
    slots = tag.targets(table, vocabulary["slots"], tokens)
    intents = classify.targets(table, vocabulary)[tokens.texts]
    by_token = np.repeat(intents, np.diff(tokens.offsets[slots.group]))
    values = by_token * (len(vocabulary["slots"]["labels"]) + 1) + slots.values + 1
    return Aligned(values.astype(np.int32), slots.group, pad=0)


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """A model with the logits of the slots, then those of the intents, for each token.

    Raises:
        PresetError: The first token of a decoder sees no other, so no intent can be read off it.
    """
    if preset.is_causal():
        raise PresetError(
            f"preset {preset.name!r} is a decoder, whose first token sees no other; task joint reads the intent there. "
            "Expected an encoder such as minilm or bert_base_en_uncased."
        )
    return heads.token_model(preset, len(vocabulary["slots"]["labels"]) + len(vocabulary["labels"]), **settings)


class JointCrossentropy(keras.losses.Loss):
    """Cross-entropy of the intent at the first token, plus the mean of that of the words.

    Args:
        num_slots: Classes of words; the logits of the intents follow theirs.
    """

    def __init__(self, num_slots: int):
        super().__init__(name="joint_crossentropy", reduction="sum")
        self.num_slots = num_slots
        self.words = tag.WordCrossentropy()

    def call(self, y_true: Any, y_pred: Any) -> Any:
        logits = ops.cast(y_pred, "float32")  # (batch, tokens, slots + intents)
        both = ops.cast(y_true, "int32")  # (batch, tokens)
        slots = self.words.call(both % (self.num_slots + 1) - 1, logits[:, :, : self.num_slots])
        log_probs = ops.log_softmax(logits[:, 0, self.num_slots :], axis=-1)
        is_intent = ops.one_hot(both[:, 0] // (self.num_slots + 1), log_probs.shape[-1])
        return slots - ops.sum(is_intent * log_probs, axis=-1)


def loss(recipe: Recipe, vocabulary: Vocabulary) -> JointCrossentropy:
    """The sum of both losses."""
    return JointCrossentropy(len(vocabulary["slots"]["labels"]))


def answers(outputs: Any, vocabulary: Vocabulary, extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """`label`, `score` and `scores` of the intent, and what `tag` answers."""
    num_slots = len(vocabulary["slots"]["labels"])
    found = tag.answers(outputs[:, :, :num_slots], vocabulary["slots"], extras, texts)
    first = graph.of_first_windows(outputs, extras, texts[0])
    return {**decode.classes(first[:, num_slots:], vocabulary["labels"]), **found}


def limits(parts: Mapping[str, Table], vocabulary: Vocabulary) -> list[str]:
    """Those of the slots."""
    return tag.limits(parts, vocabulary["slots"])


def remarks(preprocessor: Any, tokens: Store, table: Table, vocabulary: Vocabulary) -> list[str]:
    """Those on the slots."""
    return tag.remarks(preprocessor, tokens, table, vocabulary["slots"])


def learnt(vocabulary: Vocabulary) -> dict[str, Any]:
    """Texts are read as the slots are."""
    return tag.learnt(vocabulary["slots"])


def score(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> dict[str, Any]:
    """The metrics of `tag`, and of the intents `intent_accuracy`; `exact_match` is the share of rows wholly right."""
    slots = tag.score(found, table, vocabulary["slots"])
    is_right = found["scores"].argmax(axis=1) == classify.targets(table, vocabulary)
    truth, answered = tag.compared(found, table, vocabulary["slots"])
    is_whole = is_right & np.array([a == b for a, b in zip(truth, answered, strict=True)])
    return {"intent_accuracy": float(is_right.mean()), "exact_match": float(is_whole.mean()), **slots}


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those that `score` gives."""
    return ["intent_accuracy", "exact_match", *tag.metric_names(vocabulary["slots"])]


def worst(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> tuple[list[Any], list[Any]]:
    """The figures of the intents, and the rows with most wrong words."""
    figures, _ = classify.worst(found, table, vocabulary)
    return figures, tag.worst(found, table, vocabulary["slots"])[1]


JOINT = Task(
    name="joint",
    columns=task_columns.COLUMNS["joint"],
    prepare=tag.prepare,
    derived=tag.TAG.derived,
    reads=tag.TAG.reads,
    vocabulary=vocabulary,
    targets=targets,
    features=tag.TAG.features,
    head=head,
    loss=loss,
    answers=answers,
    score=score,
    metrics=metric_names,
    shown=worst,
    best_by=("exact_match",),
    limits=limits,
    remarks=remarks,
    learnt=learnt,
)
