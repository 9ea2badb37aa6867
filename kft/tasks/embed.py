"""Sentence embeddings: a vector for each text, near to those of the texts that belong to it.

Rows are pairs of texts that belong together, with a third one that does not if there is, or pairs with a number that
says how much. What is learnt is a model of one text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kft.data import task_columns
from kft.data.faults import BadRows
from kft.data.hashes import normalised, row_hashes
from kft.data.store import Store
from kft.data.table import Table
from kft.errors import DataError, RecipeError
from kft.evaluation import metrics, retrieval, shown
from kft.losses import contrastive
from kft.models import encoders
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.task import Task, Vocabulary
from kft.text import decode, tokens

TEXTS = ("text", "text_pair", "negative")


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
    """The loss and the pooling, how many texts a row has, and the range of train's numbers."""
    refuse_frozen(recipe, "embed")
    train = parts["train"]
    loss = _loss_of(train, recipe)
    learnt: Vocabulary = {"contrastive": loss, "pooling": recipe.pooling, "num_texts": len(_texts(train))}
    if loss == "cosine":
        return {**learnt, **_range(train)}
    pairs = row_hashes(train, ["text_pair"], normalised)
    if (pairs == pairs[0]).all():
        raise DataError(f"{train.source}: all {len(pairs):,} rows have the same text_pair; expected different ones.")
    return learnt


def refuse_frozen(recipe: Recipe, task_name: str) -> None:
    """Refuses a frozen backbone where nothing else trains.

    Raises:
        RecipeError: Says so.
    """
    if recipe.transfer == "features":
        raise RecipeError(f"transfer=features leaves nothing to train for task {task_name}. Use transfer=full.")


def _texts(table: Table) -> list[str]:
    return [name for name in TEXTS if name in table.names()]


def _loss_of(train: Table, recipe: Recipe) -> str:
    """The loss that was asked for, or that the columns ask for."""
    has_number, has_negative = ("label" in train.names(), "negative" in train.names())
    asked = recipe.contrastive
    if asked == "triplet" and not has_negative:
        raise RecipeError("contrastive=triplet needs a text that does not belong in each row. Say which: --negative.")
    if asked == "cosine" and not has_number:
        raise RecipeError("contrastive=cosine needs a number for each pair. Say which: --label COLUMN.")
    if has_negative and (asked == "cosine" or (asked == "auto" and has_number)):
        raise RecipeError(
            f"{train.source}: the rows have a number and a negative; expected one of them. Remove a column, or ask for "
            "contrastive=multiple_negatives or triplet."
        )
    return ("cosine" if has_number else "multiple_negatives") if asked == "auto" else asked


def _range(train: Table) -> dict[str, float]:
    """The numbers that cosines 0 and 1 stand for: these where all lie between, else the least and the most of train."""
    numbers = train.rows["label"].to_numpy()
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        raise DataError(f"{train.source}: all {len(numbers):,} numbers are {low:g}; expected different ones.")
    return {"low": 0.0, "high": 1.0} if low >= 0 and high <= 1 else {"low": low, "high": high}


def check(table: Table) -> None:
    """Refuses a negative that is the text's own pair."""
    if "negative" not in table.names():
        return
    pairs, negatives = (row_hashes(table, [name], normalised) for name in ("text_pair", "negative"))
    same = np.flatnonzero(pairs == negatives)
    if len(same):
        text = table.rows["negative"][int(same[0])].as_py()
        raise BadRows(
            f"{table.where(same[0])}: the negative {text!r} is the text_pair too ({len(same):,} of {len(table):,} rows "
            "like this); expected a text that does not belong.",
            same,
            " Remove such rows.",
        )


def targets(table: Table, vocabulary: Vocabulary, store: Store | None = None) -> np.ndarray:
    """Whole numbers that are the same where texts are, `(rows, texts)` int32; of scored pairs the `(rows,)` numbers."""
    if vocabulary["contrastive"] == "cosine":
        return table.rows["label"].to_numpy().astype(np.float32)
    hashes = np.stack([row_hashes(table, [name], normalised) for name in _texts(table)], axis=1)
    _, ids = np.unique(hashes, return_inverse=True)
    return ids.reshape(hashes.shape).astype(np.int32)


def features(preprocessor: Any, texts: Sequence[Any]) -> dict[str, Any]:
    """Token features of each text by itself, those of the second and third with a prefix. Graph code."""
    found: dict[str, Any] = {}
    for prefix, text in zip(encoders.PREFIXES, texts, strict=False):
        found |= {prefix + name: value for name, value in tokens.encode(preprocessor, (text,)).items()}
    return found


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """A model of one text."""
    return encoders.sentence_encoder(preset, vocabulary["pooling"], **settings)


def loss(recipe: Recipe, vocabulary: Vocabulary) -> Any:
    """The loss that the rows or the recipe ask for."""
    if vocabulary["contrastive"] == "cosine":
        return contrastive.CosineLoss(vocabulary["low"], vocabulary["high"])
    if vocabulary["contrastive"] == "triplet":
        return contrastive.TripletLoss()
    return contrastive.ranking_loss(vocabulary["num_texts"])


def answers(outputs: Any, vocabulary: Vocabulary, extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """`embedding` of each text; of rows with several texts those of the others besides."""
    return decode.vectors(outputs, ("embedding", *TEXTS[1:])[: len(texts)])


def score(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> dict[str, Any]:
    """How well texts find their pairs; of scored pairs how close cosines come to the numbers."""
    if vocabulary["contrastive"] == "cosine":
        return metrics.regression(_similarities(found, vocabulary), targets(table, vocabulary))
    return retrieval.scored(_ranks(found, table)[0])


def _similarities(found: Mapping[str, np.ndarray], vocabulary: Vocabulary) -> np.ndarray:
    """The cosines of the pairs, in the unit of the training numbers: `(rows,)`."""
    cosines = np.einsum("rw,rw->r", found["embedding"], found["text_pair"])
    return vocabulary["low"] + cosines * (vocabulary["high"] - vocabulary["low"])


def _ranks(found: Mapping[str, np.ndarray], table: Table) -> tuple[np.ndarray, np.ndarray]:
    return retrieval.ranks(found["embedding"], found["text_pair"], table.texts("text"), table.texts("text_pair"))


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those of the right answers."""
    is_scored = vocabulary["contrastive"] == "cosine"
    return list(metrics.scalars(metrics.regression([0.0, 1.0], [0.0, 1.0]) if is_scored else retrieval.scored([1])))


def worst(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> tuple[list[Any], list[Any]]:
    """The pairs that were found last, or whose cosine is furthest from their number."""
    if vocabulary["contrastive"] == "cosine":
        return shown.regressed(_similarities(found, vocabulary), table, targets(table, vocabulary))
    return shown.retrieved(*_ranks(found, table), table)


EMBED = Task(
    name="embed",
    columns=task_columns.COLUMNS["embed"],
    check=check,
    vocabulary=vocabulary,
    targets=targets,
    features=features,
    head=head,
    loss=loss,
    answers=answers,
    score=score,
    metrics=metric_names,
    shown=worst,
    best_by=("spearman", "mrr"),
    network=encoders.side_by_side,
    reads=("text",),
)
