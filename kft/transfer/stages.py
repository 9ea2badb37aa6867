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


@dataclass(frozen=True)
class Order:
    """The stages of a fit, and what the user should know of them.

    Attributes:
        starts: One after the other.
        notes: Each a sentence.
    """

    starts: Sequence[Start]
    notes: Sequence[str] = ()


def heads_of(blocks: Sequence[Block], trained: Collection[str]) -> frozenset[str]:
    """Those of the paths that are of heads."""
    return frozenset(path for block in blocks if block.role == "head" for path in block.variables if path in trained)


def head_then_full(blocks: Sequence[Block], trained: Collection[str], num_epochs: int, epochs: int) -> Order:
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
    return Order([Start(0, heads), Start(num_epochs, frozenset(trained))])


def gradual(blocks: Sequence[Block], trained: Collection[str], schedule: Sequence[int] | None, epochs: int) -> Order:
    """First the head alone, then with it more and more blocks from the top, and in the end all.

    What stands above a block, such as its norm or a pooler, begins with it; the embeddings begin with the lowest block.

    Args:
        blocks: Of the model.
        trained: The paths of all that is to train.
        schedule: How many blocks train in each epoch, the last number in all that follow; None: one more in each, or
            as many more as it takes to come to the last before the fit ends.
        epochs: Of the fit.

    Reference:
        ULMFiT: Howard and Ruder, 2018, sec. 3.3, https://arxiv.org/abs/1801.06146

    Raises:
        RecipeError: The fit has too few epochs or the model too few blocks, or the head is to train alone and is none.
    """
    places = [
        place
        for place, block in enumerate(blocks)
        if block.role == "block" and not block.variables.keys().isdisjoint(trained)
    ]
    heads, notes = heads_of(blocks, trained), []
    if not places:
        raise RecipeError("transfer: gradual has no block to begin with: what trains is in none. Leave it out.")
    if schedule is None:
        first = 0 if heads else 1
        wanted = len(places) + 1 - first
        schedule = _spread(first, len(places), min(wanted, epochs))
        if len(schedule) < wanted:
            notes.append(
                f"gradual: {wanted} stages of an epoch each do not fit into {_epochs(epochs)}, so it has "
                f"{len(schedule)}, in which the last {', '.join(map(str, schedule))} blocks train"
            )
    written = f"gradual:{'-'.join(map(str, schedule))}"
    if len(schedule) > epochs:
        raise RecipeError(f"transfer: {written} is for {_epochs(len(schedule))} or more, and the fit has {epochs}.")
    if schedule[-1] > len(places):
        raise RecipeError(f"transfer: found {written}, expected at most {len(places)}, as so many blocks are to train.")
    starts: list[Start] = []
    for epoch, count in enumerate(schedule):
        above = {path for block in blocks[places[-count] if count else len(blocks) :] for path in block.variables}
        paths = frozenset(trained) if count == len(places) else heads | (above & frozenset(trained))
        if not paths:
            raise RecipeError(
                f"transfer: {written}: this model has no head that could train alone. Begin with 1 block."
            )
        if not starts or starts[-1].paths != paths:
            starts.append(Start(epoch, paths))
    if len(starts) < 2:
        raise RecipeError(
            f"transfer: {written} trains the same in all of the fit's {_epochs(epochs)}. Ask for more epochs, or use "
            "full or last:N."
        )
    return Order(starts, notes)


def _spread(first: int, last: int, count: int) -> list[int]:
    """So many whole numbers from the first to the last, at distances as equal as can be; the last alone for one.

    >>> _spread(0, 6, 7), _spread(0, 6, 3), _spread(1, 12, 4), _spread(0, 6, 1)
    ([0, 1, 2, 3, 4, 5, 6], [0, 3, 6], [1, 5, 8, 12], [6])
    """
    return [first + round((last - first) * number / (count - 1)) for number in range(count)] if count > 1 else [last]


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count > 1 else ''}"
