"""The Recipe: every knob of a fit in one frozen, validated, serialisable object.

The command line's flags, the YAML file, the tuner's space and the docs are read off its fields, so a knob is
declared once: here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import Field

from kft import disk, documents
from kft.errors import RecipeError, did_you_mean, printable, quoted

COLUMN_KNOBS = (
    *("text", "text_pair", "label", "words", "tags", "spans", "question", "context", "answers", "choices"),
    *("negative", "prompt", "response", "messages", "events"),
)
"""The knobs that name a column of the rows: what kft calls it."""
MOST_RATE = 10.0
"""The highest learning rate that is taken."""
TASKS = sorted(path.stem for path in Path(__file__).with_name("tasks").glob("[a-z]*.py") if path.stem != "task")
"""The names of the tasks, each a file. They are not imported here, since they bring in TensorFlow."""
LARGEST = 10**12
"""What no knob that counts goes beyond."""


class Recipe(pydantic.BaseModel):
    """Every knob of one fit. Frozen; unknown names and values out of range raise `RecipeError`.

    Build it with `Recipe.of(...)`, read it from a file with `Recipe.read(path)`, write it with `.write(path)`.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # -- what is learnt, from what -------------------------------------------------------------------------------
    train: str | None = Field(
        None, description="Training rows: a file (.csv .tsv .jsonl .json .parquet) or a benchmark (glue:sst2)."
    )
    data_dir: str | None = Field(
        None,
        description="Directory with the files of a benchmark given by name. None: the datasets library fetches it.",
    )
    validation: float | str = Field(
        0.1, description="Validation rows: a file, or the share split off train. 0: none, the last weights are kept."
    )
    test: float | str | None = Field(
        None, description="Test rows, never used in training: a file, or a share of train."
    )
    task: str = Field("auto", description=f"What is learnt: {', '.join(TASKS)}. auto: read off the columns.")
    preset: str = Field(
        "minilm",
        description="Pretrained model: minilm, a KerasHub preset name, kaggle://, hf://, modelscope:// or a directory; "
        "scratch:bert, scratch:gpt2: random weights, and a tokenizer of train.",
    )
    out: str | None = Field(None, description="Run directory to write. Default: runs/<task>-<preset>-<number>.")

    # -- columns -------------------------------------------------------------------------------------------------
    text: str | None = Field(None, description="Column with the text. Guessed if not given.")
    text_pair: str | None = Field(None, description="Column with the second text (paraphrase, entailment, similarity).")
    label: str | None = Field(None, description="Column with the label (classify) or the number (regress).")
    words: str | None = Field(None, description="Column with lists of words (tag).")
    tags: str | None = Field(None, description="Column with lists of tags, one for each word (tag).")
    spans: str | None = Field(None, description="Column with lists of {start, end, label} in the text (tag).")
    question: str | None = Field(None, description="Column with the question (answer).")
    context: str | None = Field(None, description="Column with the text that is asked about (answer).")
    events: str | None = Field(None, description="Column with lists of {type, trigger, arguments} (extract).")
    choices: str | None = Field(None, description="Column with lists of texts to choose from (choose).")
    answers: str | None = Field(None, description="Column with gold answers: texts, or {text, answer_start} (answer).")
    negative: str | None = Field(None, description="Column with a text that does not belong to the first (embed).")
    prompt: str | None = Field(None, description="Column with the text to respond to (generate).")
    response: str | None = Field(None, description="Column with the text to be written (generate).")
    messages: str | None = Field(None, description="Column with conversations: lists of {role, content} (generate).")
    allow_leaks: bool = Field(False, description="Go on though rows of train stand in test too.")
    split_by: str | None = Field(
        None,
        description="Column whose equal values keep rows on one side of a split. Default: texts that several rows "
        "share, as a context, a premise or an anchor.",
    )
    bad_rows: Literal["refuse", "drop"] = Field(
        "refuse",
        description="What is done with rows that cannot be used (no label, no text, not a number): refuse them all, "
        "or drop them and say how many.",
    )
    min_class_rows: int = Field(
        1, ge=1, description="Fewest training rows of a class; the rows of classes with fewer are dropped."
    )

    # -- the model and what of it trains -------------------------------------------------------------------------
    transfer: str = Field("full", description="What trains: full (all), or features (the head on a frozen backbone).")
    max_length: int | Literal["auto"] = Field(
        "auto", description="Longest row in tokens; longer ones are cut. auto: covers 99.5% of train, 128 to 512."
    )

    pooling: Literal["auto", "mean", "cls", "last"] = Field(
        "auto", description="How tokens become one vector (embed, fewshot). auto: mean; the last of a decoder."
    )
    contrastive: Literal["auto", "multiple_negatives", "triplet", "cosine"] = Field(
        "auto", description="Loss of embed. auto: cosine where pairs have a number, else multiple_negatives."
    )

    # -- pretraining ---------------------------------------------------------------------------------------------
    pretrain_objective: Literal["auto", "mlm", "clm", "nsp", "sop"] = Field(
        "auto",
        description="What pretrain learns: masked tokens (mlm), the next token (clm), mlm and whether one sentence "
        "follows another (nsp) or their order (sop). auto: clm for decoders, else mlm.",
    )
    mask_rate: float = Field(0.15, gt=0, lt=1, description="Share of the tokens that mlm, nsp and sop hide.")
    whole_word_mask: bool = Field(False, description="Hide all tokens of a word, or none.")
    num_layers: int | None = Field(None, ge=1, description="Layers of a scratch preset. Default: 4.")
    hidden_dim: int | None = Field(None, ge=8, description="Width of a scratch preset. Default: 256.")
    num_heads: int | None = Field(None, ge=1, description="Attention heads of a scratch preset. Default: 4.")
    vocabulary_size: int | None = Field(
        None, ge=300, description="Tokens of a scratch preset, all characters of train among them. Default: 8000."
    )

    # -- optimisation --------------------------------------------------------------------------------------------
    epochs: int = Field(3, ge=1, description="Passes over the training rows.")
    max_steps: int | None = Field(None, ge=1, description="Batches after which training ends, whatever epochs says.")
    batch_size: int = Field(32, ge=1, description="Rows in one forward and backward pass, over all devices.")
    learning_rate: float | Literal["auto"] = Field(
        "auto",
        description="Peak learning rate. auto: 3e-5 x 110M / parameters, 1e-5 to 3e-4; 1e-3 on frozen backbones.",
    )
    head_learning_rate: float | Literal["auto"] = Field(
        "auto", description="Peak rate of the new head. auto: 10 x learning_rate, but 1e-3 at most (or learning_rate)."
    )
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Decay after warmup, to zero.")
    warmup_steps: float = Field(0.1, ge=0, description="Updates of linear warmup; below 1, the share of all updates.")
    weight_decay: float = Field(
        0.01, ge=0, le=100, description="Decoupled weight decay, on kernels only, in shares of each one's rate."
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="Decay of AdamW's first moment.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="Decay of AdamW's second moment.")
    adam_epsilon: float = Field(1e-8, gt=0, le=1, description="AdamW's epsilon.")
    max_grad_norm: float = Field(
        1.0, ge=0, le=1e9, description="Global norm that gradients are clipped to; 0: no clipping."
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="Batches in one update, as one large batch; fewer at the end of an epoch."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread evenly over the classes.")
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None,
        description="Weight of each class in the loss, beside the mean weight of the training rows: balanced "
        "(n / (classes x count)), or {label: weight}.",
    )

    # -- generation ----------------------------------------------------------------------------------------------
    max_new_tokens: int = Field(64, ge=1, description="Longest response in tokens (generate).")
    decoding: Literal["greedy", "beam", "top_k", "top_p", "sample"] = Field(
        "greedy", description="How the next token is chosen (generate): greedy and beam are the same every time."
    )
    num_beams: int = Field(4, ge=2, description="Responses that beam goes on with, side by side.")
    top_k: int = Field(50, ge=1, description="Likeliest tokens that top_k draws from.")
    top_p: float = Field(0.9, gt=0, le=1, description="Share of the probability that top_p draws from.")
    temperature: float = Field(1.0, gt=0, description="What logits are divided by where tokens are drawn.")
    packing: bool = Field(
        False, description="Rows share lines of max_length tokens in training, and none sees another (generate)."
    )
    stop: list[str] = Field([], description="Texts at whose first occurrence a response is cut (generate).")

    # -- when to stop, what to keep ------------------------------------------------------------------------------
    save_best_by: str = Field("auto", description="Validation metric that picks the weights to keep. auto: the task's.")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better save_best_by."
    )
    checkpoint_every: int | None = Field(
        None, ge=1, description="Batches between two checkpoints; one is written after each epoch besides."
    )
    save_total_limit: int = Field(2, ge=1, description="Newest checkpoints kept while training, beside the best one.")

    report_examples: bool = Field(
        True, description="Show the rows that are answered worst in report.html; off: no text of a row in it."
    )

    # -- the machine ---------------------------------------------------------------------------------------------
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of split, order, head and dropout.")
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "auto", description="Arithmetic in training. auto: bfloat16 where the device has it in hardware."
    )
    distribute: str = Field(
        "auto", description="none, mirrored[:N] (TensorFlow), data_parallel[:N] (JAX), tpu; auto: all accelerators."
    )
    deterministic: bool = Field(False, description="Bit-identical from run to run on one machine; slower.")

    @pydantic.field_validator("*")
    @classmethod
    def _within_reach(cls, value: Any) -> Any:
        if isinstance(value, int) and value > LARGEST:
            raise ValueError(f"expected {LARGEST:,} at most")
        for text in [value] if isinstance(value, str) else value if isinstance(value, list | dict) else []:
            if "\0" in text or not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise ValueError("expected text of UTF-8 without NUL")
        return value

    @pydantic.field_validator("validation", "test", mode="before")
    @classmethod
    def _fraction_or_path(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                return value
        if isinstance(value, bool) or (isinstance(value, int | float) and not 0 <= value < 1):
            raise ValueError("expected a file or a share of train, 0 <= share < 1")
        return value

    @pydantic.field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        if value not in ("auto", *TASKS):
            raise ValueError(f"unknown task.{did_you_mean(value, TASKS)} Expected auto, {', '.join(TASKS)}.")
        return value

    @pydantic.field_validator("learning_rate", "head_learning_rate")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        # AdamW moves each weight by about the rate: far beyond 1 nothing is left of what was pretrained.
        if value != "auto" and not 0 < float(value) <= MOST_RATE:
            raise ValueError(f"expected a number above 0, at most {MOST_RATE:g}, or auto")
        return value

    @pydantic.field_validator("max_length")
    @classmethod
    def _room_for_special_tokens(cls, value: int | str) -> int | str:
        if value != "auto" and int(value) < 8:
            raise ValueError("expected at least 8 tokens, or auto")
        return value

    @pydantic.field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and "" in texts:
            raise ValueError("expected texts of one character or more")
        return list(texts) if isinstance(texts, tuple) else texts

    @pydantic.field_validator("distribute")
    @classmethod
    def _known_distribution(cls, value: str) -> str:
        kind, _, count = value.partition(":")
        if kind not in ("auto", "none", "mirrored", "data_parallel", "tpu") or (count and not count.isdigit()):
            raise ValueError("expected auto, none, mirrored[:N], data_parallel[:N] or tpu")
        return value

    @pydantic.field_validator("transfer")
    @classmethod
    def _known_transfer(cls, value: str) -> str:
        if value not in ("full", "features"):
            raise ValueError("expected full or features." + did_you_mean(value, ["full", "features"]))
        return value

    @classmethod
    def of(cls, base: Recipe | None = None, **knobs: Any) -> Recipe:
        """The Recipe with these knobs, on top of `base` if one is given.

        Raises:
            RecipeError: A knob with an unknown name (with the nearest known one) or a value out of range.

        >>> Recipe.of(epochs=2).epochs
        2
        """
        for name in knobs:
            if name not in cls.model_fields:
                raise RecipeError(f"unknown knob {quoted(name)}.{did_you_mean(name[:100], cls.model_fields)}")
        try:
            return cls(**{**(base.model_dump() if base else {}), **knobs})
        except pydantic.ValidationError as error:
            raise RecipeError("; ".join(_sentence(problem) for problem in error.errors())) from None

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Reads a recipe file, YAML or JSON: one mapping of knob names to values.

        Raises:
            RecipeError: The file is missing or not such a mapping, or a knob in it is wrong.
        """
        knobs = documents.read(Path(path), RecipeError)
        if not isinstance(knobs, Mapping):
            raise RecipeError(f"{path}: found {type(knobs).__name__}, expected a mapping of knobs, as in 'epochs: 3'")
        for name in knobs:
            if not isinstance(name, str):
                raise RecipeError(f"{path}: found {quoted(name)} as the name of a knob, as in 'epochs: 3'")
        try:
            return cls.of(**knobs)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from None

    def write(self, path: str | Path) -> None:
        """Writes every knob to `path`, as JSON if it ends in .json and as YAML otherwise."""
        knobs = self.model_dump(mode="json")
        if str(path).endswith(".json"):
            disk.write_json(path, knobs)
        else:
            disk.write_text(path, yaml.safe_dump(knobs, sort_keys=False, allow_unicode=True))


def _sentence(problem: Any) -> str:
    """One pydantic problem as a sentence: which knob, what was found, what was expected."""
    where = ".".join(str(part) for part in problem["loc"][:1])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{printable(where)}: found {quoted(problem['input'])}: {message}"
