"""The linear layers of a model, with their roles: what adapters are put into."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kft.accelerate.internals import sublayers_of
from kft.accelerate.overrides import has_own_call
from kft.models.anatomy import Block
from kft.models.roles import in_attention

DENSE, EINSUM = keras.layers.Dense, keras.layers.EinsumDense


@dataclass(frozen=True)
class Axes:
    """How a linear layer multiplies, in letters of an einsum equation.

    Attributes:
        inputs: The axes of its inputs.
        kernel: The axes of its kernel.
        outputs: The axes of its outputs.
    """

    inputs: str
    kernel: str
    outputs: str

    @property
    def contracted(self) -> str:
        """The axes that are summed over, in the order of the inputs.

        >>> Axes("abcd", "cde", "abe").contracted, Axes("btd", "ndh", "btnh").contracted
        ('cd', 'd')
        """
        return "".join(axis for axis in self.inputs if axis in self.kernel and axis not in self.outputs)

    @property
    def given(self) -> str:
        """The axes of the outputs that come of the kernel, in the order of the outputs.

        >>> Axes("abcd", "cde", "abe").given, Axes("btd", "ndh", "btnh").given
        ('e', 'nh')
        """
        return "".join(axis for axis in self.outputs if axis in self.kernel and axis not in self.inputs)

    @property
    def kept(self) -> str:
        """The axes of the inputs that are not summed over, an ellipsis among them.

        >>> Axes("abcd", "cde", "abe").kept, Axes("...x", "xy", "...y").kept
        ('ab', '...')
        """
        return "".join(axis for axis in self.inputs if axis not in self.contracted)

    @property
    def is_plain(self) -> bool:
        """Whether it is a product of matrices once axes are joined.

        >>> Axes("abcd", "cde", "abe").is_plain, Axes("abc", "bcd", "abd").is_plain
        (True, False)
        """
        return bool(self.contracted and self.given) and set(self.kernel) == {*self.contracted, *self.given}

    def spread(self, matrix: Any, shape: Sequence[int]) -> Any:
        """A matrix `(summed over, given)` with the axes of the kernel, whose shape this is."""
        sizes = dict(zip(self.kernel, shape, strict=True))
        axes = self.contracted + self.given
        tensor = matrix.reshape([sizes[axis] for axis in axes])
        return tensor.transpose([axes.index(axis) for axis in self.kernel])

    def joined(self, kernel: Any) -> Any:
        """A kernel as a matrix `(summed over, given)`."""
        sizes = dict(zip(self.kernel, kernel.shape, strict=True))
        axes = [self.kernel.index(axis) for axis in self.contracted + self.given]
        rows = math.prod(sizes[axis] for axis in self.contracted)
        return ops.reshape(ops.transpose(kernel, axes), (rows, -1))


@dataclass(frozen=True)
class Linear:
    """A linear layer of a model.

    Attributes:
        layer: The Keras layer.
        roles: What it is for: one of `kft.models.roles.ROLES`, or several where one layer gives several.
        block: The name of the block that it is in.
        is_last: Whether it gives what the feed-forward part of its block gives.
    """

    layer: Any
    roles: tuple[str, ...]
    block: str
    is_last: bool = False

    @property
    def path(self) -> str:
        """The path of its kernel, without the name of the kernel."""
        return str(self.layer.kernel.path.rsplit("/", 1)[0])

    @property
    def axes(self) -> Axes:
        """How it multiplies."""
        if isinstance(self.layer, EINSUM):
            inputs, _, rest = self.layer.equation.replace(" ", "").partition(",")
            kernel, _, outputs = rest.partition("->")
            return Axes(inputs, kernel, outputs)
        return Axes("...x", "xy", "...y")

    @property
    def why_unfit(self) -> str | None:
        """Why nothing can be added to what it computes; None where it can."""
        layer, kind = self.layer, type(self.layer)
        if not isinstance(layer, DENSE | EINSUM) or kind.call not in (DENSE.call, EINSUM.call):
            return f"a {kind.__name__} computes in a way of its own"
        if layer.quantization_mode is not None:
            return f"it is quantized to {layer.quantization_mode}"
        if not has_own_call(layer):
            return "its call was replaced"
        return None if self.axes.is_plain else f"its equation {layer.equation} is no product of matrices"


def layers_of(blocks: Sequence[Block]) -> list[Linear]:
    """The linear layers of these blocks, each once, with their roles. Those of a head are none: they train as they are.

    Inside a block what stands in attention has a role by its name, and all else is feed-forward. A table of embeddings
    is none.
    """
    found: dict[int, Linear] = {}
    for block in blocks:
        if block.role in ("head", "output embeddings"):
            continue
        inside = [each for layer in block.layers for each in _inside(layer, block, is_top=True)]
        forward = [layer for layer, roles in inside if roles == ("feed-forward",)]
        for layer, roles in inside:
            found.setdefault(id(layer), Linear(layer, roles, block.name, bool(forward) and layer is forward[-1]))
    return list(found.values())


def product(layer: Any, inputs: Any) -> Any:
    """What a linear layer gives before bias and activation."""
    if isinstance(layer, EINSUM):
        return ops.einsum(layer.equation, inputs, layer.kernel)
    return ops.matmul(inputs, layer.kernel)


def completed(layer: Any, outputs: Any) -> Any:
    """That with bias and activation."""
    if layer.bias is not None:
        outputs = ops.add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _inside(layer: Any, block: Block, *, is_top: bool, attends: bool = False) -> Iterator[tuple[Any, tuple[str, ...]]]:
    attends = attends or (not is_top and "attention" in type(layer).__name__.lower())
    if getattr(layer, "built", False) and hasattr(layer, "kernel"):
        yield layer, _roles(layer, block, attends)
        return
    for part in sublayers_of(layer):
        yield from _inside(part, block, is_top=False, attends=attends)


def _roles(layer: Any, block: Block, attends: bool) -> tuple[str, ...]:
    if block.role == "block":
        return in_attention(layer.name) if attends else ("feed-forward",)
    return ("pooler",) if block.role == "pooler" else ("embeddings",)
