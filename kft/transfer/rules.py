"""What happens to each variable in training, by path."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kft.models.roles import ROLES

if TYPE_CHECKING:
    from kft.models.anatomy import Block
    from kft.transfer.adapters import Adapter


@dataclass(frozen=True)
class Rule:
    """What happens to a variable in training.

    Attributes:
        rate: What multiplies the learning rate, and with it the weight decay.
        decay: Whether it decays.
        frozen: Whether it does not train.
        is_later: Whether its first gradient is zero, as what it is multiplied by begins at zero.
    """

    rate: float = 1.0
    decay: bool = True
    frozen: bool = False
    is_later: bool = False


Rules = Mapping[str, Rule]
"""Rules by the path of the variable, as the block has it that the variable belongs to."""


@dataclass(frozen=True)
class BlockPlan:
    """What of one block trains, and at which rates.

    Attributes:
        name: Of the block.
        layers: The names of its Keras layers.
        parameters: How many it has, without adapters.
        trained: How many of them train.
        rates: The lowest and the highest peak learning rate of all that trains.
        from_stage: The first of the stages in which they train, from 1.
        is_read: Whether the model's outputs depend on it.
        added: The adapters in it, in words; empty where it has none.
        added_parameters: How many parameters of theirs train.
        is_renewed: Whether it starts from new random weights.
    """

    name: str
    layers: tuple[str, ...]
    parameters: int
    trained: int
    rates: tuple[float, float]
    from_stage: int
    is_read: bool
    added: str = ""
    added_parameters: int = 0
    is_renewed: bool = False

    def text(self) -> str:
        """Layers, parameters and rates in one line.

        >>> BlockPlan("block_1", ("layer_0",), 1200, 1200, (3e-5, 3e-5), 1, True).text()
        'layer_0: 1,200 parameters, trained at 3e-05'
        >>> BlockPlan("pooler", ("dense",), 1200, 0, (0, 0), 1, False).text()
        'dense: 1,200 parameters, frozen: the task does not read them'
        >>> BlockPlan("block_1", ("layer_0",), 1200, 0, (1e-3, 1e-3), 2, True, "lora in query, value", 64).text()
        'layer_0: 1,200 parameters, frozen; lora in query, value: 64 parameters, trained at 0.001 from stage 2 on'
        """
        layers = ", ".join(self.layers[:2]) + (", …" if len(self.layers) > 2 else "")
        if not self.trained and not self.added:
            why = "" if self.is_read else ": the task does not read them"
            return f"{layers}: {self.parameters:,} parameters, frozen{why}"
        low, high = (f"{rate:.3g}" for rate in self.rates)
        begins = f" from stage {self.from_stage} on" if self.from_stage > 1 else ""
        rates = low if low == high else f"{low} to {high}"
        if self.added:
            of_own = f"{self.trained:,} of them trained" if self.trained else "frozen"
            added = f"{self.added}: {self.added_parameters:,} parameters, trained at {rates}{begins}"
            return f"{layers}: {self.parameters:,} parameters, {of_own}; {added}"
        share = "" if self.trained == self.parameters else f"{self.trained:,} of them "
        start = ", from new random weights" if self.is_renewed else ""
        return f"{layers}: {self.parameters:,} parameters, {share}trained at {rates}{begins}{start}"


DECAYING = ("kernel", "lora_a", "lora_b", "down_kernel", "up_kernel")


def plain(variable: Any) -> Rule:
    """The rule of a variable that trains at the learning rate; of all, only kernels and what is added to them decay."""
    return Rule(decay=variable.path.rsplit("/", 1)[-1] in DECAYING)


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


def described(adapters: Sequence[Adapter], block: str) -> str:
    """The adapters of one block in words, such as `lora in query, value`; empty where it has none."""
    own = [adapter for adapter in adapters if adapter.linear.block == block]
    roles = {role for adapter in own for role in adapter.linear.roles}
    kinds = dict.fromkeys(adapter.kind for adapter in own)
    return f"{' and '.join(kinds)} in {', '.join(role for role in ROLES if role in roles)}" if own else ""


def planned(
    blocks: Sequence[Block],
    stages: Sequence[Rules],
    peak: float,
    adapters: Sequence[Adapter] = (),
    renewed: Collection[str] = (),
) -> tuple[BlockPlan, ...]:
    """What of each block trains, by the rules of each stage, the peak learning rate and the names of renewed blocks."""
    of_adapters = {id(variable) for adapter in adapters for variable in adapter.variables}
    plans, rules = [], stages[-1]
    for block in blocks:
        # What a dropout remembers is whole numbers.
        sizes = {path: math.prod(v.shape) for path, v in block.variables.items() if "float" in v.dtype}
        trained = {path: rules[path] for path in sizes if path in rules and not rules[path].frozen}
        rates = [peak * rule.rate for rule in trained.values()] or [0.0]
        added = [path for path in sizes if id(block.variables[path]) in of_adapters]
        begins = next((n for n, of in enumerate(stages, 1) if any(not of[path].frozen for path in trained)), 1)
        plans.append(
            BlockPlan(
                block.name,
                tuple(layer.name for layer in block.layers if layer.weights),
                sum(size for path, size in sizes.items() if path not in added),
                sum(sizes[path] for path in trained if path not in added),
                (min(rates), max(rates)),
                begins,
                block.is_read,
                described(adapters, block.name),
                sum(sizes[path] for path in added if path in trained),
                block.name in renewed,
            )
        )
    return tuple(plans)
