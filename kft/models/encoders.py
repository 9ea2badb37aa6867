"""Models of one vector for each text: sentence encoders, and classifiers that are linear in it."""

from __future__ import annotations

from typing import Any

import keras
import keras_hub
from keras import saving

from kft.accelerate.internals import get_preset_loader
from kft.errors import PresetError
from kft.models import heads, seeding
from kft.models.heads import Pool, SequenceClassifier
from kft.models.presets import Preset

POOLINGS = {"mean": "mean", "cls": "first", "last": "last"}
HUB_POOLINGS = ("mean", "cls")
PREFIXES = ("", "pair_", "negative_")
"""What the names of the inputs of the first, second and third text begin with."""
OUTPUTS = ("embedding", "text_pair", "negative")
"""The names of their vectors."""


def sentence_encoder(preset: Preset, pooling: str, max_length: int, dtype: str, seed: int) -> keras_hub.models.Task:
    """A model from token features to a vector of length 1 for each text, with its preprocessor.

    Args:
        preset: Where backbone and tokenizer come from.
        pooling: `"mean"`, `"cls"`, `"last"` or `"auto"`.
        max_length: The preprocessor's `sequence_length`.
        dtype: Precision policy of the whole model, such as `"mixed_bfloat16"`.
        seed: Seed of dropout.

    Returns:
        KerasHub's own TextEmbedder for encoders that have one, else a `SentenceEncoder`.

    Raises:
        PresetError: The backbone has no padding mask, and `pooling` needs one.
    """
    seeding.set_seed(seed)
    backbone = preset.backbone(dtype)
    pooling = _pooling(preset, backbone, pooling)
    hub_class: Any = preset.embedder_class()
    if hub_class is not None and pooling in HUB_POOLINGS and not preset.is_causal():
        packed = hub_class.preprocessor_cls(preset.tokenizer(), sequence_length=max_length)
        return hub_class(backbone=backbone, preprocessor=packed, pooling_mode=pooling, compile=False)
    packed = heads.preprocessor_for(preset, backbone, preset.tokenizer(), max_length)
    return SentenceEncoder(backbone=backbone, preprocessor=packed, pooling_mode=pooling, compile=False)


def vector_classifier(
    preset: Preset, num_outputs: int, pooling: str, max_length: int, dtype: str, seed: int
) -> keras_hub.models.Task:
    """A classifier whose logits are linear in the pooled vector of a row; arguments as for `sentence_encoder`."""
    seeding.set_seed(seed)
    backbone = preset.backbone(dtype)
    pooling = POOLINGS[_pooling(preset, backbone, pooling)]
    packed = heads.preprocessor_for(preset, backbone, preset.tokenizer(), max_length)
    return SequenceClassifier(
        backbone=backbone, preprocessor=packed, num_classes=num_outputs, pooling=pooling, dropout=0.0, compile=False
    )


def _pooling(preset: Preset, backbone: Any, asked: str) -> str:
    """The pooling that was asked for; for `"auto"` the last token of a decoder, the mean of any other."""
    has_mask = any(name.endswith("padding_mask") for name in backbone.input)
    if asked == "auto":
        return "cls" if not has_mask else "last" if preset.is_causal() else "mean"
    if asked != "cls" and not has_mask:
        raise PresetError(
            f"preset {preset.name!r}: its {preset.backbone_class.__name__} cannot tell padding from text, which "
            f"pooling={asked!r} needs. Ask for pooling=cls, or for another preset."
        )
    return asked


def side_by_side(model: Any, num_texts: int) -> keras.Model:
    """A sentence encoder over several texts a row, all through the same weights, pooled in float32.

    Args:
        model: As from `sentence_encoder`.
        num_texts: Text columns, 1 to 3.

    Returns:
        A model from token features, those of the second and third text with `pair_` and `negative_` before their
        names, to the vectors of each text, `(batch, width)`, by the names of `OUTPUTS`.
    """
    inputs, vectors = _vectors(model.backbone, model.pooling_mode)
    single = keras.Model(inputs, vectors, name="encoder")
    return heads.side_by_side(single, dict(zip(OUTPUTS, PREFIXES[:num_texts], strict=False)))


def _vectors(backbone: Any, pooling: str) -> tuple[dict[str, Any], Any]:
    """The inputs of a text's encoder, and its vector `(batch, width)` of length 1, in float32 whatever the policy."""
    inputs, prefix, sequence = heads.sequence_of(backbone)
    # The first token needs no mask, and some backbones have none.
    mask = inputs.get(prefix + "padding_mask", inputs[prefix + "token_ids"])
    pooled = Pool(POOLINGS[pooling], dtype="float32", name="pool")(sequence, mask)
    return inputs, keras.layers.UnitNormalization(dtype="float32", name="unit")(pooled)


@saving.register_keras_serializable(package="kft")
class SentenceEncoder(keras_hub.models.TextEmbedder):
    """A vector of length 1 for each text, on any KerasHub text backbone.

    Saves and loads as a KerasHub preset once `kft.models.encoders` is imported.

    Args:
        backbone: A KerasHub text backbone.
        preprocessor: What turns strings into the backbone's inputs.
        pooling_mode: `"mean"` over the tokens that are no padding, `"cls"` for the first, `"last"` for the last.
    """

    def __init__(self, backbone: Any, preprocessor: Any = None, pooling_mode: str = "mean", **kwargs: Any):
        inputs, vectors = _vectors(backbone, pooling_mode)
        self.backbone = backbone
        self.preprocessor = preprocessor
        super().__init__(inputs=inputs, outputs=vectors, **kwargs)
        self.pooling_mode = pooling_mode

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooling_mode": self.pooling_mode}

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any) -> SentenceEncoder:
        """Opens a preset that was saved from this class; KerasHub's lookup by backbone class is not needed."""
        return get_preset_loader(preset).load_task(cls, load_weights, True, **kwargs)
