"""Knobs of the task, the pretrained model, and what of it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from kft.errors import did_you_mean, quoted
from kft.models import roles
from kft.recipe.sections import LARGEST, SCRATCH, Section, lora, model
from kft.task_names import HUB_TASKS, TASKS, Aux
from kft.transfer import arguments, strategies


class ModelKnobs(Section):
    """The task, the model and what of it trains."""

    task: str = model(
        "auto",
        f"What is learnt: {', '.join(TASKS)}. auto: read off the columns. The Hugging Face Hub's names are taken too: "
        + ", ".join(f"{name} ({meant['task']})" for name, meant in HUB_TASKS.items())
        + ".",
    )
    preset: str = model(
        "minilm",
        "Pretrained model: minilm, a KerasHub preset name, kaggle://, hf://, modelscope:// or a directory, that of a "
        "run too; scratch:bert, scratch:gpt2: random weights, and a tokenizer of train.",
    )
    transfer: str = model(
        "full",
        "What trains beside the head: full (all), features (nothing), last:N or first:N (the last or first N blocks), "
        "layers:PATTERN (blocks or variables of such names), bitfit (biases), norms; what is added and trains: "
        "lora:RANK, ia3, adapters:WIDTH; at which rates: layer_decay:RATE; in which epochs: head_then_full:E (the head "
        "alone for E epochs, then all), gradual (from the top, one more block in each epoch) or gradual:0-2-6 (so many "
        "blocks by epoch); and what starts from new random weights: reinit_top:N (the last N blocks). Several with +, "
        "as in last:4+layer_decay:0.9.",
    )
    cache_features: bool = model(
        True,
        "Compute what frozen layers give once for each row and keep it, so that epochs run only what trains. kft plan "
        "says what is kept, what it saves and what it takes.",
        not_with={"transfer": ["full"]},
    )
    prune_vocabulary: bool | str = model(
        False,
        "Keep only the pieces of the preset's vocabulary that the rows at hand need, and single characters: true, or a "
        "text file whose lines are kept for too. Rows of the fit have the same tokens; other texts may be cut into "
        "smaller pieces.",
        tasks=[task for task in TASKS if task != "pretrain"],
        not_with={"preset": ["scratch:bert", "scratch:gpt2"]},
    )
    aux: list[Aux] = model(
        [],
        "Further heads on the same rows, each with a task (classify, regress, multilabel or ordinal), the column that "
        "it learns, and the weight of its loss: [{task: regress, label: urgency, weight: 0.5}].",
        tasks=("classify", "multilabel", "ordinal", "regress"),
    )
    max_length: int | Literal["auto"] = model(
        "auto", "Longest row in tokens; longer ones are cut. auto: covers 99.5% of train, 128 to 512."
    )
    num_layers: int | None = model(None, "Layers of a scratch preset. Default: 4.", only_with=SCRATCH, ge=1)
    hidden_dim: int | None = model(None, "Width of a scratch preset. Default: 256.", only_with=SCRATCH, ge=8)
    num_heads: int | None = model(None, "Attention heads of a scratch preset. Default: 4.", only_with=SCRATCH, ge=1)
    vocabulary_size: int | None = model(
        None,
        "Tokens of a scratch preset, all characters of train among them. Default: 8000.",
        only_with=SCRATCH,
        ge=300,
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _short_task_name(cls, values: Any) -> Any:
        """The Hub's name of a task as kft's, and what else it stands for."""
        asked = values.get("task") if isinstance(values, dict) else None
        if not (isinstance(asked, str) and asked in HUB_TASKS):
            return values
        meant = HUB_TASKS[asked]
        for name, value in meant.items():
            if name != "task" and (given := values.get(name, "auto")) not in ("auto", value):
                raise ValueError(f"{name}: found {quoted(given)}, but task={asked} is {name}={value}. Leave one out.")
        return {**values, **meant}

    @pydantic.field_validator("prune_vocabulary", mode="before")
    @classmethod
    def _switch_or_path(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if value == "":
            raise ValueError("expected true, false or a text file")
        return value

    @pydantic.field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        if value not in ("auto", *TASKS):
            hint = did_you_mean(value, (*TASKS, *HUB_TASKS))
            raise ValueError(f"unknown task.{hint} Expected auto, {', '.join(TASKS)}, or {', '.join(HUB_TASKS)}.")
        return value

    @pydantic.field_validator("aux", mode="before")
    @classmethod
    def _one_or_several_heads(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping | Aux) else list(value) if isinstance(value, tuple) else value

    @pydantic.field_validator("aux")
    @classmethod
    def _heads_with_names_of_their_own(cls, value: list[Aux]) -> list[Aux]:
        names = [head.name for head in value]
        if len(set(names)) < len(names):
            raise ValueError("two heads have the same name: give one of them another with name:")
        return value

    @pydantic.field_validator("max_length")
    @classmethod
    def _room_for_special_tokens(cls, value: int | str) -> int | str:
        if value != "auto" and int(value) < 8:
            raise ValueError("expected at least 8 tokens, or auto")
        return value

    @pydantic.field_validator("transfer")
    @classmethod
    def _known_transfer(cls, value: str) -> str:
        strategies.parse(value)
        return value


class AdapterKnobs(Section):
    """What is put into linear layers."""

    lora_alpha: float | Literal["auto"] = lora(
        "auto", "What the product of LoRA's matrices is multiplied by, over the rank. auto: twice the rank."
    )
    lora_dropout: float = lora(0.0, "Share of the inputs of LoRA's matrices dropped in training.", ge=0, lt=1)
    lora_targets: str = lora(
        "all",
        f"The linear layers that LoRA goes into, by role: {', '.join(roles.ROLES)}, or all. Several with +, as in "
        "query+value.",
    )
    lora_variant: str = lora(
        "plain",
        "plain, or some of rslora (alpha over the root of the rank), dora (the length of each column trains by itself) "
        "and pissa (a start from the largest singular values), with + between them.",
    )
    lora_start: str | None = lora(
        None, "Folder with PEFT's adapter_model.safetensors that LoRA begins with; for BERT and Llama."
    )
    lora_plus_ratio: float = lora(
        1.0, "How often the learning rate of LoRA's first matrix its second one has (LoRA+: 16).", gt=0, le=100
    )

    @pydantic.field_validator("lora_alpha")
    @classmethod
    def _positive_alpha(cls, value: float | str) -> float | str:
        if value != "auto" and not 0 < float(value) <= LARGEST:
            raise ValueError("expected a number above 0, or auto")
        return value

    @pydantic.field_validator("lora_targets", mode="before")
    @classmethod
    def _known_targets(cls, value: Any) -> Any:
        return roles.parsed(value) if isinstance(value, str | list | tuple) else value

    @pydantic.field_validator("lora_variant", mode="before")
    @classmethod
    def _known_variant(cls, value: Any) -> Any:
        return arguments.lora_variants(value) if isinstance(value, str | list | tuple) else value
