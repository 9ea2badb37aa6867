"""The last layer of an encoder for the first token alone, where a classifier reads no other.

Its keys and values are those of all tokens; queries, and all that follows the attention, are of the first. The outputs
are the same, and so are the gradients: those of the other tokens are zero. Of a layer some five sixths fall away.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import keras_hub
from keras import saving

from kft.accelerate.internals import merge_padding_and_attention_mask
from kft.accelerate.overrides import has_own_call, replaced

CLASSIFIERS = (
    keras_hub.models.BertTextClassifier,
    keras_hub.models.DistilBertTextClassifier,
    keras_hub.models.RobertaTextClassifier,
    keras_hub.models.XLMRobertaTextClassifier,
)
OURS = "kft>SequenceClassifier"
"""The name that kft's own classifier is saved by: it says itself which tokens it reads."""


def unfit(network: keras.Model, model: Any) -> str | None:
    """Why a network cannot be computed so; None where it can.

    Args:
        network: Token features to raw outputs, by way of the model's layers.
        model: The KerasHub task.
    """
    layers = getattr(model.backbone, "transformer_layers", None)
    if not _reads_first(model) or len(keras.tree.flatten(network.output)) > 1:
        return "its outputs are not those of the first token alone"
    if not layers or type(layers[-1]) is not keras_hub.layers.TransformerEncoder:
        return f"the last layer of a {type(model.backbone).__name__} is not KerasHub's TransformerEncoder"
    return None if has_own_call(layers[-1]) else "the last layer computes in a way of its own"


def apply(network: keras.Model, model: Any) -> keras.Model:
    """A network of the same layers that computes so. The layers give others what they always gave.

    Args:
        network: Token features to raw outputs, by way of the model's layers.
        model: The KerasHub task, which is not `unfit`.
    """
    shorter, layer = keras.Model(network.input, network.output), model.backbone.transformer_layers[-1]
    call_all = network.call

    def call(*args: Any, **kwargs: Any) -> Any:
        with replaced(layer, "call", functools.partial(_of_first, layer)):
            return call_all(*args, **kwargs)

    shorter.call = call
    return shorter


def _reads_first(model: Any) -> bool:
    is_ours = saving.get_registered_name(type(model)) == OURS
    return model.pooling == "first" if is_ours else type(model) in CLASSIFIERS


def _of_first(
    layer: Any, inputs: Any, padding_mask: Any = None, attention_mask: Any = None, training: bool | None = None
) -> Any:
    """`TransformerEncoder.call` of KerasHub for the first token: `(batch, tokens, width)` to `(batch, 1, width)`."""
    mask = merge_padding_and_attention_mask(inputs, padding_mask, attention_mask)  # (batch, 1 or tokens, tokens)
    first = inputs[:, :1]
    tokens = layer._self_attention_layer_norm(inputs) if layer.normalize_first else inputs
    x = layer._self_attention_layer(
        query=tokens[:, :1], value=tokens, attention_mask=None if mask is None else mask[:, :1], training=training
    )
    x = layer._self_attention_dropout(x, training=training) + first
    if not layer.normalize_first:
        x = layer._self_attention_layer_norm(x)
    attended = x
    if layer.normalize_first:
        x = layer._feedforward_layer_norm(x)
    x = layer._feedforward_output_dense(layer._feedforward_intermediate_dense(x))
    x = layer._feedforward_dropout(x, training=training) + attended
    return x if layer.normalize_first else layer._feedforward_layer_norm(x)
