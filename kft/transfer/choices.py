"""What each transfer strategy chooses: from the blocks of a model to the variables that train, or how they do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from kft.errors import RecipeError
from kft.transfer.rules import Rule

if TYPE_CHECKING:
    from kft.models.anatomy import Block


def paths_of(blocks: Iterable[Block]) -> list[str]:
    """The paths of all variables of these blocks that can train."""
    return [path for block in blocks for path, variable in block.variables.items() if variable.trainable]


# -- what trains -----------------------------------------------------------------------------------------------------


def everything(blocks: Sequence[Block], _: Any) -> Collection[str]:
    """All variables."""
    return paths_of(blocks)


def nothing(_: Sequence[Block], __: Any) -> Collection[str]:
    """None but the head."""
    return ()


def last(blocks: Sequence[Block], count: int) -> Collection[str]:
    """The last blocks, and all that stands above the lowest of them.

    Raises:
        RecipeError: There are fewer blocks.
    """
    return paths_of(blocks[_places(blocks, "last", count)[-count] :])


def _places(blocks: Sequence[Block], name: str, count: int) -> list[int]:
    """Where in a sequence of blocks those are that are counted, at least so many."""
    places = [place for place, block in enumerate(blocks) if block.role == "block"]
    if count > len(places):
        names = _shortened([blocks[place].name for place in places])
        raise RecipeError(
            f"transfer: found {name}:{count}, expected at most {len(places)}, as there are blocks: {names}."
        )
    return places


def first(blocks: Sequence[Block], count: int) -> Collection[str]:
    """The first blocks, and the embeddings below them.

    Raises:
        RecipeError: There are fewer blocks.
    """
    places = _places(blocks, "first", count)[:count]
    stacks = {"", *(blocks[place].stack for place in places)}
    below = [block for block in blocks if block.role == "embeddings" and block.stack in stacks]
    return paths_of([*below, *(blocks[place] for place in places)])


def renewed(blocks: Sequence[Block], count: int) -> Collection[Block]:
    """The last blocks with the norms and poolers above them: those that begin anew.

    Reference:
        Zhang et al., 2021, sec. 5, https://arxiv.org/abs/2006.05987

    Raises:
        RecipeError: There are fewer blocks, or one of them is applied several times, as in ALBERT.
    """
    places = _places(blocks, "reinit_top", count)
    found = [block for block in blocks[places[-count] :] if block.role in ("block", "final norm", "pooler")]
    if shared := next((block for block in found if block.passes > 1), None):
        raise RecipeError(
            f"transfer: reinit_top:{count} cannot begin the top of this model anew: {shared.name} is applied "
            f"{shared.passes} times, so that the blocks below would lose what they have learnt too."
        )
    return found


def biases(blocks: Sequence[Block], _: Any) -> Collection[str]:
    """All biases, those of norms among them.

    Reference:
        BitFit: Ben Zaken et al., 2022, https://arxiv.org/abs/2106.10199

    Raises:
        RecipeError: There are none, as in T5 and Llama.
    """
    found = [path for path in paths_of(blocks) if re.search(r"(^|/)(\w*_)?(bias|beta)(#\d+)?$", path)]
    return _some("bitfit", "biases", found, blocks)


def norms(blocks: Sequence[Block], _: Any) -> Collection[str]:
    """The variables of the layers that norm.

    Raises:
        RecipeError: There are none.
    """
    from kft.accelerate.internals import layers_of

    inside = [part for block in blocks if block.role != "head" for layer in block.layers for part in layers_of(layer)]
    own = {id(v) for part in inside if "norm" in type(part).__name__.lower() for v in part.variables}
    found = [path for block in blocks for path in paths_of([block]) if id(block.variables[path]) in own]
    return _some("norms", "layers that norm", found, blocks)


def _some(name: str, kind: str, found: list[str], blocks: Sequence[Block]) -> list[str]:
    heads = set(paths_of(block for block in blocks if block.role == "head"))
    if not set(found) - heads:
        raise RecipeError(f"transfer: {name} trains {kind}, and this model has none outside its head.")
    return found


def matching(blocks: Sequence[Block], pattern: str) -> Collection[str]:
    """The variables of the blocks whose name matches, and those whose own path does.

    Raises:
        RecipeError: None does.
    """
    found = [
        path
        for block in blocks
        for path in paths_of([block])
        if fnmatchcase(block.name, pattern) or fnmatchcase(path, pattern)
    ]
    if not found:
        names = ", ".join(block.name for block in blocks)
        example = next(iter(paths_of(block for block in blocks if block.role == "block")), "")
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
            for path in paths_of([block]):
                found[path] = replace(found[path], rate=found[path].rate * rate ** (height - block.index))
    return found


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) < 4 else [names[0], names[1], "…", names[-1]])
