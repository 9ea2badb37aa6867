"""Blocks of a pretrained model that start from new random weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kft.errors import RecipeError
from kft.models import seeding

if TYPE_CHECKING:
    from kft.models.anatomy import Block

SEED = 2**31
"""What is added to a fit's seed, which its head is drawn by."""


def renew(model: Any, blocks: Iterable[Block], seed: int) -> None:
    """Gives blocks the random weights that a model of this family begins with.

    They are those of a second backbone of the same configuration, which is made for this and let go.

    Args:
        model: A KerasHub task, without adapters.
        blocks: Of its backbone.
        seed: Of the weights.

    Raises:
        RecipeError: The configuration does not give the variables that the backbone has.
    """
    backbone = model.backbone
    with seeding.seeded(SEED + seed):
        fresh = type(backbone).from_config(backbone.get_config())
    own, others = backbone.variables, fresh.variables
    if [variable.shape for variable in own] != [variable.shape for variable in others]:
        raise RecipeError(
            f"transfer: reinit_top cannot be used with this preset: a {type(backbone).__name__} that is made from its "
            "configuration has other variables than it."
        )
    chosen = {id(v) for block in blocks for v in block.variables.values() if v.trainable}
    for variable, other in zip(own, others, strict=True):
        if id(variable) in chosen:
            variable.assign(other)
