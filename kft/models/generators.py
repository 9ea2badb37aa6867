"""Models that write text: KerasHub's CausalLM and Seq2SeqLM, made ready to be trained and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from kft.accelerate.internals import tensorflow_backend
from kft.accelerate.overrides import replaced
from kft.errors import PresetError, RecipeError
from kft.models import prefix_lm, seeding
from kft.models.presets import Preset, max_positions
from kft.text import generation

Settings = Mapping[str, Any]
"""How responses are written: the Recipe's knobs of generation by name, and the seed."""

DRAWN = ("top_k", "top_p", "sample")
SHORTEST_PROMPT = 8


def generator(preset: Preset, settings: Settings, max_length: int, dtype: str, seed: int) -> keras_hub.models.CausalLM:
    """A model from tokens to the `(batch, tokens, vocabulary)` logits of those that follow, with its preprocessor.

    Args:
        preset: Where backbone and tokenizer come from.
        settings: How responses are written.
        max_length: The preprocessor's `sequence_length`.
        dtype: Precision policy of the whole model, such as `"mixed_bfloat16"`.
        seed: Seed of dropout.

    Raises:
        PresetError: KerasHub does not generate text with this model.
        RecipeError: The model has no positions for so many new tokens.
    """
    _refuse_wrong_places(preset.backbone_class)
    if prefix_lm.is_reader(preset.backbone_class):
        model: Any = prefix_lm.prefix_model(preset, max_length, dtype, seed)
        _refuse_too_long(preset, model.backbone, settings)
        return model
    seeding.set_seed(seed)
    model_class: Any = preset.causal_lm_class()
    if model_class is None:
        raise PresetError(
            f"preset {preset.name!r} is a {preset.backbone_class.__name__}, which KerasHub has no generation for. "
            "Expected a decoder, such as gpt2_base_en or a Llama, Gemma or Qwen, an encoder with a decoder, such as "
            "bart_base_en or t5_small_multi, or a BERT."
        )
    backbone, tokenizer = preset.backbone(dtype), preset.tokenizer()
    _refuse_too_long(preset, backbone, settings)
    preprocessor = model_class.preprocessor_cls(tokenizer)
    preprocessor.sequence_length = max_length
    if generation.pads_left(preprocessor):
        raise PresetError(
            f"preset {preset.name!r}: KerasHub generates with a {preset.backbone_class.__name__} from prompts padded "
            "on the left; expected a model that reads them padded on the right, such as gpt2_base_en."
        )
    if generation.has_encoder(preprocessor):
        _keep_lengths(preprocessor)
    return model_class(backbone=backbone, preprocessor=preprocessor, compile=False)


def _refuse_too_long(preset: Preset, backbone: Any, settings: Settings) -> None:
    """Refuses responses longer than a model has positions for."""
    positions = max_positions(backbone)
    if positions and positions < settings["max_new_tokens"] + SHORTEST_PROMPT:
        raise RecipeError(
            f"max_new_tokens: found {settings['max_new_tokens']}, but {preset.name} has {positions} positions for "
            f"prompt and response. Ask for at most {positions - SHORTEST_PROMPT}."
        )


def _refuse_wrong_places(backbone_class: type) -> None:
    """KerasHub 0.32 rotates the query of each new token of a GPT-NeoX as that of the first one: other text comes out.

    Raises:
        PresetError: The backbone is one.
    """
    if issubclass(backbone_class, keras_hub.models.GPTNeoXBackbone):
        raise PresetError(
            f"{backbone_class.__name__}: KerasHub generates with it as if each new token stood at the first position, "
            "so its responses are not those of the network. Expected another decoder, such as gpt2_base_en."
        )


def _keep_lengths(preprocessor: Any) -> None:
    """Puts both lengths into the preprocessor's config, where KerasHub 0.32 leaves them out."""
    own = preprocessor.get_config

    def get_config() -> dict[str, Any]:
        length = preprocessor.sequence_length
        return {**own(), "encoder_sequence_length": length, "decoder_sequence_length": length}

    preprocessor.get_config = get_config


def respond(model: Any, settings: Settings) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """A function from prompts to what the model writes after them.

    On TensorFlow it is one graph from string to string, which an export holds as it is.

    Args:
        model: A KerasHub CausalLM or Seq2SeqLM with its preprocessor.
        settings: How responses are written.

    Returns:
        From a list with the column of prompts, `(batch,)` strings, to `{"text": (batch,) strings}`.
    """
    _refuse_wrong_places(type(model.backbone))
    preprocessor, num_new = model.preprocessor, settings["max_new_tokens"]
    positions = max_positions(model.backbone)
    limit = min(preprocessor.sequence_length, positions - num_new if positions else preprocessor.sequence_length)
    group = "decoder_" if generation.has_encoder(preprocessor) else ""
    names, ids_name, mask_name = list(model.input), f"{group}token_ids", f"{group}padding_mask"
    ends = end_ids(preprocessor.tokenizer)
    model.compile(sampler=sampler(settings, model.backbone.vocabulary_size))

    def ask(prompts: Any) -> dict[str, Any]:
        return generation.asked(preprocessor, prompts, num_new, limit, ends)

    def read(ids: Any, is_given: Any) -> dict[str, Any]:
        return generation.text_of(preprocessor, ids, is_given, num_new, ends, settings["stop"])

    if keras.config.backend() == "tensorflow":

        def answer(prompts: Any) -> dict[str, Any]:
            asked = ask(prompts)
            # KerasHub writes its caches with it. TensorFlow Serving does not run XLA's op, and elsewhere it is compiled
            # first.
            core, numpy = tensorflow_backend()
            with (
                replaced(core, "slice_update", generation.slice_update),
                replaced(numpy, "squeeze", generation.squeeze),
            ):
                found = model.generate_step({name: asked[name] for name in names}, ends)
            return read(found[ids_name], asked[mask_name])

        graph = generation.traced(answer)
        return lambda texts: graph(*texts)

    traced_ask, traced_read = generation.traced(ask), generation.traced_reader(read)

    def answer_in_steps(texts: Sequence[Any]) -> dict[str, Any]:
        asked = {name: value.numpy() for name, value in traced_ask(*texts).items()}
        write = model.make_generate_function()
        found = write({name: ops.convert_to_tensor(asked[name]) for name in names}, stop_token_ids=ends)
        ids = np.asarray(ops.convert_to_numpy(found[ids_name]), np.int32)
        return traced_read(ids, asked[mask_name])

    return answer_in_steps


def end_ids(tokenizer: Any) -> list[int]:
    """The tokens that end a response; some families have two."""
    found = (getattr(tokenizer, f"{name}_id", None) for name in ("end_token", "end_token2"))
    return [id for id in found if id is not None]


def sampler(settings: Settings, vocabulary_size: int) -> keras_hub.samplers.Sampler:
    """KerasHub's sampler for `settings["decoding"]`."""
    samplers = keras_hub.samplers
    drawn = {"temperature": settings["temperature"], "seed": settings["seed"]}
    made: dict[str, Callable[[], Any]] = {
        "greedy": samplers.GreedySampler,
        "beam": lambda: Beams(num_beams=settings["num_beams"]),
        "top_k": lambda: samplers.TopKSampler(k=min(settings["top_k"], vocabulary_size), **drawn),
        "top_p": lambda: samplers.TopPSampler(p=settings["top_p"], **drawn),
        "sample": lambda: samplers.RandomSampler(**drawn),
    }
    return made[settings["decoding"]]()


class Beams(keras_hub.samplers.BeamSampler):
    """KerasHub's beam search, where prompts may differ in length and a finished response keeps its probability.

    KerasHub's own counts what the model thought of the tokens of longer prompts, and of whatever follows an end token.
    Here both have probability 1.
    """

    def __call__(
        self,
        next: Callable[..., Any],
        prompt: Any,
        cache: Any = None,
        index: Any = 0,
        mask: Any = None,
        stop_token_ids: Any = None,
        **settings: Any,
    ) -> Any:
        is_given = ops.repeat(ops.cast(mask, "bool"), self.num_beams, axis=0)  # (batch x beams, tokens)
        places = ops.arange(ops.shape(prompt)[1])

        def next_with_certainties(prompt: Any, cache: Any, index: Any) -> Any:
            logits, hidden, cache = next(prompt, cache, index)  # (batch x beams, vocabulary)
            is_end = sum(ops.cast(prompt == end, "int32") for end in stop_token_ids or [])
            has_ended = ops.any(ops.cast(is_end, "bool") & ~is_given & (places < index)[None, :], axis=1)
            is_certain = is_given[:, index] | has_ended
            sure = ops.where(is_given[:, index], prompt[:, index], stop_token_ids[0] if stop_token_ids else 0)
            only = (ops.one_hot(sure, ops.shape(logits)[-1], dtype="float32") - 1.0) * 1e9
            return ops.where(is_certain[:, None], only, ops.cast(logits, "float32")), hidden, cache

        return super().__call__(
            next_with_certainties, prompt, cache, index, mask, stop_token_ids=stop_token_ids, **settings
        )
