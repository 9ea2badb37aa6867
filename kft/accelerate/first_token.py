"""The last layer of an encoder for the first token alone, where a classifier reads no other.

Its keys and values are those of all tokens; queries, and all that follows the attention, are of the first. The outputs
are the same, and so are the gradients: those of the other tokens are zero. Of a layer some five sixths fall away.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import keras_hub
from keras_hub.src.layers.modeling.transformer_layer_utils import merge_padding_and_attention_mask

from kft.models.overrides import standing_in

CLASSIFIERS = (
    keras_hub.models.BertTextClassifier,
    keras_hub.models.DistilBertTextClassifier,
    keras_hub.models.RobertaTextClassifier,
    keras_hub.models.XLMRobertaTextClassifier,
)


def network(whole: keras.Model, model: Any) -> keras.Model:
    """A network of the same layers that computes so, where the outputs are those of a classifier that allows it.

    The layers give others what they always gave.

    Args:
        whole: Token features to raw outputs, by way of the model's layers.
        model: The KerasHub task.
    """
    found = keras.Model(whole.input, whole.output)
    if (layer := last_layer(model)) is not None:
        of_all = found.call

        def call(*args: Any, **kwargs: Any) -> Any:
            with standing_in(layer, "call", functools.partial(_of_first, layer)):
                return of_all(*args, **kwargs)

        found.call = call
    return found


def last_layer(model: Any) -> Any | None:
    """The last layer of a model's encoder, if nothing but its first token is read."""
    layers = getattr(model.backbone, "transformer_layers", None) if _reads_first(model) else None
    return layers[-1] if layers and type(layers[-1]) is keras_hub.layers.TransformerEncoder else None


def _reads_first(model: Any) -> bool:
    if type(model) in CLASSIFIERS:
        return True
    from kft.models.heads import SequenceClassifier  # with its preprocessor, which needs TensorFlow on every backend

    return isinstance(model, SequenceClassifier) and model.pooling == "first"


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
