"""A model that scores several choices for one text."""

from __future__ import annotations

from typing import Any

import keras
import keras_hub
from keras import ops, saving
from keras_hub.src.utils.preset_utils import get_preset_loader

from kft.models import heads
from kft.models.presets import Preset


def prefix(number: int) -> str:
    """What the names of the inputs for a choice begin with, counted from 1.

    >>> prefix(2)
    'choice2_'
    """
    return f"choice{number}_"


def choice_model(preset: Preset, num_choices: int, max_length: int, dtype: str, seed: int) -> keras_hub.models.Task:
    """A model from the token features of text and choice, for each choice, to `(batch, num_choices)` logits.

    Args:
        preset: Where backbone and tokenizer come from.
        num_choices: Of each row.
        max_length: The preprocessor's `sequence_length`.
        dtype: Precision policy of the whole model.
        seed: Seed of the head's weights and of dropout.
    """
    keras.utils.set_random_seed(seed)
    backbone, tokenizer = preset.backbone(dtype), preset.tokenizer()
    preprocessor = heads.preprocessor_of(preset, backbone, tokenizer, max_length)
    pooling = heads.pooling_of(preset, preprocessor)
    return ChoiceScorer(
        backbone=backbone, preprocessor=preprocessor, num_choices=num_choices, pooling=pooling, compile=False
    )


@saving.register_keras_serializable(package="kft")
class ChoiceScorer(keras_hub.models.Task):
    """One logit for each of several choices, all read by the same backbone, on any KerasHub text backbone.

    Saves and loads as a KerasHub preset once `kft.models.choices` is imported.

    Args:
        backbone: A KerasHub text backbone.
        num_choices: Of each row.
        preprocessor: What turns strings into the backbone's inputs.
        pooling: `"first"`, `"last"` or `"mean"`, as for `kft.models.heads.SequenceClassifier`.
        dropout: Share of the pooled vector dropped in training.

    Reference:
        Zellers et al., 2018, sec. 5.1, https://arxiv.org/abs/1808.05326; Devlin et al., 2019, sec. 4.4
    """

    def __init__(
        self,
        backbone: Any,
        num_choices: int,
        preprocessor: Any = None,
        pooling: str = "first",
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        single = heads.SequenceClassifier(backbone, 1, pooling=pooling, dropout=dropout, compile=False)
        scorer = keras.Model(single.input, single.output)  # without layers of the backbone that lead elsewhere
        inputs: dict[str, Any] = {}
        logits = []
        for number in range(1, num_choices + 1):
            own = {
                name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=prefix(number) + name)
                for name, tensor in scorer.input.items()
            }
            inputs |= {prefix(number) + name: tensor for name, tensor in own.items()}
            logits.append(scorer(own))
        self.backbone = backbone
        self.preprocessor = preprocessor
        super().__init__(inputs=inputs, outputs=ops.concatenate(logits, axis=-1), **kwargs)
        self.num_choices = num_choices
        self.pooling = pooling
        self.dropout = dropout

    def get_config(self) -> dict[str, Any]:
        names = ("num_choices", "pooling", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any) -> ChoiceScorer:
        """Opens a preset that was saved from this class; KerasHub's lookup by backbone class is not needed."""
        return get_preset_loader(preset).load_task(cls, load_weights, "num_choices" not in kwargs, **kwargs)
