"""Pretrained weights without random ones before them: numbers that a file is about to overwrite are not drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops
from keras.src.initializers.random_initializers import RandomInitializer

from kft.models.stand_ins import standing_in


@contextlib.contextmanager
def by_files() -> Iterator[None]:
    """Variables made in here begin with zeros; at its end those that no file has filled get their random numbers."""
    waiting: list[tuple[Any, Any]] = []
    begin = keras.Variable._initialize_with_initializer

    def begin_with_zeros(variable: Any, initializer: Any) -> None:
        if isinstance(initializer, RandomInitializer):
            waiting.append((variable, initializer))
            initializer = keras.initializers.Zeros()
        begin(variable, initializer)

    with standing_in(keras.Variable, "_initialize_with_initializer", begin_with_zeros):
        yield
    for variable, initializer in waiting:
        if not ops.any(ops.not_equal(variable, 0)):
            variable.assign(initializer(variable.shape, dtype=variable.dtype))
