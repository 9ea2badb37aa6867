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
    """Variables made in here begin without numbers; at its end those that no file has filled get their random ones."""
    waiting: list[tuple[Any, Any]] = []
    begin = keras.Variable._initialize_with_initializer

    def begin_without_numbers(variable: Any, initializer: Any) -> None:
        if isinstance(initializer, RandomInitializer):
            waiting.append((variable, initializer))
            initializer = keras.initializers.Constant(float("nan"))  # a file may well fill in zeros
        begin(variable, initializer)

    with standing_in(keras.Variable, "_initialize_with_initializer", begin_without_numbers):
        yield
    for variable, initializer in waiting:
        if ops.all(ops.isnan(variable)):
            variable.assign(initializer(variable.shape, dtype=variable.dtype))
