"""Stages of a fit: which of the variables that train do so from which epoch on.

What trains in one stage trains in all after it. So what is frozen is as it was pretrained, and what the frozen layers
give can be kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kft.errors import RecipeError
from kft.transfer.rules import Rules

if TYPE_CHECKING:
    from kft.models.anatomy import Block

MANY = 10_000
"""More epochs than any strategy has stages: what it would do if the fit were long enough."""


@dataclass(frozen=True)
class Stage:
    """Epochs in which the same variables train.

    Attributes:
        epoch: The first of them, from 0.
        rules: What happens to each variable, by its path.
    """

    epoch: int
    rules: Rules


@dataclass(frozen=True)
class Start:
    """Where a stage begins and what trains in it.

    Attributes:
        epoch: Its first epoch, from 0.
        paths: Of the variables that train.
    """

    epoch: int
    paths: frozenset[str]


def heads_of(blocks: Sequence[Block], trained: Collection[str]) -> frozenset[str]:
    """Those of the paths that are of heads."""
    return frozenset(path for block in blocks if block.role == "head" for path in block.variables if path in trained)


def head_then_full(blocks: Sequence[Block], trained: Collection[str], num_epochs: int, epochs: int) -> list[Start]:
    """First the head alone, for some epochs, then all.

    Args:
        blocks: Of the model.
        trained: The paths of all that is to train.
        num_epochs: Of the head alone.
        epochs: Of the fit.

    Reference:
        LP-FT: Kumar et al., 2022, https://arxiv.org/abs/2202.10054

    Raises:
        RecipeError: The fit has no further epoch, or the model no head.
    """
    heads = heads_of(blocks, trained)
    if not heads:
        raise RecipeError("transfer: head_then_full: this model has no head that could be trained first. Use full.")
    if num_epochs >= epochs:
        raise RecipeError(
            f"transfer: head_then_full:{num_epochs} trains the head alone for {_epochs(num_epochs)}, and the fit has "
            f"{epochs}. Ask for epochs={num_epochs + 1} or more."
        )
    if heads == frozenset(trained):
        raise RecipeError("transfer: head_then_full leaves nothing to train after the head. Use features.")
    return [Start(0, heads), Start(num_epochs, frozenset(trained))]


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count > 1 else ''}"
