"""Language models: KerasHub's heads over the vocabulary, and one for pairs of sentences beside them."""

from __future__ import annotations

from typing import Any

import keras_hub

from kft.accelerate.internals import TASK_CONFIG_FILE, check_file_exists
from kft.models import heads, seeding
from kft.models.presets import Preset


def masked_model(
    preset: Preset, max_length: int, dtype: str, seed: int, *, has_pairs: bool = False
) -> keras_hub.models.Task:
    """A model from token features and `mask_positions` to logits over the vocabulary at those positions.

    The head is the preset's own where it has one; else it starts from random weights, tied to the token embedding.

    Args:
        preset: Where backbone and tokenizer come from.
        max_length: The preprocessor's `sequence_length`.
        dtype: Precision policy of the whole model.
        seed: Seed of the head's weights and of dropout.
        has_pairs: Whether it tells of two sentences, too, how they belong together.
    """
    seeding.set_seed(seed)
    model_class: Any = preset.masked_lm_class()
    saved = _saved(preset, dtype)
    backbone = saved.backbone if saved else preset.backbone(dtype)
    preprocessor = model_class.preprocessor_cls(preset.tokenizer(), sequence_length=max_length)
    head_class: Any = heads.MaskedPairLM if has_pairs else model_class
    model = head_class(backbone=backbone, preprocessor=preprocessor, compile=False)
    if saved:
        model.masked_lm_head.set_weights(saved.masked_lm_head.get_weights())
        if has_pairs and isinstance(saved, heads.MaskedPairLM):
            model.pair_logits.set_weights(saved.pair_logits.get_weights())
    return model


def _saved(preset: Preset, dtype: str) -> Any:
    """The preset's own masked language model, if it is one."""
    if preset.ready is not None or not check_file_exists(preset.handle, TASK_CONFIG_FILE):
        return None
    kinds = (keras_hub.models.MaskedLM, heads.MaskedPairLM)
    return heads.open_task(preset.handle, dtype) if issubclass(heads.task_class(preset.handle), kinds) else None


def causal_model(preset: Preset, max_length: int, dtype: str, seed: int) -> keras_hub.models.Task:
    """A model from tokens to the logits of the token after each; arguments as for `masked_model`."""
    seeding.set_seed(seed)
    model_class: Any = preset.causal_lm_class()
    preprocessor = model_class.preprocessor_cls(preset.tokenizer(), sequence_length=max_length)
    return model_class(backbone=preset.backbone(dtype), preprocessor=preprocessor, compile=False)
