"""The Recipe: every knob of a fit in one frozen, validated, serialisable object.

The command line's flags, the YAML file, the tuner's space, what each task refuses and the docs are read off its fields,
so a knob is declared once: here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from kft import disk, documents, knobs
from kft.accelerate import passes
from kft.errors import RecipeError, did_you_mean, printable, quoted
from kft.knobs import knob
from kft.models import roles
from kft.task_names import HUB_TASKS, TASKS, Aux
from kft.transfer import strategies

MOST_RATE = 10.0
"""The highest learning rate that is taken."""
LARGEST = 10**12
"""What no knob that counts goes beyond."""

# The groups of knobs, in the words of `kft fit --help` and docs/knobs.md.
model = functools.partial(knob, "Task and model")
lora = functools.partial(knob, "Adapters", only_with={"transfer": ("lora:*", "*+lora:*", "*+ lora:*")})
rows = functools.partial(knob, "Rows and splits")
classes = functools.partial(knob, "Classes")
vectors = functools.partial(knob, "Vectors of texts")
pretraining = functools.partial(knob, "Pretraining", tasks=("pretrain",))
generation = functools.partial(knob, "Generation", tasks=("generate",))
optimisation = functools.partial(knob, "Optimisation")
selection = functools.partial(knob, "Model selection and checkpoints")
machine = functools.partial(knob, "Devices, precision and seed")
output = functools.partial(knob, "Output")
SCRATCH = {"preset": ("scratch:*",)}


def column(description: str, *tasks: str) -> Any:
    """A knob that names a column of the rows."""
    return knob("Columns", None, description, tasks=tasks)


class Recipe(pydantic.BaseModel):
    """Every knob of one fit. Frozen; names and values that are wrong, and knobs without use, raise `RecipeError`.

    Build it with `Recipe.of(...)`, read it from a file with `Recipe.read(path)`, write it with `.write(path)`.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # -- the task, the model and what of it trains -----------------------------------------------------------------
    task: str = model(
        "auto",
        f"What is learnt: {', '.join(TASKS)}. auto: read off the columns. The Hugging Face Hub's names are taken too: "
        + ", ".join(f"{name} ({meant['task']})" for name, meant in HUB_TASKS.items())
        + ".",
    )
    preset: str = model(
        "minilm",
        "Pretrained model: minilm, a KerasHub preset name, kaggle://, hf://, modelscope:// or a directory; "
        "scratch:bert, scratch:gpt2: random weights, and a tokenizer of train.",
    )
    transfer: str = model(
        "full",
        "What trains beside the head: full (all), features (nothing), last:N or first:N (the last or first N blocks), "
        "layers:PATTERN (blocks or variables of such names), bitfit (biases), norms; what is added and trains: "
        "lora:RANK, ia3, adapters:WIDTH; and at which rates: layer_decay:RATE. Several with +, as in "
        "last:4+layer_decay:0.9.",
    )
    cache_features: bool = model(
        True,
        "Compute what frozen layers give once for each row and keep it, so that epochs run only what trains. kft plan "
        "says what is kept, what it saves and what it takes.",
        not_with={"transfer": ["full"]},
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

    # -- adapters --------------------------------------------------------------------------------------------------
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

    # -- rows and splits -------------------------------------------------------------------------------------------
    train: str | None = rows(
        None, "Training rows: a file (.csv .tsv .jsonl .json .parquet) or a benchmark (glue:sst2)."
    )
    data_dir: str | None = rows(
        None, "Directory with the files of a benchmark given by name. None: the datasets library fetches it."
    )
    validation: float | str = rows(
        0.1, "Validation rows: a file, or the share split off train. 0: none, the last weights are kept."
    )
    test: float | str | None = rows(None, "Test rows, never used in training: a file, or a share of train.")
    split_by: str | None = rows(
        None,
        "Column whose equal values keep rows on one side of a split. Default: texts that several rows share, as a "
        "context, a premise or an anchor.",
    )
    allow_leaks: bool = rows(False, "Go on though rows of train stand in test too.")
    bad_rows: Literal["refuse", "drop"] = rows(
        "refuse",
        "What is done with rows that cannot be used (no label, no text, not a number): refuse them all, or drop them "
        "and say how many.",
    )

    # -- columns ---------------------------------------------------------------------------------------------------
    text: str | None = column(
        "Column with the text. Guessed if not given.",
        *("choose", "classify", "embed", "extract", "fewshot", "joint", "multilabel", "ordinal", "pretrain"),
        *("regress", "relate", "tag"),
    )
    text_pair: str | None = column(
        "Column with the second text (paraphrase, entailment, similarity).",
        *("classify", "embed", "fewshot", "multilabel", "ordinal", "regress"),
    )
    label: str | None = column(
        "Column with the label (classify) or the number (regress).",
        *("choose", "classify", "embed", "fewshot", "joint", "multilabel", "ordinal", "regress", "relate"),
    )
    words: str | None = column("Column with lists of words.", "joint", "tag")
    tags: str | None = column("Column with lists of tags, one for each word.", "joint", "tag")
    spans: str | None = column("Column with lists of {start, end, label} in the text.", "joint", "relate", "tag")
    question: str | None = column("Column with the question.", "answer")
    context: str | None = column("Column with the text that is asked about.", "answer")
    answers: str | None = column("Column with gold answers: texts, or {text, answer_start}.", "answer")
    choices: str | None = column("Column with lists of texts to choose from.", "choose")
    negative: str | None = column("Column with a text that does not belong to the first.", "embed")
    events: str | None = column("Column with lists of {type, trigger, arguments}.", "extract")
    prompt: str | None = column("Column with the text to respond to.", "generate")
    response: str | None = column("Column with the text to be written.", "generate")
    messages: str | None = column("Column with conversations: lists of {role, content}.", "generate")

    # -- classes ---------------------------------------------------------------------------------------------------
    min_class_rows: int = classes(
        1,
        "Fewest training rows of a class; the rows of classes with fewer are dropped.",
        tasks=("classify", "fewshot", "joint", "ordinal", "relate"),
        ge=1,
    )
    label_smoothing: float = classes(
        0.0, "Share of the target spread evenly over the classes.", tasks=("classify", "relate"), ge=0, lt=1
    )
    class_weights: Literal["balanced"] | dict[str, float] | None = classes(
        None,
        "Weight of each class in the loss, beside the mean weight of the training rows: balanced "
        "(n / (classes x count)), or {label: weight}.",
        tasks=("classify", "relate"),
    )

    # -- vectors of texts ------------------------------------------------------------------------------------------
    pooling: Literal["auto", "mean", "cls", "last"] = vectors(
        "auto", "How tokens become one vector. auto: mean; the last of a decoder.", tasks=("embed", "fewshot")
    )
    contrastive: Literal["auto", "multiple_negatives", "triplet", "cosine"] = vectors(
        "auto", "Loss of embed. auto: cosine where pairs have a number, else multiple_negatives.", tasks=("embed",)
    )

    # -- pretraining -----------------------------------------------------------------------------------------------
    pretrain_objective: Literal["auto", "mlm", "clm", "nsp", "sop"] = pretraining(
        "auto",
        "What pretrain learns: masked tokens (mlm), the next token (clm), mlm and whether one sentence follows another "
        "(nsp) or their order (sop). auto: clm for decoders, else mlm.",
    )
    mask_rate: float = pretraining(
        0.15, "Share of the tokens that mlm, nsp and sop hide.", not_with={"pretrain_objective": ["clm"]}, gt=0, lt=1
    )
    whole_word_mask: bool = pretraining(
        False, "Hide all tokens of a word, or none.", not_with={"pretrain_objective": ["clm"]}
    )

    # -- generation ------------------------------------------------------------------------------------------------
    max_new_tokens: int = generation(64, "Longest response in tokens.", ge=1)
    decoding: Literal["greedy", "beam", "top_k", "top_p", "sample"] = generation(
        "greedy", "How the next token is chosen: greedy and beam are the same every time."
    )
    num_beams: int = generation(
        4, "Responses that beam goes on with, side by side.", only_with={"decoding": ["beam"]}, ge=2
    )
    top_k: int = generation(50, "Likeliest tokens that top_k draws from.", only_with={"decoding": ["top_k"]}, ge=1)
    top_p: float = generation(
        0.9, "Share of the probability that top_p draws from.", only_with={"decoding": ["top_p"]}, gt=0, le=1
    )
    temperature: float = generation(
        1.0,
        "What logits are divided by where tokens are drawn.",
        only_with={"decoding": ["top_k", "top_p", "sample"]},
        gt=0,
    )
    stop: list[str] = generation([], "Stop strings: a response ends before the first of them.")
    packing: bool = generation(
        False, "Rows share lines of max_length tokens in training, and none sees another (decoders)."
    )

    # -- optimisation ----------------------------------------------------------------------------------------------
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

    # -- when to stop, what to keep --------------------------------------------------------------------------------
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

    # -- devices, precision and seed -------------------------------------------------------------------------------
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

    # -- output ----------------------------------------------------------------------------------------------------
    out: str | None = output(None, "Run directory to write. Default: runs/<task>-<preset>-<number>.")
    report_examples: bool = output(
        True, "Show the rows that are answered worst in report.html; off: no text of a row in it."
    )

    @pydantic.field_validator("*")
    @classmethod
    def _within_reach(cls, value: Any) -> Any:
        if isinstance(value, int) and value > LARGEST:
            raise ValueError(f"expected {LARGEST:,} at most")
        members = [*value] if isinstance(value, list | dict) else [value]
        texts = [text for one in members for text in (dict(one).values() if isinstance(one, Aux) else [one])]
        for text in texts:
            if not isinstance(text, str):
                continue
            if "\0" in text or not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise ValueError("expected text of UTF-8 without NUL")
        return value

    @pydantic.field_validator("accelerate", mode="before")
    @classmethod
    def _known_passes(cls, value: Any) -> bool | str:
        return passes.parsed(value)

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

    @pydantic.field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        if value not in ("auto", *TASKS):
            hint = did_you_mean(value, (*TASKS, *HUB_TASKS))
            raise ValueError(f"unknown task.{hint} Expected auto, {', '.join(TASKS)}, or {', '.join(HUB_TASKS)}.")
        return value

    @pydantic.field_validator("class_weights", mode="before")
    @classmethod
    def _labels_as_text(cls, value: Any) -> Any:
        """Labels that YAML or Python took for numbers or truth values, as they are read from rows."""
        if not isinstance(value, Mapping):
            return value
        named = [(_label(key), weight) for key, weight in value.items()]
        if len({name for name, _ in named if isinstance(name, str)}) < sum(isinstance(name, str) for name, _ in named):
            raise ValueError("two of the labels are read as the same")
        return dict(named)

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
        return strategies.lora_variants(value) if isinstance(value, str | list | tuple) else value

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
        strategies.parse(value)
        return value

    @property
    def adapter_settings(self) -> dict[str, Any]:
        """The knobs of adapters, by name."""
        return {name: getattr(self, name) for name in type(self).model_fields if name.startswith("lora_")}

    @classmethod
    def of(cls, base: Recipe | None = None, **values: Any) -> Recipe:
        """The Recipe with these knobs, on top of `base` if one is given.

        Raises:
            RecipeError: A knob with an unknown name (with the nearest known one), a value out of range, or a knob that
                is set and that the task, preset or other knobs do not use.

        >>> Recipe.of(epochs=2).epochs
        2
        """
        recipe = cls._valid({**(base.model_dump() if base else {}), **values})
        recipe.refuse_unused()
        return recipe

    @classmethod
    def value_of(cls, name: str, value: Any) -> Any:
        """A value as the Recipe holds it, for instance a number that was written as text.

        Raises:
            RecipeError: No knob has this name, or this value.

        >>> Recipe.value_of("task", "token-classification")
        'tag'
        """
        return getattr(cls._valid({name: value}), name)

    @classmethod
    def _valid(cls, values: Mapping[str, Any]) -> Recipe:
        """These knobs with each value checked by itself."""
        for name in values:
            if name not in cls.model_fields:
                raise RecipeError(f"unknown knob {quoted(name)}.{did_you_mean(name[:100], cls.model_fields)}")
        try:
            return cls(**values)
        except pydantic.ValidationError as error:
            raise RecipeError("; ".join(_sentence(problem) for problem in error.errors())) from None

    def refuse_unused(self, task: str | None = None, **decided: Any) -> None:
        """Refuses knobs that are set to another value than their default and that this fit does not use.

        Args:
            task: The task, where `auto` has been decided.
            **decided: Other knobs whose `auto` has been decided.

        Raises:
            RecipeError: Names each knob, its value, and what it is used with.

        """
        values = {**dict(self), "task": task or self.task, **decided}
        unused = knobs.unused(type(self).model_fields, values)
        if not unused:
            return
        cure = "Leave it out." if len(unused) == 1 else "Leave them out."
        if self.task == "auto" and values["task"] != "auto":
            cure = f"{cure[:-1]}, or name another task: the columns are those of {values['task']}."
        if not {*unused}.isdisjoint(COLUMN_KNOBS):
            columns = [name for name in COLUMN_KNOBS if has_knob(values["task"], name)]
            cure += f" The columns of {values['task']}: {', '.join(columns)}."
        raise RecipeError(f"{' '.join(unused.values())} {cure}")

    @classmethod
    def read(cls, path: str | Path, *, is_recorded: bool = False) -> Recipe:
        """Reads a recipe file, YAML or JSON: one mapping of knob names to values.

        Args:
            path: The file.
            is_recorded: Whether it is that of a run, which earlier versions of kft have begun with knobs without use.

        Raises:
            RecipeError: The file is missing or not such a mapping, or a knob in it is wrong.
        """
        values = documents.read(Path(path), RecipeError)
        if not isinstance(values, Mapping):
            raise RecipeError(f"{path}: found {type(values).__name__}, expected a mapping of knobs, as in 'epochs: 3'")
        for name in values:
            if not isinstance(name, str):
                raise RecipeError(f"{path}: found {quoted(name)} as the name of a knob, as in 'epochs: 3'")
        try:
            return cls._valid(values) if is_recorded else cls.of(**values)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from None

    def write(self, path: str | Path) -> None:
        """Writes every knob to `path`, as JSON if it ends in .json and as YAML otherwise."""
        values = self.model_dump(mode="json")
        if str(path).endswith(".json"):
            disk.write_json(path, values)
        else:
            disk.write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


COLUMN_KNOBS = tuple(knobs.by_group(Recipe.model_fields)["Columns"])
"""The knobs that name a column of the rows: what kft calls it."""


def has_knob(task: str, name: str) -> bool:
    """Whether a task has a knob.

    >>> has_knob("classify", "label_smoothing"), has_knob("tag", "label_smoothing"), has_knob("tag", "epochs")
    (True, False, True)
    """
    tasks = knobs.use_of(Recipe.model_fields[name]).tasks
    return not tasks or task in tasks


def _label(key: Any) -> Any:
    """A key of `class_weights` as labels are read; others than text, numbers and truth values stay to be refused.

    >>> _label(1), _label(1.0), _label(1.5), _label(True), _label("a")
    ('1', '1', '1.5', 'true', 'a')
    """
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, float) and key.is_integer():
        return str(int(key))
    return str(key) if isinstance(key, int | float) else key


def _sentence(problem: Any) -> str:
    """One pydantic problem as a sentence: which knob, what was found, what was expected."""
    where = ".".join(str(part) for part in problem["loc"][:1])
    message = problem["msg"].removeprefix("Value error, ")
    if not where:  # the message of a check of several knobs names them
        return message
    return f"{printable(where)}: found {quoted(problem['input'])}: {message}"
