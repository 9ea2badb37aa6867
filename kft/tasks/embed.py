"""Sentence embeddings: a vector for each text, near to those of the texts that belong to it.

Rows are pairs of texts that belong together, with a third one that does not if there is, or pairs with a number that
says how much. What is learnt is a model of one text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kft.data import task_columns
from kft.data.faults import BadRows
from kft.data.hashes import normalised, row_hashes
from kft.data.store import Store
from kft.data.table import Table
from kft.errors import DataError, RecipeError
from kft.evaluation import metric, regression, retrieval, worst_rows
from kft.losses import contrastive
from kft.losses.objective import IS_REAL, Objective, Term
from kft.models import encoders
from kft.recipe import Recipe
from kft.tasks.task import Answers, Build, Evaluator, Examples, Forward, Labels, Problem, Schema, Targets, Task, View
from kft.text import decode, tokens

TEXTS = ("text", "text_pair", "negative")


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """The loss and the pooling, how many texts a row has, and the range of train's numbers."""
    refuse_frozen(recipe, "embed")
    train = parts["train"]
    loss = _loss_of(train, recipe)
    learnt: Labels = {"contrastive": loss, "pooling": recipe.pooling, "num_texts": len(_texts(train))}
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


def targets(contrastive_loss: str, table: Table, store: Store) -> Targets:
    """The `ids` of texts, the same where they are, `(rows, texts)` int32; of scored pairs the `number` `(rows,)`."""
    if contrastive_loss == "cosine":
        return {"number": _numbers(table)}
    hashes = np.stack([row_hashes(table, [name], normalised) for name in _texts(table)], axis=1)
    _, ids = np.unique(hashes, return_inverse=True)
    return {"ids": ids.reshape(hashes.shape).astype(np.int32)}


def _numbers(table: Table) -> np.ndarray:
    return table.rows["label"].to_numpy().astype(np.float32)


def features(preprocessor: Any, texts: Sequence[Any]) -> dict[str, Any]:
    """Token features of each text by itself, those of the second and third with a prefix. Graph code."""
    found: dict[str, Any] = {}
    for prefix, text in zip(encoders.PREFIXES, texts, strict=False):
        found |= {prefix + name: value for name, value in tokens.encode(preprocessor, (text,)).items()}
    return found


def term_of(labels: Labels) -> Term:
    """The loss that the rows or the recipe ask for."""
    names = encoders.OUTPUTS[: labels["num_texts"]]

    def vectors(outputs: Any) -> list[Any]:
        return [outputs[name] for name in names]

    def cosine(outputs: Any, targets: Any) -> Any:
        return contrastive.cosine_error(vectors(outputs), targets["number"], labels["low"], labels["high"])

    def triplet(outputs: Any, targets: Any) -> Any:
        return contrastive.triplet(vectors(outputs))

    def ranking(outputs: Any, targets: Any) -> Any:
        return contrastive.ranking(vectors(outputs), targets["ids"], targets[IS_REAL])

    terms = {
        "cosine": Term("cosine", cosine),
        "triplet": Term("triplet", triplet),
        "multiple_negatives": Term("ranking", ranking, compares_rows=True),
    }
    return terms[labels["contrastive"]]


def evaluator_of(labels: Labels) -> Evaluator:
    """How well texts find their pairs; of scored pairs how close cosines come to the numbers."""
    if labels["contrastive"] != "cosine":

        def found(answers: Answers, table: Table) -> dict[str, Any]:
            return retrieval.scored(_ranks(answers, table)[0])

        def last_found(answers: Answers, table: Table) -> View:
            return worst_rows.retrieved(*_ranks(answers, table), table)

        return Evaluator(list(metric.scalars(retrieval.scored([1]))), ("mrr",), of_answers=found, view=last_found)

    def similarities(answers: Answers) -> np.ndarray:
        """The cosines of the pairs, in the unit of the training numbers: `(rows,)`."""
        cosines = np.einsum("rw,rw->r", answers["embedding"], answers["text_pair"])
        return labels["low"] + cosines * (labels["high"] - labels["low"])

    def scored(answers: Answers, table: Table) -> dict[str, Any]:
        return regression.scored(similarities(answers), _numbers(table))

    def furthest(answers: Answers, table: Table) -> View:
        return worst_rows.regressed(similarities(answers), table, _numbers(table))

    single = list(metric.scalars(regression.scored([0.0, 1.0], [0.0, 1.0])))
    return Evaluator(single, ("spearman",), of_answers=scored, view=furthest)


def _ranks(answers: Answers, table: Table) -> tuple[np.ndarray, np.ndarray]:
    return retrieval.ranks(answers["embedding"], answers["text_pair"], table.texts("text"), table.texts("text_pair"))


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of bringing texts that belong together near to each other."""
    return Problem(
        labels,
        SCHEMA,
        Examples(features, partial(targets, labels["contrastive"])),
        Build(partial(encoders.sentence_encoder, pooling=labels["pooling"]), encoders.side_by_side),
        Objective((term_of(labels),)),
        # `embedding` of each text; of rows with several texts those of the others besides.
        Forward(lambda outputs, extras, texts: decode.vectors(outputs, encoders.OUTPUTS[: len(texts)])),
        evaluator_of(labels),
    )


SCHEMA = Schema(task_columns.COLUMNS["embed"], check=check, answered=("text",))
EMBED = Task("embed", SCHEMA, learn, restore)
