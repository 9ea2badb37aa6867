"""An encoder that writes: it reads a prompt in both directions, and its response from left to right.

The mask is that of UniLM's sequence-to-sequence objective. UniLM learns tokens of the response that are hidden at
random; here each token of the response is learnt from those before it, as in decoders, so that all count in each epoch.

Reference:
    Dong et al., 2019, sec. 2.3, https://arxiv.org/abs/1905.03197
"""

from __future__ import annotations

from typing import Any

import keras
import keras_hub
from keras import ops, saving

from kft.accelerate.internals import get_preset_loader
from kft.models import language
from kft.models.presets import Preset, masked_lm_class
from kft.text.tokens import SequencePreprocessor

READERS = (keras_hub.models.BertBackbone,)
"""The encoders that can: their layers take any mask, and their segments tell prompt and response apart."""


def is_reader(backbone_class: type) -> bool:
    """Whether an encoder of this class can write."""
    return issubclass(backbone_class, READERS)


def prefix_model(preset: Preset, max_length: int, dtype: str, seed: int) -> PrefixLM:
    """A model from tokens to the logits of those that follow, with the preset's head over the vocabulary or a new one.

    Args:
        preset: Where backbone and tokenizer come from.
        max_length: The preprocessor's `sequence_length`.
        dtype: Precision policy of the whole model.
        seed: Seed of the head's weights and of dropout.
    """
    masked = language.masked_model(preset, max_length, dtype, seed)
    tokenizer = masked.preprocessor.tokenizer
    preprocessor = SequencePreprocessor(tokenizer, sequence_length=max_length, with_segments=True)
    model = PrefixLM(backbone=masked.backbone, preprocessor=preprocessor, compile=False)
    model.masked_lm_head.set_weights(masked.masked_lm_head.get_weights())
    return model


@saving.register_keras_serializable(package="kft")
class PrefixMask(keras.layers.Layer):
    """Which tokens each may attend to: all of the prompt (segment 0), and of the response those up to itself.

    `(batch, tokens)` segments to `(batch, tokens, tokens)` bool, queries first.
    """

    def call(self, segment_ids: Any) -> Any:
        places = ops.arange(ops.shape(segment_ids)[1])
        return ops.logical_or((segment_ids == 0)[:, None, :], (places[None, :] <= places[:, None])[None])

    def compute_output_spec(self, segment_ids: Any) -> Any:
        batch, length = segment_ids.shape
        return keras.KerasTensor((batch, length, length), "bool")


@saving.register_keras_serializable(package="kft")
class Places(keras.layers.Layer):
    """The place of each token in its row: `(batch, tokens)` int32."""

    def call(self, token_ids: Any) -> Any:
        return ops.broadcast_to(ops.arange(ops.shape(token_ids)[1], dtype="int32")[None], ops.shape(token_ids))

    def compute_output_spec(self, token_ids: Any) -> Any:
        return keras.KerasTensor(token_ids.shape, "int32")


@saving.register_keras_serializable(package="kft")
class PrefixLM(keras_hub.models.CausalLM):
    """The logits `(batch, tokens, vocabulary)` of the token after each, which sees the prompt and what is before it.

    Saves and loads as a KerasHub preset once `kft.models.heads` is imported.

    Args:
        backbone: A KerasHub backbone of `READERS`.
        preprocessor: What knows the special tokens, with its tokenizer.
    """

    def __init__(self, backbone: Any, preprocessor: Any = None, **kwargs: Any):
        inner = masked_lm_class(type(backbone))(backbone=backbone, compile=False)  # type: ignore[misc]
        inputs, policy = backbone.input, backbone.dtype_policy
        hidden, _ = backbone.transformer_layers[0].input  # the embeddings, and the padding mask
        mask = PrefixMask(dtype=policy, name="prefix_mask")(inputs["segment_ids"])
        for layer in backbone.transformer_layers:
            hidden = layer(hidden, padding_mask=inputs["padding_mask"], attention_mask=mask)
        places = Places(dtype=policy, name="places")(inputs["token_ids"])
        logits = inner.masked_lm_head(hidden, places)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.masked_lm_head = inner.masked_lm_head
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any) -> PrefixLM:
        """Opens a preset that was saved from this class; KerasHub's lookup by backbone class is not needed."""
        return get_preset_loader(preset).load_task(cls, load_weights, True, **kwargs)

    def generate_step(self, inputs: dict[str, Any], stop_token_ids: Any = None) -> dict[str, Any]:
        """Prompts with their responses, by a whole pass for each new token: what is written is exactly the network's.

        Args:
            inputs: `token_ids`, prompts with room after them, and `padding_mask`, bool, true for the prompts:
                `(batch, tokens)` each; `segment_ids` follow from it.
            stop_token_ids: The tokens that end a response.
        """
        token_ids, is_given = inputs["token_ids"], ops.cast(inputs["padding_mask"], "bool")
        places = ops.arange(ops.shape(token_ids)[1], dtype="int32")
        times = getattr(self.sampler, "num_beams", 1)  # which the sampler lays out one beside another
        is_prompt = ops.repeat(is_given, times, axis=0) if times > 1 else is_given

        def following(prompt: Any, cache: Any, index: Any) -> tuple[Any, Any, Any]:
            is_read = ops.logical_or(is_prompt, (places < index)[None])
            features = {
                "token_ids": prompt,
                "padding_mask": ops.cast(is_read, "int32"),
                "segment_ids": ops.cast(ops.logical_not(is_prompt), "int32"),
            }
            logits = self(features, training=False)  # (batch x beams, tokens, vocabulary)
            return ops.take(logits, index - 1, axis=1), (), cache

        found = self.sampler(
            next=following,
            prompt=token_ids,
            index=ops.min(ops.sum(ops.cast(is_given, "int32"), axis=-1)),
            mask=is_given,
            stop_token_ids=stop_token_ids,
            model=self,
        )
        return {**inputs, "token_ids": found}
