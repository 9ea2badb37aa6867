"""Pretraining, from random weights or from a model's own: masked tokens, the next token, and pairs of sentences.

The vocabulary's `objective` picks the variant of the task: `mlm`, `clm`, `nsp` or `sop`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import blocks, task_columns
from kft.data.feed import Disguise
from kft.data.masking import Masking, Pairing, num_hidden
from kft.data.store import Aligned, Store
from kft.data.table import Table
from kft.errors import RecipeError
from kft.evaluation import metrics
from kft.models import language, presets
from kft.models.language import token_loss
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.task import Task, Vocabulary
from kft.text import causal, layout, masked, responses


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
    """What is learnt, as asked for or as the backbone can; refuses what it cannot."""
    objective = _objective(recipe, presets.find(recipe.preset))
    if objective == "clm" and recipe.transfer == "features":
        raise RecipeError(
            f"transfer: found {recipe.transfer!r}, which trains the head alone; in clm that is the token embedding of "
            "the backbone. Expected full."
        )
    recipe.refuse_unused("pretrain", pretrain_objective=objective)
    return {"objective": objective, "mask_rate": recipe.mask_rate}


def _objective(recipe: Recipe, preset: Preset) -> str:
    name, asked = preset.backbone_class.__name__, recipe.pretrain_objective
    able = {
        "mlm": preset.masked_lm_class() is not None,
        "clm": preset.causal_lm_class() is not None,
        "nsp": preset.masked_lm_class() is not None and preset.has_segments(),
        "sop": preset.masked_lm_class() is not None and preset.has_segments(),
    }
    known = [objective for objective, is_able in able.items() if is_able]
    if not known:
        raise RecipeError(
            f"preset: found {recipe.preset!r}, for whose {name} KerasHub has no MaskedLM and no CausalLM. Expected "
            "an encoder such as BERT or RoBERTa, or a decoder such as GPT-2."
        )
    if asked == "auto":
        return "clm" if able["clm"] else "mlm"
    if asked not in known:
        raise RecipeError(
            f"pretrain_objective: found {asked!r}, but {recipe.preset} is a {name}, which has no model for it. "
            f"Expected one of: {', '.join(known)}."
        )
    return asked


class RowLoss(keras.losses.Loss):
    """A number for each row as a Keras loss.

    Args:
        function: (targets, logits) to `(batch,)`.
    """

    def __init__(self, function: Callable[[Any, Any], Any]):
        super().__init__(name=function.__name__, reduction="sum")
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)


def hidden_token_loss(y_true: Any, y_pred: Any) -> Any:
    """`token_loss` of what comes after the pair."""
    return token_loss(y_true[:, 1:], y_pred[:, 1:])


def pair_and_token_loss(y_true: Any, y_pred: Any) -> Any:
    """Cross-entropy of the pair, where there is one, and `token_loss` of the rest (Devlin et al., 2019, app. A.2)."""
    return token_loss(y_true[:, :1], y_pred[:, :1, :2]) + hidden_token_loss(y_true, y_pred)


def pairs_right(y_true: Any, y_pred: Any) -> Any:
    """1 for each row whose pair is told right."""
    answer = ops.cast(y_pred[:, 0, 1] > y_pred[:, 0, 0], "int32")
    return ops.cast(ops.cast(y_true[:, 0], "int32") == answer, "float32")


def pairs(y_true: Any, y_pred: Any) -> Any:
    """1 for each row that has a pair."""
    return ops.cast(y_true[:, 0] >= 0, "float32")


def loss(recipe: Recipe, vocabulary: Vocabulary) -> RowLoss:
    """Cross-entropy, as the objective has it."""
    return RowLoss(pair_and_token_loss if vocabulary["objective"] in ("nsp", "sop") else token_loss)


def masked_head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """KerasHub's MaskedLM, or kft's for pairs."""
    return language.masked_model(preset, **settings, has_pairs=vocabulary["objective"] in ("nsp", "sop"))


def causal_head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """KerasHub's CausalLM."""
    return language.causal_model(preset, **settings)


def masking(recipe: Recipe, preprocessor: Any) -> Masking:
    """What hides tokens."""
    tokenizer = preprocessor.tokenizer
    ordinary = np.setdiff1d(np.arange(tokenizer.vocabulary_size()), tokenizer.special_token_ids)
    return Masking(tokenizer.mask_token_id, ordinary, recipe.mask_rate, recipe.whole_word_mask, recipe.seed)


def pairing(kind: Any) -> Callable[[Recipe, Any], Disguise]:
    """What moves sentences and hides tokens."""

    def disguise(recipe: Recipe, preprocessor: Any) -> Disguise:
        packing = layout.of(preprocessor)
        special = (len(packing.start), len(packing.middle), len(packing.end))
        return Pairing(masking(recipe, preprocessor), kind, special)

    return disguise


def num_maskable(table: Table, vocabulary: Vocabulary, store: Store) -> np.ndarray:
    """How many tokens of each row may be hidden: `(rows,)`. Which of them are is decided batch by batch."""
    offsets = store.offsets[store.group_of("word")]
    return np.add.reduceat(np.append(store.ids["word"] >= 0, 0), offsets[:-1]).astype(np.int32)


def masked_counts(maskable: np.ndarray, vocabulary: Vocabulary, store: Store) -> np.ndarray:
    """The hidden tokens of each row: `(rows,)`."""
    return num_hidden(maskable, vocabulary["mask_rate"])


def following(table: Table, vocabulary: Vocabulary, store: Store) -> Aligned:
    """The token after each token."""
    return blocks.following(store)


def block_counts(aligned: Aligned, vocabulary: Vocabulary, store: Store) -> np.ndarray:
    """The tokens of each block: `(rows,)`."""
    return store.lengths


def by_losses(found: Mapping[str, float]) -> dict[str, float]:
    """The mean loss, and the perplexity that the loss of the tokens stands for (in mlm of the hidden ones)."""
    by_token = found["tokens"] if "tokens" in found else found["loss"]
    scores = {"loss": found["loss"], "perplexity": metrics.perplexity(by_token)}
    if "pairs" in found:
        scores["pair_accuracy"] = found["pairs_right"] / found["pairs"] if found["pairs"] else 0.0
    return scores


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those beside the loss."""
    return ["perplexity", *(["pair_accuracy"] if vocabulary["objective"] in ("nsp", "sop") else [])]


def nothing_to_show(found: Mapping[str, Any], table: Table, vocabulary: Vocabulary) -> tuple[list[Any], list[Any]]:
    """The report has the curves alone."""
    return [], []


def fills(model: Any, vocabulary: Vocabulary) -> Callable[[Any], dict[str, Any]]:
    """From texts to what stands behind their masks."""
    return responses.responder(masked.fill, model)


def perplexities(model: Any, vocabulary: Vocabulary) -> Callable[[Any], dict[str, Any]]:
    """From texts to how well they are foreseen."""
    return responses.responder(causal.judge, model)


MLM = Task(
    name="pretrain",
    columns=task_columns.COLUMNS["pretrain"],
    vocabulary=vocabulary,
    targets=num_maskable,
    features=masked.encode,
    head=masked_head,
    loss=loss,
    counts=masked_counts,
    answers=None,
    score=None,
    by_losses=by_losses,
    metrics=metric_names,
    shown=nothing_to_show,
    best_by=("loss",),
    disguise=masking,
    respond=fills,
)
CLM = replace(
    MLM,
    targets=following,
    features=causal.encode,
    head=causal_head,
    counts=block_counts,
    arrange=blocks.cut,
    disguise=None,
    respond=perplexities,
)
PAIRS = replace(
    MLM,
    features=masked.encode_pairs,
    measures={"tokens": RowLoss(hidden_token_loss), "pairs_right": RowLoss(pairs_right), "pairs": RowLoss(pairs)},
)
PRETRAIN = replace(
    MLM,
    variants={
        "mlm": MLM,
        "clm": CLM,
        "nsp": replace(PAIRS, disguise=pairing("nsp")),
        "sop": replace(PAIRS, disguise=pairing("sop")),
    },
)
