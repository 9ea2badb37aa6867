"""Hugging Face directories: what KerasHub's converters leave out is done right here, or refused.

The converters take sizes and weights over. Of the tokenizer they take the vocabulary and hardly a setting, and of the
model neither its activation nor the epsilon of its norms. What is not listed here is as KerasHub converts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kft.accelerate.internals import SafetensorLoader, check_file_exists, get_file
from kft.errors import PresetError, quoted
from kft.models.preset_files import read_json, refuse_pointer

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "tf_model.h5", "flax_model.msgpack")

GELU = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast")
"""KerasHub computes one of these for the other; they differ by less than 0.001."""
SILU = ("silu", "swish")

# For each model type and setting: what Hugging Face takes where config.json has none, and what KerasHub computes.
_ENCODER = {
    "hidden_act": ("gelu", GELU),
    "position_embedding_type": ("absolute", ("absolute",)),
    "is_decoder": (False, (False,)),
    "add_cross_attention": (False, (False,)),
}
_DECODER = {
    "hidden_act": ("silu", SILU),
    "attention_bias": (False, (False,)),
    "mlp_bias": (False, (False,)),
}
SETTINGS: dict[str, dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "bert": {**_ENCODER, "layer_norm_eps": (1e-12, (1e-12,)), "type_vocab_size": (2, (2,))},
    "albert": {**_ENCODER, "layer_norm_eps": (1e-12, (1e-12,)), "type_vocab_size": (2, (2,))},
    "roberta": {
        **_ENCODER,
        "layer_norm_eps": (1e-12, (1e-5,)),
        "type_vocab_size": (2, (1,)),
        "pad_token_id": (1, (1,)),
    },
    "xlm-roberta": {**_ENCODER, "layer_norm_eps": (1e-12, (1e-5,)), "pad_token_id": (1, (1,))},
    "distilbert": {"activation": ("gelu", GELU)},
    "gpt2": {
        "activation_function": ("gelu_new", GELU),
        "layer_norm_epsilon": (1e-5, (1e-5,)),
        "scale_attn_weights": (True, (True,)),
        "scale_attn_by_inverse_layer_idx": (False, (False,)),
        "add_cross_attention": (False, (False,)),
        "tie_word_embeddings": (True, (True,)),
    },
    "bart": {
        "activation_function": ("gelu", GELU),
        "scale_embedding": (False, (False,)),
        "normalize_before": (False, (False,)),
        "add_final_layer_norm": (False, (False,)),
        "normalize_embedding": (True, (True,)),
    },
    "llama": {**_DECODER, "pretraining_tp": (1, (1,))},
    "mistral": {"hidden_act": ("silu", SILU), "tie_word_embeddings": (False, (False,))},
    "qwen2": {"hidden_act": ("silu", SILU), "use_sliding_window": (False, (False,))},
    "gemma": {
        "hidden_act": ("gelu_pytorch_tanh", GELU),
        "hidden_activation": ("gelu_pytorch_tanh", (None, *GELU)),
        "attention_bias": (False, (False,)),
        "rope_theta": (10000.0, (10000.0,)),
        "tie_word_embeddings": (True, (True,)),
    },
}
# Settings that must be equal to another one.
EQUAL = {
    "bart": (
        ("encoder_layers", "decoder_layers"),
        ("encoder_attention_heads", "decoder_attention_heads"),
        ("encoder_ffn_dim", "decoder_ffn_dim"),
    )
}
# Rotary positions that are scaled: KerasHub reads Llama 3's way for Llama alone.
ROTARY = ("llama", "mistral", "qwen2", "gemma")
# Settings that KerasHub's backbone has, saves, and its converter forgets.
FORGOTTEN = {
    "bert": {"dropout": "hidden_dropout_prob"},
    "xlm-roberta": {"dropout": "hidden_dropout_prob"},
    "llama": {"layer_norm_epsilon": "rms_norm_eps"},
    "gemma": {"layer_norm_epsilon": "rms_norm_eps"},
}
POOLED = ("bert", "albert")
POOLERS = {"bert": "pooler.dense.weight", "albert": "pooler.weight"}


def check(handle: str, config: Mapping[str, Any]) -> None:
    """Refuses a model that KerasHub would compute otherwise than Hugging Face, by its config.json.

    Raises:
        PresetError: Names the setting, what was found, what was expected and what to do.
    """
    model_type = config.get("model_type")
    where = f"{handle}, config.json"
    for name, (default, expected) in SETTINGS.get(str(model_type), {}).items():
        value = config.get(name, default)
        if value not in expected:
            raise PresetError(_setting(where, name, value, expected, model_type, is_default=name not in config))
    for first, second in EQUAL.get(str(model_type), ()):
        if config.get(first) != config.get(second):
            raise PresetError(_setting(where, second, config.get(second), (config.get(first),), model_type))
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default")) if isinstance(scaling, dict) else scaling
    if model_type in ROTARY and kind not in ("default", "llama3" if model_type == "llama" else "default"):
        raise PresetError(_setting(where, "rope_scaling", kind, ("default",), model_type))
    hidden, heads, head_dim = (config.get(name) for name in ("hidden_size", "num_attention_heads", "head_dim"))
    if model_type in ("llama", "qwen2") and head_dim and heads and head_dim != hidden // heads:
        raise PresetError(_setting(where, "head_dim", head_dim, (hidden // heads,), model_type))
    inner = config.get("n_inner")
    if model_type == "gpt2" and inner not in (None, 4 * config.get("n_embd", 0)):
        raise PresetError(_setting(where, "n_inner", inner, (None, 4 * config.get("n_embd", 0)), model_type))


def _setting(where: str, name: str, value: Any, expected: Any, model_type: Any, *, is_default: bool = False) -> str:
    found = f"{quoted(value)} (it is not there, and that is what Hugging Face takes)" if is_default else quoted(value)
    wanted = " or ".join(str(option) for option in expected)
    return (
        f"preset {where}: {name}: found {found}, expected {wanted}, which is all that KerasHub computes for models of "
        f"type {model_type}. Choose another preset."
    )


def check_weights(handle: str, config: Mapping[str, Any]) -> None:
    """Refuses weights in a form that is not read, or without parts that are needed.

    Raises:
        PresetError: Names the file, what was expected and what to do.
    """
    import safetensors

    if not any(check_file_exists(handle, name) for name in WEIGHTS):
        found = next((name for name in PICKLED if check_file_exists(handle, name)), "no file of weights")
        raise PresetError(
            f"preset {handle}: found {found}, expected model.safetensors. Write it with transformers: "
            "AutoModel.from_pretrained(DIRECTORY).save_pretrained(DIRECTORY)"
        )
    if check_file_exists(handle, WEIGHTS[1]):
        index = read_json(handle, WEIGHTS[1])
        names = set((index or {}).get("weight_map", {}))
    else:
        path = get_file(handle, WEIGHTS[0])
        refuse_pointer(path)
        try:
            with safetensors.safe_open(path, framework="np") as file:
                names = set(file.keys())
        except Exception as error:
            raise PresetError(f"preset {handle}: {path} is damaged or no safetensors file: {error}") from error
    pooler = POOLERS.get(str(config.get("model_type")))
    if pooler and not any(name.endswith(pooler) for name in names):
        raise PresetError(
            f"preset {handle}, model.safetensors: has no {pooler}, which KerasHub's backbone needs. Save the "
            "checkpoint with its pooler: AutoModel.from_pretrained(ORIGINAL).save_pretrained(DIRECTORY)"
        )


def forgotten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of KerasHub's backbone that its converter does not take over, though the backbone saves them."""
    pairs = FORGOTTEN.get(str(config.get("model_type")), {})
    return {name: config[theirs] for name, theirs in pairs.items() if config.get(theirs) is not None}


def add_token_types(handle: str, config: Mapping[str, Any], backbone: Any) -> None:
    """Adds RoBERTa's one token type, which every token has, to its positions, where KerasHub has no place for it."""
    if config.get("model_type") != "roberta":
        return
    with SafetensorLoader(handle) as loader:
        try:
            types = loader.get_tensor("roberta.embeddings.token_type_embeddings.weight")
        except Exception:  # safetensors' own: it has none
            return
    positions = backbone.embeddings.position_embedding.position_embeddings
    positions.assign_add(types[0])


def files_of(handle: str) -> str:
    """The names of the files there, for messages."""
    folder = Path(handle)
    return ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "other files"
