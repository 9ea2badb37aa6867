"""Decoders for lines that hold several rows, of which none sees another.

Attention stays within a row, and positions count from its beginning: the outputs are those of the rows by themselves.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import keras
import keras_hub
from keras import ops

from kft.accelerate.internals import layers_of
from kft.accelerate.overrides import replaced
from kft.errors import PresetError
from kft.text.encoded import ROW_IDS

if TYPE_CHECKING:
    from kft.models.presets import Preset

MASKS = ("_compute_self_attention_mask", "_compute_attention_mask")  # what KerasHub's decoders call theirs
DECODERS = (
    *("GPT2", "OPT", "Bloom", "GPTNeoX", "Falcon", "Llama", "Mistral", "Mixtral", "Gemma", "Phi3", "Qwen", "Qwen3"),
    "SmolLM3",
)
"""The families whose every layer has been seen to keep rows apart; those built on them are theirs."""


def refuse_others(preset: Preset) -> None:
    """Lets presets of `DECODERS` pass.

    Raises:
        PresetError: Not known to keep rows apart, as encoders with a decoder and layers with a memory.
    """
    if not issubclass(preset.backbone_class, tuple(getattr(keras_hub.models, f"{name}Backbone") for name in DECODERS)):
        raise PresetError(
            f"packing: found a {preset.backbone_class.__name__}, whose rows it cannot keep apart on one line. "
            f"Leave packing out; expected a decoder of one of: {', '.join(DECODERS)}."
        )


def network(model: Any, num_texts: int) -> keras.Model:
    """A network from token features and `row_ids` to the `logits` of each token, by way of the model's layers.

    Args:
        model: A KerasHub CausalLM of one of `DECODERS`.
        num_texts: Not needed.
    """
    inputs = {**model.input, ROW_IDS: keras.Input((None,), dtype="int32", name=ROW_IDS)}
    # Nested as a model of its own: the task's metrics, once it is compiled to generate, are not this network's.
    whole = keras.Model(model.input, model.output)
    return keras.Model(inputs, {"logits": Apart(whole, name="apart", dtype=model.dtype_policy)(inputs)})


class Apart(keras.layers.Layer):
    """A model called so that the rows of a line are apart.

    Args:
        model: From token features to logits, its decoder one of `DECODERS`.
    """

    def __init__(self, model: keras.Model, **settings: Any):
        super().__init__(**settings)
        self.model = model

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        features = dict(inputs)
        row_ids = features.pop(ROW_IDS)  # (batch, tokens)
        is_together = row_ids[:, :, None] == row_ids[:, None, :]  # (batch, tokens, tokens)
        places = ops.arange(ops.shape(row_ids)[1])
        is_before = is_together & (places[:, None] > places[None, :])
        positions = ops.sum(ops.cast(is_before, "int32"), axis=-1)
        with contextlib.ExitStack() as stack:
            for layer in layers_of(self.model):
                if isinstance(layer, keras_hub.layers.PositionEmbedding):
                    own = functools.partial(_placed, layer.call, positions)
                    stack.enter_context(replaced(layer, "call", own))
                for name in MASKS:
                    if hasattr(layer, name):
                        own = functools.partial(_within_rows, getattr(layer, name), is_together)
                        stack.enter_context(replaced(layer, name, own))
            return self.model(features, training=training)


def _placed(own: Any, places: Any, inputs: Any, **settings: Any) -> Any:
    """A layer's own embeddings of positions, of these ones: `(batch, tokens, width)`."""
    return own(inputs, positions=places)


def _within_rows(own: Any, is_together: Any, *args: Any, **kwargs: Any) -> Any:
    """A decoder's own mask, `(batch, tokens, tokens)`, less what is of other rows."""
    mask = own(*args, **kwargs)
    return ops.logical_and(ops.cast(mask, "bool"), is_together)
