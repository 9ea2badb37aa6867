"""Where in a fit its stages lie: their epochs, steps and updates."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kft.errors import RecipeError, quoted
from kft.recipe import Recipe
from kft.training.accumulation import Windows


@dataclass(frozen=True)
class Span:
    """The steps of one stage. A fit without stages has one.

    Attributes:
        number: Of the stage, from 0.
        count: Stages of the fit.
        epoch: Its first epoch, from 0.
        end: The first epoch after it.
        first_step: Batches that the fit trains on before it.
        windows: Which of its batches make up each update, counted from its first.
        first_update: Updates of the weights that are made before it.
    """

    number: int
    count: int
    epoch: int
    end: int
    first_step: int
    windows: Windows
    first_update: int

    @property
    def is_last(self) -> bool:
        """Whether no stage follows."""
        return self.number + 1 == self.count


def total_steps(recipe: Recipe, batches_per_epoch: int) -> int:
    """Batches of a whole fit."""
    return min(batches_per_epoch * recipe.epochs, recipe.max_steps or sys.maxsize)


def spans_of(
    recipe: Recipe, batches_per_epoch: int, begins: Sequence[int] = (0,), micro_batches: int = 1
) -> tuple[Span, ...]:
    """The stages of a fit, one after the other.

    Args:
        recipe: The knobs.
        batches_per_epoch: Batches in one pass over the rows.
        begins: The first epoch of each stage, from 0.
        micro_batches: Pieces that each batch is computed in.

    Raises:
        RecipeError: The fit ends before one of them begins.

    >>> spans = spans_of(Recipe(epochs=3, gradient_accumulation_steps=2), 5, [0, 1])
    >>> [(span.end, span.first_step, span.windows.total, span.first_update) for span in spans]
    [(1, 0, 5, 0), (3, 5, 10, 3)]
    """
    total, spans, updates = total_steps(recipe, batches_per_epoch), [], 0
    for number, epoch in enumerate(begins):
        end = begins[number + 1] if number + 1 < len(begins) else recipe.epochs
        first = epoch * batches_per_epoch
        if number and first >= total:
            raise RecipeError(
                f"transfer: stage {number + 1} of {quoted(recipe.transfer)} begins after {first:,} steps, and "
                f"max_steps ends the fit after {total:,}. Ask for max_steps={begins[-1] * batches_per_epoch + 1} or "
                "more, or for fewer stages."
            )
        steps = min(end * batches_per_epoch, total) - first
        windows = Windows(batches_per_epoch, steps, recipe.gradient_accumulation_steps, micro_batches)
        spans.append(Span(number, len(begins), epoch, end, first, windows, updates))
        updates += windows.num_updates
    return tuple(spans)
