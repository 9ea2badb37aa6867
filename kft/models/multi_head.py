"""Models with several heads on one backbone, each with an output of its own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import keras
import keras_hub
from keras import saving

from kft.accelerate.internals import get_preset_loader
from kft.models import heads, seeding
from kft.models.presets import Preset


class HeadSpec(TypedDict):
    """What a head is.

    `num_outputs` is its width; it reads each of the `tokens`, or one vector for the row: of the `first` token, of the
    `last` that is no padding, the `mean`, or the backbone's own `pooled` one. `row` stands for the vector that
    `kft.models.heads.sequence_model` reads of the backbone at hand.
    """

    num_outputs: int
    reads: Literal["tokens", "first", "last", "mean", "pooled", "row"]


def multi_head_model(
    preset: Preset, specs: Mapping[str, HeadSpec], max_length: int, dtype: str, seed: int
) -> keras_hub.models.Task:
    """A model from token features to the outputs of each head by name, with its preprocessor.

    Args:
        preset: Where backbone and tokenizer come from.
        specs: The heads by name.
        max_length: The preprocessor's `sequence_length`.
        dtype: Precision policy of the whole model, such as `"mixed_bfloat16"`.
        seed: Seed of the heads' weights and of dropout.
    """
    seeding.set_seed(seed)
    backbone, tokenizer = preset.backbone(dtype), preset.tokenizer()
    preprocessor = heads.preprocessor_for(preset, backbone, tokenizer, max_length)
    is_pooled = isinstance(backbone.output, dict) and "pooled_output" in backbone.output
    of_row: Any = "pooled" if is_pooled else heads.pooling_of(preset, preprocessor)
    decided: dict[str, HeadSpec] = {
        name: {"num_outputs": spec["num_outputs"], "reads": of_row if spec["reads"] == "row" else spec["reads"]}
        for name, spec in specs.items()
    }
    return MultiHead(backbone=backbone, heads=decided, preprocessor=preprocessor, compile=False)


@saving.register_keras_serializable(package="kft")
class MultiHead(keras_hub.models.Task):
    """Linear heads on any KerasHub text backbone.

    A head is dropout and a dense layer. The outputs are a dict: `(batch, num_outputs)` of a head that reads one vector
    for the row, and `(batch, tokens, num_outputs)` of one that reads tokens. Saves and loads as a KerasHub preset once
    `kft.models.multi_head` is imported.

    Args:
        backbone: A KerasHub text backbone.
        heads: The `HeadSpec` of each head by its name.
        preprocessor: What turns strings into the backbone's inputs.
        dropout: Share of each vector dropped in training.
    """

    def __init__(
        self,
        backbone: Any,
        heads: Mapping[str, HeadSpec],
        preprocessor: Any = None,
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        from kft.models.heads import Pool, sequence_of

        inputs, prefix, sequence = sequence_of(backbone)
        policy = backbone.dtype_policy
        mask = inputs.get(prefix + "padding_mask", inputs[prefix + "token_ids"])
        outputs = {}
        for name, spec in heads.items():
            if spec["reads"] in ("tokens", "pooled"):
                read = sequence if spec["reads"] == "tokens" else backbone.output["pooled_output"]
            else:
                read = Pool(spec["reads"], dtype=policy, name=f"pool_{name}")(sequence, mask)
            dropped = keras.layers.Dropout(dropout, dtype=policy, name=f"dropout_{name}")(read)
            outputs[name] = keras.layers.Dense(
                spec["num_outputs"],
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
                dtype=policy,
                name=f"logits_{name}",
            )(dropped)
        self.backbone = backbone
        self.preprocessor = preprocessor
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.specs = {name: dict(spec) for name, spec in heads.items()}
        self.dropout = dropout

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.specs, "dropout": self.dropout}

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any) -> MultiHead:
        """Opens a preset that was saved from this class; KerasHub's lookup by backbone class is not needed."""
        return get_preset_loader(preset).load_task(cls, load_weights, "heads" not in kwargs, **kwargs)
