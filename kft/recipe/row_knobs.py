"""Knobs of rows: where they are, how they are split, their columns and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from kft.recipe.sections import Section, classes, column, rows


class RowKnobs(Section):
    """Rows and splits."""

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
    evaluate_by: str | None = rows(
        None,
        "Column that is neither read nor learnt, such as the language: validation and test rows are scored for each of "
        "its values besides.",
    )
    allow_leaks: bool = rows(False, "Go on though rows of train stand in test too.")
    bad_rows: Literal["refuse", "drop"] = rows(
        "refuse",
        "What is done with rows that cannot be used (no label, no text, not a number): refuse them all, or drop them "
        "and say how many.",
    )

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


class ColumnKnobs(Section):
    """Columns of the rows, by what kft calls them."""

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


class ClassKnobs(Section):
    """Classes."""

    min_class_rows: int = classes(
        1,
        "Fewest training rows of a class; the rows of classes with fewer are dropped.",
        tasks=("classify", "fewshot", "joint", "ordinal", "relate"),
        ge=1,
    )
    label_smoothing: float = classes(
        0.0, "Share of the target spread evenly over the classes.", tasks=("classify", "relate"), ge=0, lt=1
    )
    focal_gamma: float = classes(
        0.0,
        "Focal loss: each loss is multiplied by (1 - probability of the truth) to this power; 0 for none.",
        tasks=("classify", "multilabel", "relate", "tag"),
        ge=0,
        allow_inf_nan=False,
    )
    class_weights: Literal["balanced"] | dict[str, float] | None = classes(
        None,
        "Weight of each class in the loss, beside the mean weight of the training rows: balanced "
        "(n / (classes x count)), or {label: weight}.",
        tasks=("classify", "relate"),
    )

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
