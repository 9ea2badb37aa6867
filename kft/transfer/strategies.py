"""Transfer strategies: what of the pretrained network trains, and at which share of the learning rate.

One text says it, in Python, YAML and the shell alike: `full`, `last:2`, `layers:block_1*+layers:pooler`,
`lora:8+norms`, `last:4+layer_decay:0.9`. Strategies that choose what trains add up, and where none does all trains;
those that change rates then apply in their order. The head always trains: what it learns, nothing has learnt before.
Adapters are put into layers whose kernels do not train by themselves.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kft.errors import did_you_mean
from kft.transfer import arguments, choices, stages
from kft.transfer.rules import Rule
from kft.transfer.stages import Order

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
        stage: From blocks, the paths that train, the argument and the epochs of the fit to the stages in which they do.
        renew: From blocks and the argument to the blocks that start from new random weights. They must train.
        is_small: Whether what it trains is a small part of a model, and a run holds that part alone.
    """

    written: str
    read: Callable[[str], Any]
    expected: str
    choose: Callable[[Sequence[Block], Any], Collection[str]] | None = None
    change: Callable[[Sequence[Block], Mapping[str, Rule], Any], dict[str, Rule]] | None = None
    insert: Callable[..., list[Adapter]] | None = None
    renew: Callable[[Sequence[Block], Any], Collection[Block]] | None = None
    stage: Callable[[Sequence[Block], Collection[str], Any, int], Order] | None = None
    is_small: bool = False

    @property
    def chooses(self) -> bool:
        """Whether it says what trains."""
        return bool(self.choose or self.insert)


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
    choosing = [name for name in names if STRATEGIES[name].chooses]
    inserting = [name for name in names if STRATEGIES[name].insert]
    if len(choosing) > 1 and set(choosing) & set(ALONE):
        alone = next(name for name in choosing if name in ALONE)
        raise ValueError(f"expected {alone} without {next(name for name in choosing if name != alone)}")
    if len(set(found)) < len(found) or any(names.count(name) > 1 for name in names if not STRATEGIES[name].chooses):
        raise ValueError("expected each strategy once")
    staged = [name for name in names if STRATEGIES[name].stage or STRATEGIES[name].renew]
    if len(staged) > 1:
        is_new = "what has new random weights has to train from the first epoch on"
        why = is_new if any(STRATEGIES[name].renew for name in staged) else "a fit has one order of stages"
        raise ValueError(f"expected one of {staged[0]} and {staged[1]}: {why}")
    if len(inserting) > 1:
        raise ValueError(f"expected one of {inserting[0]} and {inserting[1]}: a layer takes one adapter")
    if "features" in names and len(names) > 1:
        other = next(name for name in names if name != "features")
        raise ValueError(f"expected one of the two: features trains no layer, so {other} would have no effect")
    return tuple(found)


def is_small(transfer: str) -> bool:
    """Whether no more than a small part of a model is changed, beside the head.

    >>> is_small("lora:8+norms"), is_small("last:2"), is_small("lora:8+last:2"), is_small("layer_decay:0.9")
    (True, False, False, False)
    """
    choosing = [STRATEGIES[name] for name, _ in parse(transfer) if STRATEGIES[name].chooses]
    return bool(choosing) and all(strategy.is_small for strategy in choosing)


def needs_pretrained(transfer: str) -> str | None:
    """What a strategy does that has no meaning for a model with random weights, in words; None where it has.

    >>> needs_pretrained("lora:8"), needs_pretrained("last:2+reinit_top:1"), needs_pretrained("last:2")
    ('trains a small part', 'begins the top anew', None)
    """
    if is_small(transfer):
        return "trains a small part"
    return "begins the top anew" if any(STRATEGIES[name].renew for name, _ in parse(transfer)) else None


# -- the table ---------------------------------------------------------------------------------------------------------


_Insert = Callable[..., "list[Adapter]"]


def _by(module: str) -> _Insert:
    """`insert` of a module of this room, which is imported with Keras, when it is called."""

    def insert(*arguments: Any) -> list[Adapter]:
        made: list[Adapter] = importlib.import_module(f"kft.transfer.{module}").insert(*arguments)
        return made

    return insert


_NOTHING, _COUNT = "nothing after it", "a number of blocks, as in last:2"
STRATEGIES: dict[str, Strategy] = {
    "full": Strategy("full", arguments.none, _NOTHING, choose=choices.everything),
    "features": Strategy("features", arguments.none, _NOTHING, choose=choices.nothing),
    "last": Strategy("last:N", arguments.count, _COUNT, choose=choices.last),
    "first": Strategy("first:N", arguments.count, "a number of blocks, as in first:2", choose=choices.first),
    "layers": Strategy(
        "layers:PATTERN",
        arguments.pattern,
        "names of blocks or variables, as in layers:block_1*",
        choose=choices.matching,
    ),
    "bitfit": Strategy("bitfit", arguments.none, _NOTHING, choose=choices.biases, is_small=True),
    "norms": Strategy("norms", arguments.none, _NOTHING, choose=choices.norms, is_small=True),
    "lora": Strategy("lora:RANK", arguments.count, "a rank, as in lora:8", insert=_by("lora"), is_small=True),
    "ia3": Strategy("ia3", arguments.none, _NOTHING, insert=_by("ia3"), is_small=True),
    "adapters": Strategy(
        "adapters:WIDTH", arguments.count, "a width, as in adapters:16", insert=_by("bottleneck"), is_small=True
    ),
    "head_then_full": Strategy(
        "head_then_full:EPOCHS",
        arguments.epochs,
        "a number of epochs, as in head_then_full:2, or nothing for one epoch",
        stage=stages.head_then_full,
    ),
    "gradual": Strategy(
        "gradual:BLOCKS",
        arguments.schedule,
        "numbers of blocks by epoch that grow, as in gradual:0-2-6, or nothing for one more in each",
        stage=stages.gradual,
    ),
    "reinit_top": Strategy(
        "reinit_top:N", arguments.count, "a number of blocks, as in reinit_top:2", renew=choices.renewed
    ),
    "layer_decay": Strategy(
        "layer_decay:RATE",
        arguments.share,
        "a number above 0, at most 1, as in layer_decay:0.9",
        change=choices.layer_decay,
    ),
}
"""All strategies."""
