"""LoRA: what a linear layer gives, plus a product of two small matrices that train.

References:
    LoRA: Hu et al., 2021, https://arxiv.org/abs/2106.09685
    rsLoRA, alpha over the root of the rank: Kalajdzievski, 2023, https://arxiv.org/abs/2312.03732
    DoRA, length and direction of each column apart: Liu et al., 2024, https://arxiv.org/abs/2402.09353
    PiSSA, a start from the largest singular values: Meng et al., 2024, https://arxiv.org/abs/2404.02948
    LoRA+, a higher rate for the second matrix: Hayou et al., 2024, https://arxiv.org/abs/2402.12354
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.models import roles
from kft.models.linear import EINSUM, Linear, completed, product
from kft.transfer.adapters import SEEDS, Adapter, Merged, Part, put, targeted

A, B, MAGNITUDE, START_A, START_B = "lora_a", "lora_b", "lora_magnitude", "lora_start_a", "lora_start_b"


def insert(
    found: Sequence[Linear], rank: int, settings: Mapping[str, Any], seed: int, trained: Collection[int]
) -> list[Adapter]:
    """Puts LoRA into the layers that the settings name.

    Args:
        found: The linear layers of the model.
        rank: Of the product of the two matrices.
        settings: `lora_alpha`, `lora_dropout`, `lora_targets` and `lora_variant` as in the Recipe.
        seed: Of the random numbers that they begin with.
        trained: Ids of variables that train without it.

    Raises:
        RecipeError: As for `adapters.targeted`.
    """
    variants = str(settings["lora_variant"]).split("+")
    alpha = 2.0 * rank if settings["lora_alpha"] == "auto" else float(settings["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if "rslora" in variants else rank)
    return [
        put(
            "lora",
            linear,
            lambda linear=linear, number=number: LowRank(  # type: ignore[misc]
                linear,
                rank,
                scale,
                dropout=float(settings["lora_dropout"]),
                has_magnitude="dora" in variants,
                starts_principal="pissa" in variants,
                seed=seed * SEEDS + number,
            ),
        )
        for number, linear in enumerate(targeted("lora", found, roles.named(settings["lora_targets"]), trained))
    ]


class LowRank(Part):
    """`scale * inputs A B`, added to a linear product.

    Whatever the variant, the layer begins by giving what it gave before.

    Args:
        linear: The layer.
        rank: Columns of A and rows of B. Where the kernel has fewer rows or columns, no more than those.
        scale: What the product is multiplied by.
        dropout: Share of the inputs of A that is dropped in training.
        has_magnitude: Whether the columns of the sum of kernel and product are brought to lengths of their own (DoRA).
            As in its paper, their lengths are constants to the gradient.
        starts_principal: Whether A and B begin as the kernel's largest singular values and vectors (PiSSA). In place
            of taking that start off the pretrained kernel, it is subtracted from the product, so that the kernel stays.
        seed: Of A, and of dropout.
    """

    faster = B

    def __init__(
        self,
        linear: Linear,
        rank: int,
        scale: float,
        *,
        dropout: float = 0.0,
        has_magnitude: bool = False,
        starts_principal: bool = False,
        seed: int = 0,
    ):
        super().__init__(name="lora", dtype=linear.layer.dtype_policy)
        self.axes, self.scale, self.is_einsum = linear.axes, scale, isinstance(linear.layer, EINSUM)
        self.kernel_shape = tuple(linear.layer.kernel.shape)
        kernel = self.axes.joined(ops.convert_to_tensor(linear.layer.kernel))
        rows, columns = kernel.shape
        self.rank = min(rank, rows, columns)
        self.is_added = not has_magnitude
        self.later = () if starts_principal else (A,)
        self.drop = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy) if dropout else None
        limit = 1 / math.sqrt(rows)
        first: Any = keras.initializers.RandomUniform(-limit, limit, seed=seed)
        second: Any = "zeros"
        if starts_principal:
            start_a, start_b = _principal(np.asarray(ops.convert_to_numpy(kernel), np.float64), self.rank, scale)
            first, second = (lambda shape, dtype=None: start_a), (lambda shape, dtype=None: start_b)
        shapes = (rows, self.rank), (self.rank, columns)
        self.a = self.add_weight(shapes[0], first, name=A)
        self.b = self.add_weight(shapes[1], second, name=B)
        self.start_a = self.start_b = self.magnitude = None
        if starts_principal:
            self.start_a = self.add_weight(shapes[0], first, name=START_A, trainable=False)
            self.start_b = self.add_weight(shapes[1], second, name=START_B, trainable=False)
        if has_magnitude:
            self.magnitude = self.add_weight((columns,), "ones", name=MAGNITUDE, autocast=False)
            self.magnitude.assign(self._lengths(kernel))
        self.built = True

    def computed(self, layer: Any, inputs: Any, training: bool | None) -> Any:
        outputs = product(layer, inputs) + self._added(inputs, training)
        if self.magnitude is not None:
            # One number for each column, in the shape of the outputs' last axes.
            factor = self.magnitude / ops.stop_gradient(self._lengths(self.axes.joined(layer.kernel)))
            outputs = ops.multiply(outputs, self._of_outputs(ops.cast(factor, outputs.dtype)))
        return completed(layer, outputs)

    def factors(self) -> tuple[Any, Any]:
        """A and B, the start that is subtracted beside them."""
        if self.start_a is None or self.start_b is None:
            return ops.convert_to_tensor(self.a), ops.convert_to_tensor(self.b)
        first = ops.concatenate([self.a, self.start_a], axis=1)
        return first, ops.concatenate([self.b, ops.negative(self.start_b)], axis=0)

    def of_rows(self, rows: Any, training: bool | None) -> Any:
        """What is added for inputs with one axis that is summed over, the last: `(…, rows of the kernel)`."""
        if self.drop is not None:
            rows = self.drop(rows, training=training)
        first, second = self.factors()
        return ops.matmul(ops.matmul(rows, first) * self.scale, second)

    def merged(self, kernel: np.ndarray, bias: np.ndarray | None) -> Merged:
        first, second = (np.asarray(ops.convert_to_numpy(factor), np.float64) for factor in self.factors())
        joined = self._joined(kernel) + self.scale * first @ second
        if self.magnitude is not None:
            lengths = np.sqrt((joined**2).sum(axis=0))
            joined = joined * (np.asarray(ops.convert_to_numpy(self.magnitude), np.float64) / lengths)
        return self.axes.spread(joined, kernel.shape), bias

    def _added(self, inputs: Any, training: bool | None) -> Any:
        if not self.is_einsum:
            return self.of_rows(inputs, training)
        if self.drop is not None:
            inputs = self.drop(inputs, training=training)
        axes, sizes = self.axes, dict(zip(self.axes.kernel, self.kernel_shape, strict=True))
        first, second = self.factors()
        rank = next(letter for letter in "rstuvwxyz" if letter not in axes.inputs + axes.outputs + axes.kernel)
        first = ops.reshape(first, [*(sizes[axis] for axis in axes.contracted), -1])
        second = ops.reshape(second, [-1, *(sizes[axis] for axis in axes.given)])
        between = ops.einsum(f"{axes.inputs},{axes.contracted}{rank}->{axes.kept}{rank}", inputs, first)
        return ops.einsum(f"{axes.kept}{rank},{rank}{axes.given}->{axes.outputs}", between * self.scale, second)

    def _lengths(self, kernel: Any) -> Any:
        """The length of each column of kernel and product, in float32: `(columns,)`."""
        first, second = self.factors()
        whole = ops.cast(kernel, "float32") + self.scale * ops.matmul(
            ops.cast(first, "float32"), ops.cast(second, "float32")
        )
        return ops.sqrt(ops.sum(ops.square(whole), axis=0))

    def _of_outputs(self, columns: Any) -> Any:
        """A number for each column, so that it can be multiplied with the outputs of the layer."""
        if not self.is_einsum:
            return columns
        sizes = dict(zip(self.axes.kernel, self.kernel_shape, strict=True))
        named = self.axes.outputs.replace("...", "")
        return ops.reshape(columns, [sizes[axis] if axis in self.axes.given else 1 for axis in named])

    def _joined(self, kernel: np.ndarray) -> np.ndarray:
        axes = [self.axes.kernel.index(axis) for axis in self.axes.contracted + self.axes.given]
        return kernel.transpose(axes).reshape(self.a.shape[0], -1)


def _principal(kernel: np.ndarray, rank: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Two factors whose product, times `scale`, is a kernel's best approximation of this rank.

    >>> first, second = _principal(np.diag([3.0, 1.0]), 1, 2.0)
    >>> (2.0 * first @ second).round(6).tolist()
    [[3.0, 0.0], [0.0, 0.0]]
    """
    left, values, right = np.linalg.svd(kernel, full_matrices=False)
    roots = np.sqrt(values[:rank] / scale)
    return (left[:, :rank] * roots).astype(np.float32), (roots[:, None] * right[:rank]).astype(np.float32)
