"""The knobs as keyword arguments, for editors and type checkers, which cannot read them off `kft.recipe`.

A test compares these with the fields of the Recipe. Where a call takes more than the Recipe holds, such as rows in
place of a share or a `pathlib.Path` in place of text, the type here is the wider one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict


class SharedKnobs(TypedDict, total=False):
    """The knobs that all trials of a search share, and every fit has."""

    # Task and model
    task: str
    preset: str | Path
    transfer: str
    cache_features: bool
    prune_vocabulary: bool | str
    aux: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    max_length: int | Literal["auto"]
    num_layers: int | None
    hidden_dim: int | None
    num_heads: int | None
    vocabulary_size: int | None

    # Adapters
    lora_alpha: float | Literal["auto"]
    lora_dropout: float
    lora_targets: str | Sequence[str]
    lora_variant: str | Sequence[str]
    lora_start: str | Path | None
    lora_plus_ratio: float

    # Earlier tasks
    retain: str | Path | Mapping[str, Any] | Sequence[str | Path | Mapping[str, Any]]

    # Rows and splits
    data_dir: str | Path | None
    validation: Any
    test: Any
    split_by: str | None
    evaluate_by: str | None
    allow_leaks: bool
    bad_rows: Literal["refuse", "drop"]

    # Columns
    text: str | None
    text_pair: str | None
    label: str | None
    words: str | None
    tags: str | None
    spans: str | None
    question: str | None
    context: str | None
    answers: str | None
    choices: str | None
    negative: str | None
    events: str | None
    prompt: str | None
    response: str | None
    messages: str | None

    # Classes
    min_class_rows: int
    label_smoothing: float
    focal_gamma: float
    class_weights: Literal["balanced"] | Mapping[str, float] | Mapping[int, float] | Mapping[float, float] | None

    # Vectors of texts
    pooling: Literal["auto", "mean", "cls", "last"]
    contrastive: Literal["auto", "multiple_negatives", "triplet", "cosine"]

    # Pretraining
    pretrain_objective: Literal["auto", "mlm", "clm", "nsp", "sop"]
    mask_rate: float
    whole_word_mask: bool

    # Generation
    max_new_tokens: int
    decoding: Literal["greedy", "beam", "top_k", "top_p", "sample"]
    num_beams: int
    top_k: int
    top_p: float
    temperature: float
    stop: str | Sequence[str]
    packing: bool

    # Optimisation
    epochs: int
    max_steps: int | None
    batch_size: int
    learning_rate: float | Literal["auto"]
    head_learning_rate: float | Literal["auto"]
    schedule: Literal["linear", "cosine", "constant"]
    warmup_steps: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    gradient_accumulation_steps: int

    # Model selection and checkpoints
    save_best_by: str
    early_stopping_patience: int | None
    checkpoint_every: int | None
    save_total_limit: int

    # Devices, precision and seed
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
    distribute: str
    accelerate: bool | str | Sequence[str]
    deterministic: bool

    # Output
    report_examples: bool


class Knobs(SharedKnobs, total=False):
    """The knobs of one fit: the fields of `kft.Recipe` but `train`."""

    out: str | Path | None
    seed: int
