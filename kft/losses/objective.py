"""The objective of a fit: a sum of terms, each a loss over named outputs and named targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

Tensors = Mapping[str, Any]
"""Named tensors or arrays: the outputs of a network, or the targets of a batch."""

IS_REAL = "is_real"
"""Among the targets of terms that compare rows: `(rows,)` bool, false for rows that only fill the batch up."""
STREAM = "train"
"""The stream that epochs are counted by."""


def ones(targets: Tensors, store: Any) -> np.ndarray:
    """1 for each row of a store: `(rows,)` float32."""
    return np.ones(len(store), np.float32)


def nothing_in_closed_form(model: Any, outputs: Tensors, targets: Tensors) -> None:
    """All weights are trained by gradients."""


@dataclass(frozen=True)
class Term:
    """One part of an objective: a weight times a loss over the rows of one stream.

    Attributes:
        name: Of the term; in histories of several terms its loss is `loss_<name>`.
        loss: (outputs, targets) to the loss of each row, `(rows,)` float32, which is the mean over what the row counts.
        weight: A number, or a function of the number of updates made, a float32 scalar, to a scalar tensor.
        stream: Where its rows come from.
        count: (targets of all rows, token store) to how many tokens, or rows, the loss of each row is the mean of,
            `(rows,)`: what its rows weigh beside each other.
        row_weights: Likewise, to what each row weighs besides, as by its class: `(rows,)` float32.
        compares_rows: Whether the loss of a row depends on those beside it. Its targets then hold `IS_REAL`.
    """

    name: str
    loss: Callable[[Tensors, Tensors], Any]
    weight: float | Callable[[Any], Any] = 1.0
    stream: str = STREAM
    count: Callable[[Tensors, Any], np.ndarray] = ones
    row_weights: Callable[[Tensors, Any], np.ndarray] = ones
    compares_rows: bool = False

    def of_rows(self, outputs: Tensors, targets: Tensors, weights: Any) -> Any:
        """The loss of each row of a batch: `(rows,)` float32.

        Args:
            outputs: Of the network for the rows of the term's stream.
            targets: Likewise.
            weights: `(rows,)`; 0 for rows that only fill the batch up.
        """
        if self.compares_rows:
            targets = {**targets, IS_REAL: ops.cast(weights, "float32") > 0}
        return ops.cast(self.loss(outputs, targets), "float32")

    def of_batch(self, outputs: Tensors, targets: Tensors, weights: Any) -> Any:
        """The losses of a batch summed by the weights of its rows: a float32 scalar, before the term's own weight."""
        return ops.sum(self.of_rows(outputs, targets, weights) * ops.cast(weights, "float32"))

    def weight_at(self, num_updates: Any, before: int = 0) -> Any:
        """The term's weight after so many updates, and those of earlier stages before them."""
        return self.weight(ops.cast(num_updates, "float32") + before) if callable(self.weight) else self.weight


@dataclass(frozen=True)
class Objective:
    """What a fit minimises: the sum of its terms.

    Attributes:
        terms: Each with a name of its own.
        in_closed_form: (task model, outputs for the training rows, their targets) sets the weights that are computed
            rather than trained, before the model is validated and saved.
    """

    terms: tuple[Term, ...]
    in_closed_form: Callable[[Any, Tensors, Tensors], None] = nothing_in_closed_form

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        assert names and len(set(names)) == len(names), f"expected different names of terms, found {names}"

    @property
    def streams(self) -> list[str]:
        """The streams that its terms read, the one that epochs are counted by first."""
        return sorted({term.stream for term in self.terms}, key=lambda name: (name != STREAM, name))

    def of_stream(self, name: str) -> tuple[Term, ...]:
        """The terms over the rows of one stream."""
        return tuple(term for term in self.terms if term.stream == name)

    @property
    def compares_rows(self) -> bool:
        """Whether the loss of a row depends on the rows beside it."""
        return any(term.compares_rows for term in self.terms)
