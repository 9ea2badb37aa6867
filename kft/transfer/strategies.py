"""Transfer strategies: what of the pretrained network trains, and at which share of the learning rate.

One text says it, in Python, YAML and the shell alike: `full`, `last:2`, `layers:block_1*+layers:pooler`,
`lora:8+norms`, `last:4+layer_decay:0.9`. Strategies that choose what trains add up; those that change rates then apply
in their order. The head always trains: what it learns, nothing has learnt before. Adapters are put into layers whose
kernels do not train by themselves.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kft.errors import RecipeError, did_you_mean, quoted
from kft.transfer import choices
from kft.transfer.rules import Rule, plain

if TYPE_CHECKING:
    from kft.models.anatomy import Block
    from kft.transfer.adapters import Adapter

ALONE = ("full", "features")
"""Strategies that say all there is to say of what trains."""


@dataclass(frozen=True)
class Strategy:
    """One strategy: how it is written, and the one thing that it does.

    Attributes:
        written: As in `last:N`.
        read: From the text after the colon, empty where there is none, to the argument; ValueError if it is none.
        expected: What that text has to be.
        choose: From blocks and the argument to the paths of variables that train.
        change: From blocks, rules and the argument to other rules.
        insert: From linear layers, the argument, settings, a seed and the ids of variables that train to adapters.
        is_small: Whether what it trains is a small part of a model, and a run holds that part alone.
    """

    written: str
    read: Callable[[str], Any]
    expected: str
    choose: Callable[[Sequence[Block], Any], Collection[str]] | None = None
    change: Callable[[Sequence[Block], Mapping[str, Rule], Any], dict[str, Rule]] | None = None
    insert: Callable[..., list[Adapter]] | None = None
    is_small: bool = False


@dataclass(frozen=True)
class Transfer:
    """A model made ready for a transfer strategy.

    Attributes:
        blocks: Of the model, with its adapters.
        rules: By path.
        adapters: That were put into it.
        notes: What the user should know of them.
    """

    blocks: tuple[Block, ...]
    rules: Mapping[str, Rule]
    adapters: tuple[Adapter, ...]
    notes: tuple[str, ...] = ()

    def changed(self, model: Any) -> list[Any]:
        """The weights that are others than those of the pretrained model: head, adapters and all that trains."""
        own = {id(variable) for adapter in self.adapters for variable in adapter.variables}
        for block in self.blocks:
            chosen = [v for path, v in block.variables.items() if path in self.rules and not self.rules[path].frozen]
            own |= {id(variable) for variable in (block.variables.values() if block.role == "head" else chosen)}
        return list({id(weight): weight for weight in model.weights if id(weight) in own}.values())


def parse(text: str) -> tuple[tuple[str, Any], ...]:
    """Names and arguments of the strategies in a text.

    Raises:
        ValueError: Says what was expected.

    >>> parse("last:2+layer_decay:0.9")
    (('last', 2), ('layer_decay', 0.9))
    """
    found = []
    for part in text.split("+"):
        name, _, argument = part.strip().partition(":")
        if name not in STRATEGIES:
            forms = " or ".join(form.written for form in STRATEGIES.values())
            raise ValueError(f"expected {forms}; several with + between them.{did_you_mean(name, STRATEGIES)}")
        form = STRATEGIES[name]
        try:
            found.append((name, form.read(argument)))
        except ValueError:
            raise ValueError(f"expected {form.written}, with {form.expected}") from None
    names = [name for name, _ in found]
    choosing = [name for name in names if not STRATEGIES[name].change]
    inserting = [name for name in names if STRATEGIES[name].insert]
    if len(choosing) > 1 and set(choosing) & set(ALONE):
        alone = next(name for name in choosing if name in ALONE)
        raise ValueError(f"expected {alone} without {next(name for name in choosing if name != alone)}")
    if len(set(found)) < len(found) or any(names.count(name) > 1 for name in names if STRATEGIES[name].change):
        raise ValueError("expected each strategy once")
    if len(inserting) > 1:
        raise ValueError(f"expected one of {inserting[0]} and {inserting[1]}: a layer takes one adapter")
    if "features" in names and "layer_decay" in names:
        raise ValueError("expected one of the two: features trains no layer whose rate could decay")
    return tuple(found)


def is_small(transfer: str) -> bool:
    """Whether no more than a small part of a model is changed, beside the head.

    >>> is_small("lora:8+norms"), is_small("last:2"), is_small("lora:8+last:2"), is_small("layer_decay:0.9")
    (True, False, False, False)
    """
    choosing = [STRATEGIES[name] for name, _ in parse(transfer) if not STRATEGIES[name].change]
    return bool(choosing) and all(strategy.is_small for strategy in choosing)


def apply(
    model: Any, transfer: str, settings: Mapping[str, Any] | None = None, *, seed: int = 0, head_rate: float = 1.0
) -> Transfer:
    """Puts adapters into a model, and freezes what does not train.

    Args:
        model: A KerasHub task, as it was pretrained.
        transfer: One or more strategies.
        settings: The knobs of adapters, by their names in the Recipe.
        seed: Of what adapters begin with.
        head_rate: What multiplies the learning rate of the head.

    Raises:
        RecipeError: The model has not what a strategy names, or nothing would train.
    """
    from kft.models import anatomy, linear
    from kft.transfer.rules import freeze

    model.backbone.trainable = True  # a preset may have been saved frozen
    asked, adapters = parse(transfer), []
    blocks = anatomy.blocks(model)
    for name, argument in asked:
        insert = STRATEGIES[name].insert
        if insert is not None:
            read = [block for block in blocks if block.is_read]
            chosen = _chosen(asked, read)
            trained = {id(v) for block in read for path, v in block.variables.items() if path in chosen}
            adapters += insert(linear.layers_of(read), argument, settings or {}, seed, trained)
            blocks = anatomy.blocks(model)
    ruled = rules(transfer, blocks, head_rate, adapters, settings or {})
    freeze(blocks, ruled)
    return Transfer(blocks, ruled, tuple(adapters), _begun(model, adapters, (settings or {}).get("lora_start")))


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
    strategies = [(STRATEGIES[name], argument) for name, argument in asked if not STRATEGIES[name].change]
    if not strategies:
        return set(choices.everything(read, None))
    return {path for strategy, argument in strategies if strategy.choose for path in strategy.choose(read, argument)}


# -- how it is written -----------------------------------------------------------------------------------------------


def _none(text: str) -> None:
    if text:
        raise ValueError


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 10_000):
        raise ValueError
    return int(text)


def _share(text: str) -> float:
    if not 0 < float(text) <= 1:
        raise ValueError
    return float(text)


def _pattern(text: str) -> str:
    if not text:
        raise ValueError
    return text


LORA_VARIANTS = ("rslora", "dora", "pissa")


def lora_variants(text: str | Sequence[str]) -> str:
    """Variants of LoRA as a recipe holds them.

    Raises:
        ValueError: One is unknown.

    >>> lora_variants("plain"), lora_variants(["dora", "rslora"])
    ('plain', 'dora+rslora')
    """
    names = [name.strip() for name in (text.split("+") if isinstance(text, str) else text)]
    if names == ["plain"]:
        return "plain"
    if not names or any(name not in LORA_VARIANTS for name in names):
        known = ", ".join(LORA_VARIANTS)
        raise ValueError(f"expected plain, or some of {known} with + between them, as in dora+rslora")
    return "+".join(dict.fromkeys(names))


_Insert = Callable[..., "list[Adapter]"]


def _by(module: str) -> _Insert:
    """`insert` of a module of this room, which is imported with Keras, when it is called."""

    def insert(*arguments: Any) -> list[Adapter]:
        made: list[Adapter] = importlib.import_module(f"kft.transfer.{module}").insert(*arguments)
        return made

    return insert


_NOTHING, _COUNT = "nothing after it", "a number of blocks, as in last:2"
STRATEGIES: dict[str, Strategy] = {
    "full": Strategy("full", _none, _NOTHING, choose=choices.everything),
    "features": Strategy("features", _none, _NOTHING, choose=choices.nothing),
    "last": Strategy("last:N", _count, _COUNT, choose=choices.last),
    "first": Strategy("first:N", _count, "a number of blocks, as in first:2", choose=choices.first),
    "layers": Strategy(
        "layers:PATTERN", _pattern, "names of blocks or variables, as in layers:block_1*", choose=choices.matching
    ),
    "bitfit": Strategy("bitfit", _none, _NOTHING, choose=choices.biases, is_small=True),
    "norms": Strategy("norms", _none, _NOTHING, choose=choices.norms, is_small=True),
    "lora": Strategy("lora:RANK", _count, "a rank, as in lora:8", insert=_by("lora"), is_small=True),
    "ia3": Strategy("ia3", _none, _NOTHING, insert=_by("ia3"), is_small=True),
    "adapters": Strategy(
        "adapters:WIDTH", _count, "a width, as in adapters:16", insert=_by("bottleneck"), is_small=True
    ),
    "layer_decay": Strategy(
        "layer_decay:RATE", _share, "a number above 0, at most 1, as in layer_decay:0.9", change=choices.layer_decay
    ),
}
"""All strategies."""
