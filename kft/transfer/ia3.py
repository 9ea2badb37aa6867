"""IA3: keys, values and the inputs of the last feed-forward layer, each times a number that trains.

Reference:
    Liu et al., 2022, sec. 3.3, https://arxiv.org/abs/2205.05638
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from kft.models.linear import Linear, completed, product
from kft.transfer.adapters import Adapter, Merged, Part, put, targeted

SCALES = "ia3"


def insert(
    found: Sequence[Linear], _: None, settings: Mapping[str, Any], seed: int, trained: Collection[int]
) -> list[Adapter]:
    """Puts IA3 into keys, values and the last feed-forward layer of each block; arguments as of `lora.insert`.

    Raises:
        RecipeError: As for `adapters.targeted`.
    """
    fitting = [linear for linear in found if linear.is_last or linear.roles != ("feed-forward",)]
    chosen = targeted("ia3", fitting, ("key", "value", "feed-forward"), trained)
    return [put("ia3", linear, lambda linear=linear: Scales(linear)) for linear in chosen]  # type: ignore[misc]


class Scales(Part):
    """A number for each output of a layer, bias included, or for each of its inputs where it is feed-forward."""

    def __init__(self, linear: Linear):
        super().__init__(name="scales", dtype=linear.layer.dtype_policy)
        self.is_of_inputs = linear.roles == ("feed-forward",)
        axes = linear.axes
        sizes = dict(zip(axes.kernel, linear.layer.kernel.shape, strict=True))
        self.scaled, named = (axes.contracted, axes.inputs) if self.is_of_inputs else (axes.given, axes.outputs)
        self.kernel_axes = axes.kernel
        self.over = [sizes[axis] if axis in self.scaled else 1 for axis in named.replace("...", "")]
        self.scales = self.add_weight([sizes[axis] for axis in self.scaled], "ones", name=SCALES)
        self.built = True

    def computed(self, layer: Any, inputs: Any, training: bool | None) -> Any:
        scales = ops.reshape(self.scales, self.over)
        if self.is_of_inputs:
            return completed(layer, product(layer, inputs * scales))
        return completed(layer, product(layer, inputs)) * scales

    def merged(self, kernel: np.ndarray, bias: np.ndarray | None) -> Merged:
        scales = np.asarray(ops.convert_to_numpy(self.scales), np.float64)
        order = sorted(range(scales.ndim), key=lambda place: self.kernel_axes.index(self.scaled[place]))
        shape = [kernel.shape[place] if axis in self.scaled else 1 for place, axis in enumerate(self.kernel_axes)]
        kernel = kernel * scales.transpose(order).reshape(shape)
        return kernel, bias if bias is None or self.is_of_inputs else bias * scales
