"""Metrics of language models, from the losses of their tokens."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kft.evaluation.metric import Kind, Mean, Metric, RowScores, number

_MOST_NATS = 700.0


def of_loss(loss: float) -> float:
    """The exponential of a mean loss in nats; that of 700 where it is higher, as e to the power of more is no float.

    >>> of_loss(0.0)
    1.0
    """
    return math.exp(min(loss, _MOST_NATS))


def row_scores(
    loss: ArrayLike,
    weight: ArrayLike,
    *,
    tokens: ArrayLike | None = None,
    pair_right: ArrayLike | None = None,
    has_pair: ArrayLike | None = None,
) -> dict[str, np.ndarray]:
    """The losses of each row as float64 arrays.

    Args:
        loss: `(rows,)` the training loss of each row, a mean over its tokens.
        weight: `(rows,)` how many tokens that is a mean of.
        tokens: `(rows,)` the part of the loss that is of tokens; by default all of it.
        pair_right: `(rows,)` whether the order of a pair of sentences was told right, where there are pairs.
        has_pair: `(rows,)` whether there is a pair.
    """
    rows = {"loss": loss, "weight": weight, "tokens": loss if tokens is None else tokens}
    if pair_right is not None:
        rows |= {"pair_right": pair_right, "pair_weight": np.asarray(weight, np.float64) * np.asarray(has_pair)}
    return {name: np.asarray(values, np.float64) for name, values in rows.items()}


def _perplexity(rows: RowScores) -> float:
    return of_loss(Mean("tokens", "weight")(rows))


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    return f"Perplexity {number(values['perplexity'])} on the {rows}."


def _details(values: Mapping[str, Any]) -> list[str]:
    if "pair_accuracy" not in values:
        return []
    return [f"Pairs of sentences are told right in {values['pair_accuracy']:.1%}."]


LOSS = Metric("loss", "min", "mean training loss", False, Mean("loss", "weight"))
PERPLEXITY = Metric(
    "perplexity",
    "min",
    "exponential of the mean negative log-likelihood of a token; comparable for one tokenizer only",
    True,
    _perplexity,
)
PAIR_ACCURACY = Metric(
    "pair_accuracy",
    "max",
    "share of pairs of sentences that are told right",
    False,
    Mean("pair_right", "pair_weight"),
    is_share=True,
    applies=lambda rows: "pair_right" in rows,
)
METRICS = (LOSS, PERPLEXITY, PAIR_ACCURACY)
KIND = Kind("language model", METRICS, _sentence, _details)


def secondary() -> tuple[Metric, ...]:
    """Loss and perplexity of answers that are judged by something else."""
    return LOSS, dataclasses.replace(PERPLEXITY, headline=False)
