"""Pretrained weights read without random ones before them: numbers that a file is about to overwrite are not drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from kft.accelerate.internals import RandomInitializer
from kft.accelerate.overrides import replaced


@contextlib.contextmanager
def by_files() -> Iterator[None]:
    """Variables made in here begin without numbers; at its end those that nothing was assigned to get random ones."""
    waiting: list[tuple[Any, Any]] = []
    filled: dict[int, Any] = {}  # the variables themselves, so that no number is used twice
    begin, assign = keras.Variable._initialize_with_initializer, keras.Variable.assign

    def begin_without_numbers(variable: Any, initializer: Any) -> None:
        if isinstance(initializer, RandomInitializer):
            waiting.append((variable, initializer))
            initializer = keras.initializers.Zeros()
        begin(variable, initializer)

    def assign_and_record(variable: Any, value: Any) -> Any:
        filled[id(variable)] = variable
        return assign(variable, value)

    # Keras has no hook for either; whatever reads a file ends in `assign`.
    with (
        replaced(keras.Variable, "_initialize_with_initializer", begin_without_numbers),
        replaced(keras.Variable, "assign", assign_and_record),
    ):
        yield
    for variable, initializer in waiting:
        if id(variable) not in filled:
            variable.assign(initializer(variable.shape, dtype=variable.dtype))
