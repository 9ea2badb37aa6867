"""Bottleneck adapters: what attention and feed-forward give, plus a small network of it with one narrow layer.

Reference:
    Houlsby et al., 2019, sec. 2.1, https://arxiv.org/abs/1902.00751
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.errors import RecipeError
from kft.models.linear import Linear, completed, product
from kft.transfer.adapters import SEEDS, Adapter, Merged, Part, put, targeted

DOWN, DOWN_BIAS, UP, UP_BIAS = "down_kernel", "down_bias", "up_kernel", "up_bias"


def insert(
    found: Sequence[Linear], width: int, settings: Mapping[str, Any], seed: int, trained: Collection[int]
) -> list[Adapter]:
    """Puts one behind the attention and one behind the feed-forward part of each block; arguments as of `lora.insert`.

    A family without attention has those behind the feed-forward part alone.

    Raises:
        RecipeError: As for `adapters.targeted`.
    """
    ends = [linear for linear in found if linear.is_last or linear.roles == ("output",)]
    has_attention = any(linear.roles == ("output",) for linear in ends)
    targets = ("output", "feed-forward") if has_attention else ("feed-forward",)
    made = []
    for number, linear in enumerate(targeted("adapters", ends, targets, trained)):
        if len(linear.axes.given) != 1:
            raise RecipeError(
                f"transfer: adapters cannot go behind the layer {linear.path}: its outputs have several axes."
            )
        make = lambda linear=linear, number=number: Bottleneck(linear, width, seed * SEEDS + number)  # noqa: E731
        made.append(put("adapters", linear, make))
    return made


class Bottleneck(Part):
    """`outputs + gelu(outputs D + d) U + u`, where U begins at zero: the layer begins by giving what it gave."""

    later = (DOWN, DOWN_BIAS)

    def __init__(self, linear: Linear, width: int, seed: int):
        super().__init__(name="adapter", dtype=linear.layer.dtype_policy)
        size = linear.layer.kernel.shape[linear.axes.kernel.index(linear.axes.given)]
        limit = 1 / math.sqrt(size)
        uniform = keras.initializers.RandomUniform(-limit, limit, seed=seed)
        self.down = self.add_weight((size, width), uniform, name=DOWN)
        self.down_bias = self.add_weight((width,), "zeros", name=DOWN_BIAS)
        self.up = self.add_weight((width, size), "zeros", name=UP)
        self.up_bias = self.add_weight((size,), "zeros", name=UP_BIAS)
        self.built = True

    def computed(self, layer: Any, inputs: Any, training: bool | None) -> Any:
        outputs = completed(layer, product(layer, inputs))
        narrow = keras.activations.gelu(ops.matmul(outputs, self.down) + self.down_bias)
        return outputs + ops.matmul(narrow, self.up) + self.up_bias

    def merged(self, kernel: np.ndarray, bias: np.ndarray | None) -> Merged | None:
        return None  # it is not linear
