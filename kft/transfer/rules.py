"""What happens to each variable in training, by path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kft.models.anatomy import Block


@dataclass(frozen=True)
class Rule:
    """What happens to a variable in training.

    Attributes:
        rate: What multiplies the learning rate, and with it the weight decay.
        decay: Whether it decays.
        from_step: Batches that pass before it trains; until then it stays as it is, its moments zero.
        frozen: Whether it never trains.
    """

    rate: float = 1.0
    decay: bool = True
    from_step: int = 0
    frozen: bool = False


Rules = Mapping[str, Rule]
"""Rules by the path of the variable, as the block has it that the variable belongs to."""


@dataclass(frozen=True)
class BlockPlan:
    """What of one block trains, and at which rates.

    Attributes:
        name: Of the block.
        layers: The names of its Keras layers.
        parameters: How many it has.
        trained: How many of them train.
        rates: The lowest and the highest peak learning rate of those.
        from_step: The first of the steps at which they begin to train.
        is_read: Whether the model's outputs depend on it.
    """

    name: str
    layers: tuple[str, ...]
    parameters: int
    trained: int
    rates: tuple[float, float]
    from_step: int
    is_read: bool

    def text(self) -> str:
        """Layers, parameters and rates in one line.

        >>> BlockPlan("block_1", ("layer_0",), 1200, 1200, (3e-5, 3e-5), 0, True).text()
        'layer_0: 1,200 parameters, trained at 3e-05'
        >>> BlockPlan("pooler", ("dense",), 1200, 0, (0, 0), 0, False).text()
        'dense: 1,200 parameters, frozen: the task does not read them'
        """
        layers = ", ".join(self.layers[:2]) + (", …" if len(self.layers) > 2 else "")
        if not self.trained:
            why = "" if self.is_read else ": the task does not read them"
            return f"{layers}: {self.parameters:,} parameters, frozen{why}"
        low, high = (f"{rate:.3g}" for rate in self.rates)
        share = "" if self.trained == self.parameters else f"{self.trained:,} of them "
        begins = f" from step {self.from_step:,} on" if self.from_step else ""
        rates = low if low == high else f"{low} to {high}"
        return f"{layers}: {self.parameters:,} parameters, {share}trained at {rates}{begins}"


def plain(variable: Any) -> Rule:
    """The rule of a variable that trains at the learning rate; of all, only kernels of dense layers decay."""
    return Rule(decay=variable.path.rsplit("/", 1)[-1] == "kernel")


def freeze(blocks: Sequence[Block], rules: Rules) -> None:
    """Lets the variables of these blocks train, or not, as the rules say."""
    for block in blocks:
        for path in rules.keys() & block.variables.keys():
            block.variables[path].trainable = not rules[path].frozen


def rule_of(blocks: Sequence[Block], rules: Rules, parts: Iterable[tuple[Any, Any]] = ()) -> Callable[[Any], Rule]:
    """The function from a variable to its rule.

    Args:
        blocks: That the variables belong to.
        rules: By path.
        parts: Further variables, each with the one of the blocks that it trains a part of.
    """
    known = {id(v): rules[path] for block in blocks for path, v in block.variables.items() if path in rules}
    known |= {id(part): known[id(whole)] for part, whole in parts}
    return lambda variable: known[id(variable)]


def planned(blocks: Sequence[Block], rules: Rules, peak: float) -> tuple[BlockPlan, ...]:
    """What of each block trains, by the rules and the peak learning rate."""
    plans = []
    for block in blocks:
        # What a dropout remembers is whole numbers.
        sizes = {path: math.prod(v.shape) for path, v in block.variables.items() if "float" in v.dtype}
        trained = {path: rules[path] for path in sizes if path in rules and not rules[path].frozen}
        rates = [peak * rule.rate for rule in trained.values()] or [0.0]
        begins = min((rule.from_step for rule in trained.values()), default=0)
        plans.append(
            BlockPlan(
                block.name,
                tuple(layer.name for layer in block.layers if layer.weights),
                sum(sizes.values()),
                sum(sizes[path] for path in trained),
                (min(rates), max(rates)),
                begins,
                block.is_read,
            )
        )
    return tuple(plans)
