"""XLNet as its paper has it, where KerasHub's layers compute something else.

KerasHub 0.32 makes positions and mask with the batch as second axis and then reshapes them to have it first, which
mixes the rows of a batch; they have to be transposed. Both layers are given another `call` here, made for the batch
first. Their weights, and what is saved of them, stay as they are.

References:
    Yang et al., 2019, https://arxiv.org/abs/1906.08237
    Dai et al., 2019, sec. 3.3 and appendix B (relative positions), https://arxiv.org/abs/1901.02860
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kft.accelerate.internals import ContentAndQueryEmbedding, XLNetAttentionMaskLayer
from kft.accelerate.overrides import replace_call


def mend(backbone: keras.Model) -> None:
    """Lets the layers of an XLNet backbone compute so, in this process; any other backbone stays as it is."""
    for layer in backbone.layers:
        if type(layer) in CALLS:
            replace_call(layer, CALLS[type(layer)])


def _embed(layer: Any, token_ids: Any) -> tuple[Any, Any]:
    """Embeddings `(batch, tokens, width)`, and those of the distances `(batch, 2 * tokens, width)`.

    The distances are those from a token to each other, from `tokens` (far to the left) down to `1 - tokens`.
    """
    batch, length = ops.shape(token_ids)[0], ops.shape(token_ids)[1]
    distances = ops.cast(length - ops.arange(2 * length), "float32")
    frequencies = 1 / (10000 ** (ops.arange(0, layer.hidden_dim, 2, dtype="float32") / layer.hidden_dim))
    angles = distances[:, None] * frequencies[None, :]
    each = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
    positions = ops.broadcast_to(each[None], (batch, *ops.shape(each)))
    positions = layer.dropout_layer(ops.cast(positions, layer.compute_dtype))
    return layer.dropout_layer(layer.word_embed(token_ids)), positions


def _mask(layer: Any, padding_mask: Any) -> tuple[Any, Any]:
    """Which tokens each may attend to, as content and as query: `(batch, tokens, tokens)` float32 each.

    Padding may attend to itself, so that there is something to attend to.
    """
    is_token = ops.cast(padding_mask, "bool")[:, None, :]
    places = ops.arange(ops.shape(padding_mask)[1])
    itself = (places[:, None] == places[None, :])[None]
    content = ops.cast(ops.logical_or(is_token, itself), "float32")
    return content, ops.cast(ops.broadcast_to(is_token, ops.shape(content)), "float32")


CALLS = {ContentAndQueryEmbedding: _embed, XLNetAttentionMaskLayer: _mask}
