"""Names of a model's and an optimizer's variables that are the same in every process that builds the same model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_COUNTER = re.compile(r"_\d+$")


def named(network: Any, optimizer: Any) -> Iterator[tuple[str, Any]]:
    """Every variable of a model but those of its metrics, and of its optimizer, each with a name of its own.

    That is the variable's path. Keras numbers layers by how many of a kind a process has made before, so a number there
    becomes how many of the kind the model has before. A variable of the optimizer is called by that of the model which
    it belongs to.

    Args:
        network: The Keras model.
        optimizer: The optimizer of its trainable variables, built; None to leave it out.
    """
    taken: dict[str, int] = {}
    owners: dict[str, str] = {}
    ranks: dict[tuple[str, str], list[str]] = {}
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
        yield _unique(f"model{name}", taken), variable
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
