"""Weights that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from kft.errors import KftError


def not_finite(variables: Iterable[Any]) -> list[str]:
    """The paths of the variables that hold a number which is NaN or infinite."""
    floats = (variable for variable in variables if keras.backend.is_float_dtype(variable.dtype))
    return [each.path for each in floats if not bool(ops.all(ops.isfinite(ops.convert_to_tensor(each))))]


def require(model: Any, where: str, error: type[KftError]) -> None:
    """Refuses a model read from files that has a weight which is NaN or infinite.

    Args:
        model: A Keras model or layer.
        where: What is refused, for the message.
        error: What is raised.

    Raises:
        KftError: Of the kind `error`: names the first such variable.
    """
    for path in not_finite(model.weights)[:1]:
        raise error(
            f"{where}: the weights {path} hold numbers that are not finite (NaN or infinite). The file is damaged, or "
            "its training went wrong; get it anew."
        )
