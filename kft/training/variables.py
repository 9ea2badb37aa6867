"""Names of a model's and an optimizer's variables that are the same in every process that builds the same model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_COUNTER = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Part:
    """Some variables of a network, under the names that they have in all stages of a fit.

    Attributes:
        whole: The network that the names are given by.
        network: What trains in one stage, of the same layers.
        holds_whole: Whether all variables of the whole are among them, or only those of the network.
    """

    whole: Any
    network: Any
    holds_whole: bool
    compiled = False

    @cached_property
    def variables(self) -> list[Any]:
        """In the order that decides on the names."""
        return [*self.whole.variables, *self.network.variables]

    @cached_property
    def left_out(self) -> set[int]:
        """The ids of those that are only there for the names of others."""
        own = {id(variable) for variable in self.network.variables}
        return set() if self.holds_whole else {id(variable) for variable in self.whole.variables} - own


def named(network: Any, optimizer: Any) -> Iterator[tuple[str, Any]]:
    """Every variable of a model but those of its metrics, and of its optimizer, each with a name of its own.

    That is the variable's path. Keras numbers layers by how many of a kind a process has made before, so a number there
    becomes how many of the kind the model has before. A variable of the optimizer is called by that of the model which
    it belongs to.

    Args:
        network: The Keras model, or a part of one.
        optimizer: The optimizer of its trainable variables, built; None to leave it out.
    """
    taken: dict[str, int] = {}
    owners: dict[str, str] = {}
    ranks: dict[tuple[str, str], list[str]] = {}
    left_out = getattr(network, "left_out", ())
    passed = {id(variable) for metric in (network.metrics if network.compiled else []) for variable in metric.variables}
    for variable in network.variables:
        if id(variable) in passed:
            continue
        passed.add(id(variable))
        name = ""
        for part in variable.path.split("/"):
            kind = _COUNTER.sub("", part)
            same = ranks.setdefault((name, kind), [])
            if part not in same:
                same.append(part)
            name = f"{name}/{kind}.{same.index(part)}" if same.index(part) else f"{name}/{kind}"
        owners.setdefault(variable.path.replace("/", "_"), name)
        unique = _unique(f"model{name}", taken)
        if id(variable) not in left_out:
            yield unique, variable
    for variable in optimizer.variables if optimizer else []:
        if id(variable) in passed:
            continue
        passed.add(id(variable))
        ends = [found.start() for found in re.finditer("_", variable.name)]
        end = next((end for end in reversed(ends) if variable.name[:end] in owners), None)
        name = f"/{variable.name}" if end is None else f"{owners[variable.name[:end]]}/{variable.name[end + 1 :]}"
        yield _unique(f"optimizer{name}", taken), variable


def _unique(name: str, taken: dict[str, int]) -> str:
    taken[name] = taken.get(name, -1) + 1
    return f"{name}#{taken[name]}" if taken[name] else name
