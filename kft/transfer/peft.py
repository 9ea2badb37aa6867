"""LoRA as Hugging Face's PEFT writes it: `adapter_config.json` and `adapter_model.safetensors`, for BERT and Llama.

Reference:
    https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from kft import disk, untrusted
from kft.errors import RecipeError, RunError, quoted
from kft.transfer.adapters import Adapter
from kft.transfer.lora import LowRank

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
MAX_CONFIG_BYTES = 2**20


@dataclass(frozen=True)
class Names:
    """How Hugging Face calls the linear layers of a family.

    Attributes:
        block: What the names in a block begin with; the number of the block, from 0, stands for `{}`.
        inside: By the name of the layer in KerasHub, what they end with.
        outside: By that name, the whole names of layers that are in no block.
        wrapped: By the class of the model, what stands before those names, PEFT's kind of task, and how the head is
            called, by its layer in KerasHub.
    """

    block: str
    inside: Mapping[str, str]
    outside: Mapping[str, str]
    wrapped: Mapping[str, tuple[str, str, Mapping[str, str]]]


FAMILIES = {
    "BertBackbone": Names(
        "encoder.layer.{}.",
        {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "attention_output": "attention.output.dense",
            "feedforward_intermediate_dense": "intermediate.dense",
            "feedforward_output_dense": "output.dense",
        },
        {"pooled_dense": "pooler.dense"},
        {
            "BertTextClassifier": ("bert.", "SEQ_CLS", {"logits": "classifier"}),
            "TokenClassifier": ("bert.", "TOKEN_CLS", {"logits": "classifier"}),
            "SentenceEncoder": ("", "FEATURE_EXTRACTION", {}),
        },
    ),
    "LlamaBackbone": Names(
        "layers.{}.",
        {
            "query": "self_attn.q_proj",
            "key": "self_attn.k_proj",
            "value": "self_attn.v_proj",
            "attention_output": "self_attn.o_proj",
            "feedforward_gate_dense": "mlp.gate_proj",
            "feedforward_intermediate_dense": "mlp.up_proj",
            "feedforward_output_dense": "mlp.down_proj",
        },
        {},
        {
            **dict.fromkeys(("LlamaCausalLM", "Llama3CausalLM"), ("model.", "CAUSAL_LM", {})),
            "SentenceEncoder": ("", "FEATURE_EXTRACTION", {}),
        },
    ),
}
FAMILIES["Llama3Backbone"] = FAMILIES["LlamaBackbone"]  # what KerasHub makes of Hugging Face's Llama of any number


def write(folder: Path, model: Any, adapters: Sequence[Adapter], base: str) -> None:
    """Writes the LoRA of a model, and its head, as PEFT's files. Classes are in the order of labels.json.

    PiSSA is written as PEFT converts it: twice the rank, the start subtracted. The scale is written as alpha.

    Args:
        folder: Which exists.
        model: A KerasHub task.
        adapters: In it.
        base: The name of the pretrained model.

    Raises:
        RunError: The family, the task or the variant has no such form.
    """
    names, (prefix, task_type, heads) = _names_of(model), _wrapping_of(model)
    parts = [adapter.part for adapter in adapters]
    if not parts or any(not isinstance(part, LowRank) or part.magnitude is not None for part in parts):
        raise RunError("PEFT's files are written for LoRA without DoRA. Merge the run, or keep it as it is.")
    factors = {_module(adapter, names): adapter.part for adapter in adapters}
    tensors, rank = {}, max(part.factors()[0].shape[1] for part in factors.values())
    for module, part in factors.items():
        first, second = (np.asarray(keras.ops.convert_to_numpy(each), np.float32) for each in part.factors())
        missing = rank - first.shape[1]  # a layer narrower than the rank
        tensors[f"{PREFIX}{prefix}{module}.lora_A.weight"] = np.pad(first.T, [(0, missing), (0, 0)])
        tensors[f"{PREFIX}{prefix}{module}.lora_B.weight"] = np.pad(second.T, [(0, 0), (0, missing)])
    for layer_name, module in heads.items():
        layer = model.get_layer(layer_name)
        tensors[f"{PREFIX}{module}.weight"] = np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float32).T
        tensors[f"{PREFIX}{module}.bias"] = np.asarray(keras.ops.convert_to_numpy(layer.bias), np.float32)
    scale = next(iter(factors.values())).scale
    config = {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": 0.0,
        "target_modules": sorted(prefix + module for module in factors),
        "modules_to_save": sorted(heads.values()) or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }
    with disk.writing(folder / WEIGHTS) as partial:
        copied = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        safetensors.numpy.save_file(copied, partial, metadata={"format": "pt"})
    disk.write_json(folder / CONFIG, config)


def read(folder: Path, model: Any, adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """Lets LoRA begin with the matrices in PEFT's files, which may be fewer than there are; heads are not read.

    Args:
        folder: With both files.
        model: A KerasHub task.
        adapters: In it.

    Returns:
        The names in the file that were not read: those of a head.

    Raises:
        RecipeError: The files are damaged, are of another family or of settings that differ, or name layers without
            an adapter.
    """
    config = untrusted.read_json(folder / CONFIG, dict[str, Any], RecipeError, max_bytes=MAX_CONFIG_BYTES)
    parts = {_module(adapter, _names_of(model)): adapter.part for adapter in adapters}
    lora = [part for part in parts.values() if isinstance(part, LowRank)]
    if not lora or any(part.magnitude is not None or part.start_a is not None for part in lora):
        raise RecipeError(f"lora_start: {folder}: expected transfer=lora:RANK with lora_variant=plain or rslora")
    for name, expected in {"peft_type": "LORA", "bias": "none", "use_dora": False, "fan_in_fan_out": False}.items():
        if config.get(name, expected) != expected:
            found = quoted(config[name])
            raise RecipeError(f"{folder / CONFIG}: {name}: found {found}, expected {quoted(expected)}")
    for name in ("rank_pattern", "alpha_pattern"):
        if config.get(name):
            raise RecipeError(f"{folder / CONFIG}: {name}: found {quoted(config[name])}, expected one for all layers")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise RecipeError(f"{folder / CONFIG}: found r {quoted(rank)} and lora_alpha {quoted(alpha)}, expected numbers")
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    try:
        tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    except (safetensors.SafetensorError, OSError) as error:
        raise RecipeError(f"{folder / WEIGHTS}: cannot be read: {error}") from None
    unread = []
    for name, tensor in tensors.items():
        module, _, kind = name.removeprefix(PREFIX).rpartition(".lora_")
        if kind not in ("A.weight", "B.weight"):
            unread.append(name)
            continue
        part = next((part for known, part in parts.items() if module == known or module.endswith("." + known)), None)
        if part is None:
            raise RecipeError(
                f"{folder / WEIGHTS}: {quoted(name)} belongs to no layer with LoRA in this model. Expected names such "
                f"as {next(iter(parts))}; lora_targets says which layers have it."
            )
        variable = part.a if kind == "A.weight" else part.b
        if tensor.T.shape != tuple(variable.shape):
            raise RecipeError(
                f"{folder / WEIGHTS}: {quoted(name)} has the shape {tensor.shape}, expected {variable.shape[::-1]}. "
                f"Its rank is {rank}: ask for transfer=lora:{rank} and the model that it was trained on."
            )
        if not np.isfinite(tensor).all():
            raise RecipeError(f"{folder / WEIGHTS}: {quoted(name)} holds numbers that are not finite (NaN, infinite)")
        if abs(part.scale - scale) > 1e-6 * scale:
            raise RecipeError(
                f"lora_alpha: found a scale of {part.scale:g}, and {folder} has {scale:g} (alpha {alpha:g})."
            )
        variable.assign(tensor.T.astype(np.float32))
    return tuple(unread)


def _names_of(model: Any) -> Names:
    family = type(model.backbone).__name__
    if family not in FAMILIES:
        raise RunError(f"PEFT's names of layers are known of {' and '.join(FAMILIES)}, not of {family}.")
    return FAMILIES[family]


def _wrapping_of(model: Any) -> tuple[str, str, Mapping[str, str]]:
    known = _names_of(model).wrapped
    if type(model).__name__ not in known:
        raise RunError(
            f"Hugging Face has no model that is a {type(model).__name__} of kft on {type(model.backbone).__name__}; "
            f"expected {' or '.join(known)}. Merge the run, or keep it as it is."
        )
    return known[type(model).__name__]


def _module(adapter: Adapter, names: Names) -> str:
    """The name of the layer of an adapter in Hugging Face's model."""
    layer = adapter.linear.layer.name
    if layer in names.outside:
        return names.outside[layer]
    return names.block.format(int(adapter.linear.block.rpartition("_")[2]) - 1) + names.inside[layer]
