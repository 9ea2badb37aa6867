"""A strategy applied to a model: what starts anew, which adapters are put in, and the rule of each variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kft.errors import RecipeError, quoted
from kft.transfer import choices, stages
from kft.transfer.rules import Rule, Rules, plain
from kft.transfer.stages import MANY, Stage
from kft.transfer.strategies import STRATEGIES, parse

if TYPE_CHECKING:
    from kft.models.anatomy import Block
    from kft.transfer.adapters import Adapter


@dataclass(frozen=True)
class Transfer:
    """A model made ready for a transfer strategy.

    Attributes:
        blocks: Of the model, with its adapters.
        stages: One after the other; a fit has one where all trains from its first epoch on.
        adapters: That were put into it.
        notes: What the user should know of them.
        renewed: The names of the blocks that start from new random weights.
    """

    blocks: tuple[Block, ...]
    stages: tuple[Stage, ...]
    adapters: tuple[Adapter, ...]
    notes: tuple[str, ...] = ()
    renewed: frozenset[str] = frozenset()

    @property
    def rules(self) -> Rules:
        """What happens to each variable in the last stage, by its path: all that ever trains does then."""
        return self.stages[-1].rules

    def changed(self, model: Any) -> list[Any]:
        """The weights that are others than those of the pretrained model: head, adapters and all that trains."""
        own = {id(variable) for adapter in self.adapters for variable in adapter.variables}
        for block in self.blocks:
            chosen = [v for path, v in block.variables.items() if path in self.rules and not self.rules[path].frozen]
            own |= {id(variable) for variable in (block.variables.values() if block.role == "head" else chosen)}
        return list({id(weight): weight for weight in model.weights if id(weight) in own}.values())


def apply(
    model: Any,
    transfer: str,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    head_rate: float = 1.0,
    lone_head_rate: float | None = None,
    epochs: int = MANY,
) -> Transfer:
    """Puts adapters into a model, and freezes what does not train in the first stage.

    Args:
        model: A KerasHub task, as it was pretrained.
        transfer: One or more strategies.
        settings: The knobs of adapters, by their names in the Recipe.
        seed: Of what adapters and renewed blocks begin with.
        head_rate: What multiplies the learning rate of the head.
        lone_head_rate: Likewise in a stage in which nothing else trains; None: the same.
        epochs: Of the fit.

    Raises:
        RecipeError: The model has not what a strategy names, nothing would train, or the stages do not fit the epochs.
    """
    from kft.models import anatomy, linear
    from kft.transfer import renewal
    from kft.transfer.rules import freeze

    model.backbone.trainable = True  # a preset may have been saved frozen
    asked, adapters = parse(transfer), []
    blocks = anatomy.blocks(model)
    renewed = _renewed(asked, [block for block in blocks if block.is_read])
    if renewed:
        renewal.renew(model, renewed, seed)
    for name, argument in asked:
        insert = STRATEGIES[name].insert
        if insert is not None:
            read = [block for block in blocks if block.is_read]
            chosen = _chosen(asked, read)
            trained = {id(v) for block in read for path, v in block.variables.items() if path in chosen}
            adapters += insert(linear.layers_of(read), argument, settings or {}, seed, trained)
            blocks = anatomy.blocks(model)
    ruled = rules(transfer, blocks, head_rate, adapters, settings or {})
    made, told = staged(transfer, blocks, ruled, epochs, head_rate if lone_head_rate is None else lone_head_rate)
    freeze(blocks, made[0].rules)
    names = [block.name for block in renewed]
    notes = [f"{', '.join(names)}: start from new random weights, drawn by seed {seed}"] if names else []
    notes += told
    notes += _begun(model, adapters, (settings or {}).get("lora_start"))
    return Transfer(blocks, made, tuple(adapters), tuple(notes), frozenset(names))


def staged(
    transfer: str, blocks: Sequence[Block], ruled: Rules, epochs: int = MANY, lone_head_rate: float = 1.0
) -> tuple[tuple[Stage, ...], Sequence[str]]:
    """The stages in which the variables of a model train, and what the user should know of them.

    Args:
        transfer: One or more strategies.
        blocks: Of the model.
        ruled: The rules of the last stage.
        epochs: Of the fit.
        lone_head_rate: What multiplies the learning rate of the head where nothing else trains beside it.

    Raises:
        RecipeError: They do not fit into the epochs, or one would train nothing.
    """
    asked = [(STRATEGIES[name].stage, argument) for name, argument in parse(transfer)]
    order, argument = next(((order, argument) for order, argument in asked if order), (None, None))
    if order is None:
        return (Stage(0, ruled),), ()
    trained = [path for path, rule in ruled.items() if not rule.frozen]
    heads = stages.heads_of(blocks, trained)
    made, found = [], order([block for block in blocks if block.is_read], trained, argument, epochs)
    for start in found.starts:
        rules = {path: rule if path in start.paths else replace(rule, frozen=True) for path, rule in ruled.items()}
        if start.paths == heads:
            rules |= {path: replace(rules[path], rate=lone_head_rate) for path in heads}
        made.append(Stage(start.epoch, rules))
    return tuple(made), found.notes


def _renewed(asked: Sequence[tuple[str, Any]], read: Sequence[Block]) -> list[Block]:
    """The blocks that start from new random weights.

    Raises:
        RecipeError: One of them would not train.
    """
    chosen = _chosen(asked, read)
    for name, argument in asked:
        renew = STRATEGIES[name].renew
        if renew is None:
            continue
        found = list(renew(read, argument))
        if frozen := [block.name for block in found if not chosen.issuperset(choices.paths_of([block]))]:
            raise RecipeError(
                f"transfer: {name}:{argument} gives {', '.join(frozen)} new random weights, which have to train, and "
                f"the other strategies leave them frozen. Ask for full or last:{argument} beside it."
            )
        return found
    return []


def _begun(model: Any, adapters: Sequence[Adapter], start: str | None) -> tuple[str, ...]:
    """Lets LoRA begin with the matrices of a folder of PEFT's, where there is one, and says what was not read."""
    if not start:
        return ()
    from kft.transfer import peft

    unread = peft.read(Path(start), model, adapters)
    return (f"lora_start: not read: {', '.join(unread)}. The head is trained anew.",) if unread else ()


def rules(
    transfer: str,
    blocks: Sequence[Block],
    head_rate: float = 1.0,
    adapters: Sequence[Adapter] = (),
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Rule]:
    """The rule of each variable that can train, by its path.

    What the model's outputs do not depend on is frozen, whatever the strategy.

    Args:
        transfer: One or more strategies.
        blocks: Of the model, with nothing frozen yet.
        head_rate: What multiplies the learning rate of the head.
        adapters: That were put into the model.
        settings: The knobs of adapters, by their names in the Recipe.

    Raises:
        RecipeError: The model has not what a strategy names, or nothing would train.
    """
    asked = parse(transfer)
    read = [block for block in blocks if block.is_read]
    parts = {id(variable): adapter for adapter in adapters for variable in adapter.variables}
    of_parts = {p: v for block in read for p, v in block.variables.items() if id(v) in parts and v.trainable}
    chosen = {*_chosen(asked, read), *of_parts, *choices.paths_of(block for block in read if block.role == "head")}
    variables = {path: v for block in blocks for path, v in block.variables.items() if v.trainable}
    made = {path: replace(plain(v), frozen=path not in chosen) for path, v in variables.items()}
    for path in choices.paths_of(block for block in read if block.role == "head"):
        made[path] = replace(made[path], rate=head_rate)
    for path, variable in of_parts.items():
        part = parts[id(variable)].part
        rate = float((settings or {}).get("lora_plus_ratio", 1.0)) if variable.name == part.faster else 1.0
        made[path] = replace(made[path], rate=rate, is_later=variable.name in part.later)
    for name, argument in asked:
        if change := STRATEGIES[name].change:
            made = change(read, made, argument)
    if all(rule.frozen for rule in made.values()):
        raise RecipeError(f"transfer: {quoted(transfer)} leaves nothing to train: this model has no head of its own.")
    return made


def _chosen(asked: Sequence[tuple[str, Any]], read: Sequence[Block]) -> set[str]:
    """The paths of the pretrained variables that train, without those of the head; all where no strategy chooses."""
    strategies = [(STRATEGIES[name], argument) for name, argument in asked if STRATEGIES[name].chooses]
    if not strategies:
        return set(choices.everything(read, None))
    return {path for strategy, argument in strategies if strategy.choose for path in strategy.choose(read, argument)}
