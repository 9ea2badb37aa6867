"""Pretraining, from random weights or from a model's own: masked tokens, the next token, and pairs of sentences.

The `objective` of the label spec is: `mlm`, `clm`, `nsp` or `sop`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import blocks, task_columns
from kft.data.masking import Masking, Pairing, num_hidden
from kft.data.store import Store
from kft.data.streams import Collator
from kft.data.table import Table
from kft.errors import RecipeError
from kft.evaluation import perplexity
from kft.losses.objective import Objective, Term
from kft.losses.tokens import token_crossentropy
from kft.models import language, presets
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.task import Build, Evaluator, Examples, Generated, Labels, Problem, Schema, Targets, Task
from kft.text import causal, layout, masked, responses


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
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


def token_loss(outputs: Any, targets: Any) -> Any:
    """Cross-entropy of the hidden or following tokens."""
    return token_crossentropy(outputs["tokens"], targets["tokens"])


def pair_loss(outputs: Any, targets: Any) -> Any:
    """Cross-entropy of the pair, 0 for rows that have none (Devlin et al., 2019, app. A.2)."""
    return token_crossentropy(outputs["pair"][:, None], targets["pair"][:, None])


def pairs_right(outputs: Any, targets: Any) -> Any:
    """1 for each row whose pair is told right."""
    answer = ops.cast(outputs["pair"][:, 1] > outputs["pair"][:, 0], "int32")
    return ops.cast(ops.cast(targets["pair"], "int32") == answer, "float32")


def pairs(outputs: Any, targets: Any) -> Any:
    """1 for each row that has a pair."""
    return ops.cast(targets["pair"] >= 0, "float32")


def masked_build(*, has_pairs: bool) -> Build:
    """KerasHub's MaskedLM, or kft's for pairs."""
    network = _own_outputs if has_pairs else _tokens_of
    return Build(partial(language.masked_model, has_pairs=has_pairs), network)


def _own_outputs(model: Any, num_texts: int) -> keras.Model:
    return keras.Model(model.input, model.output)


def _tokens_of(model: Any, num_texts: int) -> keras.Model:
    return keras.Model(model.input, {"tokens": model.output})


def masking(recipe: Recipe, preprocessor: Any) -> Masking:
    """What hides tokens."""
    tokenizer = preprocessor.tokenizer
    ordinary = np.setdiff1d(np.arange(tokenizer.vocabulary_size()), tokenizer.special_token_ids)
    return Masking(tokenizer.mask_token_id, ordinary, recipe.mask_rate, recipe.whole_word_mask, recipe.seed)


def pairing(recipe: Recipe, kind: Any, preprocessor: Any) -> Collator:
    """What moves sentences and hides tokens."""
    packing = layout.of(preprocessor)
    special = (len(packing.start), len(packing.middle), len(packing.end))
    return Pairing(masking(recipe, preprocessor), kind, special)


def no_targets(table: Table, store: Store) -> Targets:
    """Which tokens are hidden is decided batch by batch."""
    return {}


def num_masked(mask_rate: float, targets: Targets, store: Store) -> np.ndarray:
    """How many tokens of each row are hidden: `(rows,)`."""
    offsets = store.offsets[store.group_of("word")]
    maskable = np.add.reduceat(np.append(store.features["word"] >= 0, 0), offsets[:-1])
    return num_hidden(maskable, mask_rate)


def following(table: Table, store: Store) -> Targets:
    """The token after each token."""
    return {"tokens": blocks.following(store)}


def block_lengths(targets: Targets, store: Store) -> np.ndarray:
    """The tokens of each block: `(rows,)`."""
    return store.lengths


def of_losses(means: Mapping[str, float]) -> dict[str, float]:
    """The mean loss, and the perplexity that the loss of the tokens stands for (in mlm of the hidden ones)."""
    scores = {"loss": sum(means[name] for name in ("pair", "tokens") if name in means)}
    scores["perplexity"] = perplexity.of_loss(means["tokens"])
    if "pairs" in means:
        scores["pair_accuracy"] = means["pairs_right"] / means["pairs"] if means["pairs"] else 0.0
    return scores


def fill(model: Any) -> Callable[[Any], dict[str, Any]]:
    """From texts to what stands behind their masks."""
    return responses.responder(masked.fill, model)


def judge(model: Any) -> Callable[[Any], dict[str, Any]]:
    """From texts to how well they are predicted."""
    return responses.responder(causal.judge, model)


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of the objective."""
    objective = labels["objective"]
    if objective == "clm":
        return Problem(
            labels,
            SCHEMA,
            Examples(causal.encode, following, pack=blocks.cut),
            Build(language.causal_model, _tokens_of),
            Objective((Term("tokens", token_loss, count=block_lengths),)),
            Generated(judge),
            Evaluator(("perplexity",), ("loss",), of_losses=of_losses),
        )
    hidden = Term("tokens", token_loss, count=partial(num_masked, labels["mask_rate"]))
    if objective == "mlm":
        return Problem(
            labels,
            SCHEMA,
            Examples(masked.encode, no_targets, collate=partial(masking, recipe)),
            masked_build(has_pairs=False),
            Objective((hidden,)),
            Generated(fill),
            Evaluator(("perplexity",), ("loss",), of_losses=of_losses),
        )
    return Problem(
        labels,
        SCHEMA,
        Examples(masked.encode_pairs, no_targets, collate=partial(pairing, recipe, objective)),
        masked_build(has_pairs=True),
        Objective((Term("pair", pair_loss), hidden)),
        Generated(fill),
        Evaluator(
            ("perplexity", "pair_accuracy"),
            ("loss",),
            of_losses=of_losses,
            values={"pairs_right": pairs_right, "pairs": pairs},
        ),
    )


SCHEMA = Schema(task_columns.COLUMNS["pretrain"])
PRETRAIN = Task("pretrain", SCHEMA, learn, restore)
