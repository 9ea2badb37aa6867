"""What may stand in the JSON files of a run: checked whenever one is read, since anybody may have written it.

Keys that are not named here may hold any JSON value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NotRequired

import pydantic
from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from kft.errors import quoted
from kft.task_names import AUX_NAME, TASKS

LONGEST_TEXT, MOST_LABELS, MOST_FILES = 2**16, 10**6, 100_000
MOST = 2**53  # integers up to here are exact as floats

Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Columns = dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")], Text]
_OPEN = pydantic.ConfigDict(extra="allow")


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name or not path.parts:
        raise ValueError("expected a name inside the run")
    return name


def _different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("expected different names")
    return names


class Reading(TypedDict):
    """How the values of a column are read, as those of the training rows were."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    numbers: NotRequired[bool]
    separator: NotRequired[Literal[";", "|", ","] | None]
    by_number: NotRequired[bool]


class Manifest(TypedDict):
    """manifest.json; a finished run's has the sha256 of every file that it reads."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    kft: Text
    task: Literal[tuple(TASKS)]  # type: ignore[valid-type]
    columns: Columns
    readings: NotRequired[dict[str, Reading]]
    texts: Annotated[list[Text], Field(min_length=1, max_length=100), AfterValidator(_different)]
    preset: Text
    finished: bool
    labels: dict[str, Any]
    notes: NotRequired[list[Text]]
    sha256: Annotated[dict[Annotated[Text, AfterValidator(_inside)], Sha256], Field(max_length=MOST_FILES)]
    manifest_sha256: Sha256


class Metrics(TypedDict):
    """metrics.json."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    validation: NotRequired[dict[str, Any]]
    test: NotRequired[dict[str, Any]]
    baselines: NotRequired[dict[str, dict[str, Any]]]
    train_s: Number
    examples_per_s: Number
    peak_memory_mb: Number


class _Record(TypedDict):
    """A batch or an epoch."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    kind: Literal["step", "epoch"]
    step: Count
    epoch: Count
    loss: Number


def _scalars(record: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in record.items():
        if isinstance(value, list | dict):
            raise ValueError(f"{quoted(name)}: expected a number")
    return record


HistoryRecord = Annotated[_Record, AfterValidator(_scalars)]
"""A line of history.jsonl."""


# -- labels.json, by the task --------------------------------------------------------------------------------------

Labels = Annotated[list[Text], Field(min_length=1, max_length=MOST_LABELS), AfterValidator(_different)]
Pooling = Literal["auto", "mean", "cls", "last"]


class Classes(TypedDict):
    """Of tasks with one label for a text."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    labels: Annotated[Labels, Field(min_length=2)]
    class_weights: NotRequired[list[Annotated[Number, Field(ge=0)]] | None]


class Ranks(TypedDict):
    """Of `ordinal`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    labels: Annotated[list[Annotated[str, StringConstraints(pattern=r"^[-+]?\d{1,15}(\.0*)?$")]], Field(min_length=2)]


class Centres(Classes):
    """Of `fewshot`."""

    pooling: Pooling


class LabelSets(TypedDict):
    """Of `multilabel`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    labels: Labels
    thresholds: list[Number]


class Tags(TypedDict):
    """Of `tag` and `extract`, and the slots of `joint`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    labels: Labels
    scheme: Text
    missing: Count
    words: NotRequired[Literal["words/1", "words/2", "characters/1"]]  # the rules of kft.text.words


class IntentsAndSlots(TypedDict):
    """Of `joint`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    labels: Annotated[Labels, Field(min_length=2)]
    slots: Tags


class Scale(TypedDict):
    """Of `regress`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    mean: Number
    deviation: Annotated[Number, Field(gt=0)]


class Threshold(TypedDict):
    """Of `answer`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    threshold: Number
    longest: NotRequired[Count]


class Choices(TypedDict):
    """Of `choose`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    labels: Annotated[Labels, Field(min_length=2, max_length=1000)]


class Vectors(TypedDict):
    """Of `embed`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    contrastive: Literal["multiple_negatives", "triplet", "cosine"]
    pooling: Pooling
    num_texts: Annotated[int, Field(ge=1, le=100)]
    low: NotRequired[Number]
    high: NotRequired[Number]


class Decoding(TypedDict):
    """How `generate` writes, by the knobs of the Recipe."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    max_new_tokens: Annotated[int, Field(ge=1, le=10**6)]
    decoding: Literal["greedy", "beam", "top_k", "top_p", "sample"]
    num_beams: Annotated[int, Field(ge=2, le=10**4)]
    top_k: Annotated[int, Field(ge=1, le=10**7)]
    top_p: Annotated[Number, Field(gt=0, le=1)]
    temperature: Annotated[Number, Field(gt=0)]
    stop: Annotated[list[Annotated[Text, Field(min_length=1)]], Field(max_length=1000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


class Responses(TypedDict):
    """Of `generate`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    generation: Decoding
    template: NotRequired[Count]
    objective: NotRequired[Literal["packed"]]


class Objective(TypedDict):
    """Of `pretrain`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    objective: Literal["mlm", "clm", "nsp", "sop"]
    mask_rate: Annotated[Number, Field(gt=0, lt=1)]


def _tags_agree(tags: Any) -> None:
    if tags["missing"] >= len(tags["labels"]):
        raise ValueError(f"missing: found {tags['missing']}, expected the place of one of {len(tags['labels'])} labels")


def _classes_agree(classes: Any) -> None:
    weights = classes.get("class_weights")
    if weights is not None and len(weights) != len(classes["labels"]):
        raise ValueError(f"class_weights: found {len(weights)}, expected one for each of the labels")


def _thresholds_agree(sets: Any) -> None:
    if len(sets["thresholds"]) != len(sets["labels"]):
        raise ValueError(f"thresholds: found {len(sets['thresholds'])}, expected one for each of the labels")


def _range_agrees(vectors: Any) -> None:
    if vectors["contrastive"] == "cosine" and not vectors.get("low", 0.0) < vectors.get("high", 0.0):
        raise ValueError("low and high: expected two numbers, the first below the second")


def _checked(schema: Any, *checks: Callable[[Any], None]) -> Any:
    def check(value: Any) -> Any:
        for one in checks:
            one(value)
        return value

    return Annotated[schema, AfterValidator(check)]


_CLASSES, _TAGS = _checked(Classes, _classes_agree), _checked(Tags, _tags_agree)
LABELS: Mapping[str, Any] = {
    "answer": Threshold,
    "choose": Choices,
    "classify": _CLASSES,
    "embed": _checked(Vectors, _range_agrees),
    "extract": _TAGS,
    "fewshot": Centres,
    "generate": Responses,
    "joint": _checked(IntentsAndSlots, lambda found: _tags_agree(found["slots"])),
    "multilabel": _checked(LabelSets, _thresholds_agree),
    "ordinal": Ranks,
    "pretrain": Objective,
    "regress": Scale,
    "relate": _CLASSES,
    "tag": _TAGS,
}
"""What labels.json holds, by the task."""


class _Head(TypedDict):
    """Of a further head beside the task's own."""

    task: Literal["classify", "regress", "multilabel", "ordinal"]
    labels: dict[str, Any]


_HEADS = pydantic.TypeAdapter(dict[Annotated[str, StringConstraints(pattern=f"^{AUX_NAME}$")], _Head])


def _heads_agree(labels: Any) -> Any:
    for head in _HEADS.validate_python(labels.get("aux", {})).values():
        pydantic.TypeAdapter(LABELS[head["task"]]).validate_python(head["labels"])
    return labels


def labels_of(task: str) -> Any:
    """What labels.json of a run of this task holds, that of its further heads included."""
    return Annotated[LABELS[task], AfterValidator(_heads_agree)]
