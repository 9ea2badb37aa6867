"""Knobs of training: optimisation, what is kept, devices, output."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from kft.accelerate import passes
from kft.recipe.sections import MOST_RATE, Section, machine, optimisation, output, selection
from kft.task_names import TASKS


class OptimisationKnobs(Section):
    """Epochs, batches, rates, AdamW."""

    epochs: int = optimisation(3, "Passes over the training rows.", ge=1)
    max_steps: int | None = optimisation(None, "Batches after which training ends, whatever epochs says.", ge=1)
    batch_size: int = optimisation(32, "Rows in one forward and backward pass, over all devices.", ge=1)
    learning_rate: float | Literal["auto"] = optimisation(
        "auto", "Peak learning rate. auto: 3e-5 x 110M / parameters, 1e-5 to 3e-4; 1e-3 on frozen backbones."
    )
    head_learning_rate: float | Literal["auto"] = optimisation(
        "auto",
        "Peak rate of the new head. auto: 10 x learning_rate, but 1e-3 at most (or learning_rate).",
        tasks=[task for task in TASKS if task not in ("embed", "fewshot", "generate")],
        not_with={"pretrain_objective": ["clm"]},
    )
    schedule: Literal["linear", "cosine", "constant"] = optimisation("linear", "Decay after warmup, to zero.")
    warmup_steps: float = optimisation(0.1, "Updates of linear warmup; below 1, the share of all updates.", ge=0)
    weight_decay: float = optimisation(
        0.01, "Decoupled weight decay, on kernels only, in shares of each one's rate.", ge=0, le=100
    )
    adam_beta1: float = optimisation(0.9, "Decay of AdamW's first moment.", ge=0, lt=1)
    adam_beta2: float = optimisation(0.999, "Decay of AdamW's second moment.", ge=0, lt=1)
    adam_epsilon: float = optimisation(1e-8, "AdamW's epsilon.", gt=0, le=1)
    max_grad_norm: float = optimisation(1.0, "Global norm that gradients are clipped to; 0: no clipping.", ge=0, le=1e9)
    gradient_accumulation_steps: int = optimisation(
        1, "Batches in one update, as one large batch; fewer at the end of an epoch.", ge=1
    )

    @pydantic.field_validator("learning_rate", "head_learning_rate")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        # AdamW moves each weight by about the rate: far beyond 1 nothing is left of what was pretrained.
        if value != "auto" and not 0 < float(value) <= MOST_RATE:
            raise ValueError(f"expected a number above 0, at most {MOST_RATE:g}, or auto")
        return value


class SelectionKnobs(Section):
    """When to stop, what to keep."""

    save_best_by: str = selection(
        "auto",
        "Validation metric that picks the weights to keep. auto: the task's.",
        not_with={"validation": ["0"]},
    )
    early_stopping_patience: int | None = selection(
        None,
        "Stop after this many epochs without a better save_best_by.",
        not_with={"validation": ["0"]},
        ge=1,
    )
    checkpoint_every: int | None = selection(
        None, "Batches between two checkpoints; one is written after each epoch besides.", ge=1
    )
    save_total_limit: int = selection(2, "Newest checkpoints kept while training, beside the best one.", ge=1)


class MachineKnobs(Section):
    """Devices, precision and seed."""

    seed: int = machine(0, "Seed of split, order, head and dropout.", ge=0, lt=2**31)
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = machine(
        "auto", "Arithmetic in training. auto: bfloat16 where the device has it in hardware."
    )
    distribute: str = machine(
        "auto", "none, mirrored[:N] (TensorFlow), data_parallel[:N] (JAX), tpu; auto: all accelerators."
    )
    accelerate: bool | str = machine(
        True,
        "Optimisations of the network: true, false, or names with commas between: those to use, or each with - those "
        "to leave out. kft plan says which apply, and why others do not.",
    )
    deterministic: bool = machine(False, "Bit-identical from run to run on one machine; slower.")

    @pydantic.field_validator("accelerate", mode="before")
    @classmethod
    def _known_passes(cls, value: Any) -> bool | str:
        return passes.parsed(value)

    @pydantic.field_validator("distribute")
    @classmethod
    def _known_distribution(cls, value: str) -> str:
        kind, _, count = value.partition(":")
        if kind not in ("auto", "none", "mirrored", "data_parallel", "tpu") or (count and not count.isdigit()):
            raise ValueError("expected auto, none, mirrored[:N], data_parallel[:N] or tpu")
        return value


class OutputKnobs(Section):
    """What is written."""

    out: str | None = output(None, "Run directory to write. Default: runs/<task>-<preset>-<number>.")
    report_examples: bool = output(
        True, "Show the rows that are answered worst in report.html; off: no text of a row in it."
    )
