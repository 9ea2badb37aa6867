"""Transfer strategies: what of the pretrained network trains, and at which share of the learning rate.

One text says it, in Python, YAML and the shell alike: `full`, `last:2`, `layers:block_1*+layers:pooler`,
`last:4+layer_decay:0.9`. Strategies that choose what trains add up; those that change rates then apply in their order.
The head always trains: what it learns, nothing has learnt before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from kft.errors import RecipeError, did_you_mean, quoted
from kft.transfer.rules import Rule, plain

if TYPE_CHECKING:
    from kft.models.anatomy import Block

ALONE = ("full", "features")
"""Strategies that say all there is to say of what trains."""


@dataclass(frozen=True)
class Form:
    """How a strategy is written.

    Attributes:
        written: As in `last:N`.
        read: From the text after the colon, empty where there is none, to the argument; ValueError if it is none.
        expected: What that text has to be.
    """

    written: str
    read: Callable[[str], Any]
    expected: str


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
        if name not in FORMS:
            forms = " or ".join(form.written for form in FORMS.values())
            raise ValueError(f"expected {forms}; several with + between them.{did_you_mean(name, FORMS)}")
        form = FORMS[name]
        try:
            found.append((name, form.read(argument)))
        except ValueError:
            raise ValueError(f"expected {form.written}, with {form.expected}") from None
    names = [name for name, _ in found]
    choosing = [name for name in names if name in CHOOSE]
    if len(choosing) > 1 and set(choosing) & set(ALONE):
        alone = next(name for name in choosing if name in ALONE)
        raise ValueError(f"expected {alone} without {next(name for name in choosing if name != alone)}")
    if len(set(found)) < len(found) or any(names.count(name) > 1 for name in CHANGE):
        raise ValueError("expected each strategy once")
    if "features" in names and "layer_decay" in names:
        raise ValueError("expected one of the two: features trains no layer whose rate could decay")
    return tuple(found)


def rules(transfer: str, blocks: Sequence[Block], head_rate: float = 1.0) -> dict[str, Rule]:
    """The rule of each variable that can train, by its path.

    What the model's outputs do not depend on is frozen, whatever the strategy.

    Args:
        transfer: One or more strategies.
        blocks: Of the model, with nothing frozen yet.
        head_rate: What multiplies the learning rate of the head.

    Raises:
        RecipeError: The model has not what a strategy names, or nothing would train.
    """
    asked = parse(transfer)
    read = [block for block in blocks if block.is_read]
    choosing = [(name, argument) for name, argument in asked if name in CHOOSE] or [("full", None)]
    chosen = {path for name, argument in choosing for path in CHOOSE[name](read, argument)}
    chosen |= set(_paths(block for block in read if block.role == "head"))
    variables = {path: v for block in blocks for path, v in block.variables.items() if v.trainable}
    made = {path: replace(plain(v), frozen=path not in chosen) for path, v in variables.items()}
    for path in _paths(block for block in read if block.role == "head"):
        made[path] = replace(made[path], rate=head_rate)
    for name, argument in asked:
        if name in CHANGE:
            made = CHANGE[name](read, made, argument)
    if all(rule.frozen for rule in made.values()):
        raise RecipeError(f"transfer: {quoted(transfer)} leaves nothing to train: this model has no head of its own.")
    return made


def _paths(blocks: Iterable[Block]) -> list[str]:
    """The paths of all variables of these blocks that can train."""
    return [path for block in blocks for path, variable in block.variables.items() if variable.trainable]


# -- what trains -----------------------------------------------------------------------------------------------------


def everything(blocks: Sequence[Block], _: Any) -> Collection[str]:
    """All variables."""
    return _paths(blocks)


def nothing(_: Sequence[Block], __: Any) -> Collection[str]:
    """None but the head."""
    return ()


def last(blocks: Sequence[Block], count: int) -> Collection[str]:
    """The last blocks, and all that stands above the lowest of them.

    Raises:
        RecipeError: There are fewer blocks.
    """
    places = [place for place, block in enumerate(blocks) if block.role == "block"]
    if count > len(places):
        names = _shortened([blocks[place].name for place in places])
        raise RecipeError(
            f"transfer: found last:{count}, expected at most {len(places)}, as there are blocks: {names}."
        )
    return _paths(blocks[places[-count] :])


def matching(blocks: Sequence[Block], pattern: str) -> Collection[str]:
    """The variables of the blocks whose name matches, and those whose own path does.

    Raises:
        RecipeError: None does.
    """
    found = [
        path
        for block in blocks
        for path in _paths([block])
        if fnmatchcase(block.name, pattern) or fnmatchcase(path, pattern)
    ]
    if not found:
        names = ", ".join(block.name for block in blocks)
        example = next(iter(_paths(block for block in blocks if block.role == "block")), "")
        raise RecipeError(
            f"transfer: layers:{pattern} matches no block and no variable. The blocks are: {names}. Paths of variables "
            f"are such as {example}: put * around a part of one, as in layers:*kernel."
        )
    return found


# -- how it trains ---------------------------------------------------------------------------------------------------


def layer_decay(blocks: Sequence[Block], made: Mapping[str, Rule], rate: float) -> dict[str, Rule]:
    """Each block's rate is that of the one above it times `rate`; the embeddings are the lowest block.

    The highest block, and pooler or final norm above it, have the learning rate itself; the head keeps its own. In an
    encoder with a decoder each of the two is counted from its own top.

    Reference:
        Howard and Ruder, 2018, sec. 3.2, https://arxiv.org/abs/1801.06146
    """
    heights = {block.stack: block.index for block in blocks if block.role == "block"}
    found = dict(made)
    for block in blocks:
        height = heights.get(block.stack, max(heights.values(), default=0))
        if block.role in ("block", "embeddings"):
            for path in _paths([block]):
                found[path] = replace(found[path], rate=found[path].rate * rate ** (height - block.index))
    return found


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


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) < 4 else [names[0], names[1], "…", names[-1]])


CHOOSE: dict[str, Callable[[Sequence[Block], Any], Collection[str]]] = {
    "full": everything,
    "features": nothing,
    "last": last,
    "layers": matching,
}
"""Strategies that choose what trains: from blocks and an argument to paths of variables."""
CHANGE: dict[str, Callable[[Sequence[Block], Mapping[str, Rule], Any], dict[str, Rule]]] = {"layer_decay": layer_decay}
"""Strategies that change how it trains: from blocks, rules and an argument to other rules."""
FORMS = {
    "full": Form("full", _none, "nothing after it"),
    "features": Form("features", _none, "nothing after it"),
    "last": Form("last:N", _count, "a number of blocks, as in last:2"),
    "layers": Form("layers:PATTERN", _pattern, "names of blocks or variables, as in layers:block_1*"),
    "layer_decay": Form("layer_decay:RATE", _share, "a number above 0, at most 1, as in layer_decay:0.9"),
}
