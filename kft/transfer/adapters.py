"""Adapters: variables put into linear layers of a model, which train while the pretrained ones stay as they are.

An adapter gives its layer another `call` and holds its own variables, which are the layer's from then on: blocks,
rules, checkpoints and optimization passes see them like any others. A preset that is saved of the model has none of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kft.accelerate.internals import hold, layers_of, release, sublayers_of
from kft.accelerate.overrides import replace_call, restore_call
from kft.errors import RecipeError, quoted
from kft.models.linear import Linear
from kft.models.roles import ROLES

SEEDS = 100_003
"""Between the seeds of two fits: more than a model has layers, each of which begins by its own."""
Merged = tuple[np.ndarray, np.ndarray | None]
"""Kernel and bias of a layer."""


class Part(keras.layers.Layer):
    """The variables of one adapter, and what it makes of the layer that it is in.

    Attributes:
        is_added: Whether it adds to a linear product what `of_rows` says, and changes nothing else.
        faster: The name of its variable that the Recipe's `lora_plus_ratio` is for.
        later: Names of its variables whose first gradient is zero, as others begin at zero.
    """

    is_added = False
    faster = ""
    later: Collection[str] = ()

    def computed(self, layer: Any, inputs: Any, training: bool | None) -> Any:
        """What the layer gives with this adapter."""
        raise NotImplementedError

    def merged(self, kernel: np.ndarray, bias: np.ndarray | None) -> Merged | None:
        """Kernel and bias, in float64, by which the layer alone gives the same; None where there are none."""
        raise NotImplementedError


@dataclass(frozen=True)
class Adapter:
    """An adapter in a model.

    Attributes:
        kind: The strategy that put it there.
        linear: The layer that it is in.
        part: Its variables, and what they do.
    """

    kind: str
    linear: Linear
    part: Part

    @property
    def variables(self) -> list[Any]:
        """Its variables, those that do not train among them."""
        return list(self.part.weights)


def put(kind: str, linear: Linear, make: Callable[[], Part]) -> Adapter:
    """Puts an adapter into a layer; its variables have paths below that of the layer."""
    with contextlib.ExitStack() as stack:
        for name in linear.path.split("/"):
            stack.enter_context(keras.name_scope(name))
        part = make()
    hold(linear.layer, part)
    replace_call(linear.layer, _computed)
    return Adapter(kind, linear, part)


def part_of(layer: Any) -> Part | None:
    """The adapter in a layer; None where there is none."""
    return next((part for part in sublayers_of(layer) if isinstance(part, Part)), None)


def of_layers(model: Any) -> list[Part]:
    """The adapters in the layers of a model."""
    return [layer for layer in layers_of(model) if isinstance(layer, Part)]


def _computed(layer: Any, inputs: Any, training: bool | None = None) -> Any:
    part = part_of(layer)
    assert part is not None, "a layer with this call has one"
    return part.computed(layer, inputs, training)


def take_out(adapter: Adapter) -> None:
    """Leaves the layer as it was before, its weights untouched."""
    restore_call(adapter.linear.layer)
    release(adapter.linear.layer, adapter.part)


def merge(adapters: Sequence[Adapter]) -> list[Adapter]:
    """Brings adapters into the weights of their layers, which are as they were made but for that.

    Returns:
        Those that no weights can stand for, which stay where they are.
    """
    as_array, left = keras.ops.convert_to_numpy, []
    for adapter in adapters:
        layer = adapter.linear.layer
        bias = None if layer.bias is None else np.asarray(as_array(layer.bias), np.float64)
        merged = adapter.part.merged(np.asarray(as_array(layer.kernel), np.float64), bias)
        if merged is None:
            left.append(adapter)
            continue
        for variable, value in zip((layer.kernel, layer.bias), merged, strict=True):
            if value is not None:
                variable.assign(value.astype(np.float32))
        take_out(adapter)
    return left


def targeted(strategy: str, found: Sequence[Linear], targets: Sequence[str], trained: Collection[int]) -> list[Linear]:
    """The layers of these roles, less those whose kernel trains as a whole.

    Args:
        strategy: Which asks, for messages.
        found: The linear layers of the model.
        targets: Roles.
        trained: Ids of variables that train without adapters.

    Raises:
        RecipeError: A role that was asked for by name has no layer, a layer gives other roles too or cannot have an
            adapter, or nothing is left.
    """
    has = {role for linear in found for role in linear.roles}
    absent = [role for role in targets if role not in has]
    if absent and len(targets) < len(ROLES):
        known = ", ".join(role for role in ROLES if role in has) or "none"
        raise RecipeError(
            f"transfer: {strategy} is to go into layers of the role {quoted(absent[0])} ({ROLES[absent[0]]}), and this "
            f"model has none. Its linear layers have the roles: {known}."
        )
    chosen = [linear for linear in found if set(linear.roles) & set(targets)]
    for linear in chosen:
        if not set(linear.roles) <= set(targets):
            raise RecipeError(
                f"transfer: {strategy}: the layer {linear.path} gives {', '.join(linear.roles)} in one product. "
                "Expected all of them as targets, or none."
            )
        if (why := linear.why_unfit) is not None:
            raise RecipeError(
                f"transfer: {strategy} cannot go into the layer {linear.path}: {why}. Expected a Dense or EinsumDense "
                "layer of Keras. Choose other targets."
            )
    left = [linear for linear in chosen if id(linear.layer.kernel) not in trained]
    if not left:
        why = "all of its target layers train as a whole" if chosen else "the model has no linear layers in its blocks"
        raise RecipeError(f"transfer: {strategy} has no layer to go into: {why}.")
    return left


def table(adapters: Sequence[Adapter]) -> Mapping[str, str]:
    """The roles of the layers with adapters, by path."""
    return {adapter.linear.path: "+".join(adapter.linear.roles) for adapter in adapters}
