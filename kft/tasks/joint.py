"""Joint intent and slots: one class for a text, and entities in it, from one backbone with two heads.

Reference:
    Chen, Zhuo and Wang, 2019, "BERT for joint intent classification and slot filling",
    https://arxiv.org/abs/1902.10909
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from kft.data import task_columns
from kft.data.store import Store
from kft.data.table import Table
from kft.errors import PresetError
from kft.losses import row_losses
from kft.losses.objective import Objective, Term
from kft.losses.tokens import tag_crossentropy
from kft.models import multi_head
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks import classify, tag
from kft.tasks.task import Answers, Build, Evaluator, Forward, Labels, Problem, Targets, Task, View
from kft.text import decode
from kft.text import tagging as graph


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """The intents as `labels`, and what `tag` learns of the slots as `slots`."""
    slots = tag.learn(parts, recipe)
    return {"labels": classify.class_names(parts), "slots": slots}


def build_of(num_intents: int, num_slots: int) -> Build:
    """A model with the logits of the `intent` off the first token, and of the `slots` off each.

    Raises:
        PresetError: The first token of a decoder sees no other, so no intent can be read off it.
    """

    def model(preset: Preset, **settings: Any) -> Any:
        if preset.is_causal():
            raise PresetError(
                f"preset {preset.name!r} is a decoder, whose first token sees no other; task joint reads the intent "
                "there. Expected an encoder such as minilm or bert_base_en_uncased."
            )
        specs: dict[str, multi_head.HeadSpec] = {
            "intent": {"num_outputs": num_intents, "reads": "first"},
            "slots": {"num_outputs": num_slots, "reads": "tokens"},
        }
        return multi_head.multi_head_model(preset, specs, **settings)

    def network(model: Any, num_texts: int) -> keras.Model:
        outputs = model.output
        if not isinstance(outputs, dict):  # the first version had both in one layer, the slots before the intents
            outputs = {"intent": outputs[:, 0, num_slots:], "slots": outputs[:, :, :num_slots]}
        return keras.Model(model.input, outputs)

    return Build(model, network, {"intent": num_intents, "slots": num_slots})


def intent_loss(outputs: Any, targets: Any) -> Any:
    """Cross-entropy of the intent."""
    return row_losses.crossentropy(outputs["intent"], targets["intent"])


def slot_loss(outputs: Any, targets: Any) -> Any:
    """Mean of the cross-entropies of the words."""
    return tag_crossentropy(outputs["slots"], targets["slots"])


def answers(
    labels: Labels, outputs: Mapping[str, Any], extras: Mapping[str, Any], texts: Sequence[Any]
) -> dict[str, Any]:
    """`label`, `score` and `scores` of the intent, and what `tag` answers."""
    slots = tag.answers_of(labels["slots"], outputs["slots"], extras, texts)
    intent = graph.of_first_windows(outputs["intent"], extras, texts[0])
    return {**decode.classes(intent, labels["labels"]), **slots}


def evaluator_of(labels: Labels) -> Evaluator:
    """The metrics of `tag`; `intent_accuracy`; and `exact_match`, the share of rows that are wholly right."""
    names, slots = labels["labels"], labels["slots"]

    def scored(answers: Answers, table: Table) -> dict[str, Any]:
        is_right = answers["scores"].argmax(axis=1) == classify.class_ids(table, names)
        truth, answered = tag.compared(answers, table)
        is_whole = is_right & np.array([a == b for a, b in zip(truth, answered, strict=True)])
        own = {"intent_accuracy": float(is_right.mean()), "exact_match": float(is_whole.mean())}
        return {**own, **tag.scored(slots, answers, table)}

    def view(answers: Answers, table: Table) -> View:
        figures, _ = classify.view_of(names)(answers, table)
        return figures, tag.view(answers, table)[1]

    single = ["intent_accuracy", "exact_match", *tag.metric_names(slots)]
    return Evaluator(single, ("exact_match",), of_answers=scored, view=view)


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of telling the intent of a text and the slots in it."""
    names, slots = labels["labels"], labels["slots"]
    examples = tag.examples_of(slots)

    def targets(table: Table, tokens: Store) -> Targets:
        intents = classify.class_ids(table, names)[tokens.texts]
        return {"intent": intents, "slots": tag.word_classes(slots, table, tokens)}

    return Problem(
        labels,
        SCHEMA,
        replace(examples, targets=targets),
        build_of(len(names), len(slots["labels"])),
        Objective((Term("intent", intent_loss), Term("slots", slot_loss))),
        Forward(lambda outputs, extras, texts: answers(labels, outputs, extras, texts), {"scores": names}),
        evaluator_of(labels),
    )


SCHEMA = replace(tag.SCHEMA, columns=task_columns.COLUMNS["joint"])
JOINT = Task("joint", SCHEMA, learn, restore)
