"""Arrays of variables in a safetensors file, each known to have its variable's shape and kind before it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from kft.errors import RunError, quoted

KINDS = {"I": "int", "U": "uint"}
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"}


def of(own: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The values of variables, by name."""
    return {name: np.asarray(keras.ops.convert_to_numpy(variable), order="C") for name, variable in own.items()}


def read(
    file: Path, own: Mapping[str, Any], shown: Path, advice: str, is_left_out: Callable[[str], bool] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a file for these variables.

    Args:
        file: The file.
        own: The variables that are to be filled, by name.
        shown: What a refusal names.
        advice: What to do where a variable is not the same in both.
        is_left_out: Whether one of this name may be missing on either side.

    Raises:
        RunError: Names the first variable that is not the same in both.
    """
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (it is no dict)
            names = sorted({*found, *own})
            if is_left_out is not None:
                names = [name for name in names if (name in found and name in own) or not is_left_out(name)]
            for name in names:
                there = _described(found[name].get_shape(), found[name].get_dtype()) if name in found else "nothing"
                asked = "nothing"
                if name in own:
                    asked = _described(own[name].shape, keras.backend.standardize_dtype(own[name].dtype))
                if there != asked:
                    what = f"variable {quoted(name)} is {there} there and {asked} in the model"
                    raise RunError(f"{shown}: {what}. {advice}")
            return {name: opened.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise RunError(f"{file}: cannot be read ({error}). The file is damaged.") from None


def _described(shape: Sequence[int], kind: str) -> str:
    """A shape and a dtype in Keras's words, of whichever spelling.

    >>> _described([2, 6], "F32"), _described((2, 6), "float32"), _described([], "I64")
    ('float32 (2, 6)', 'float32 (2, 6)', 'int64 ()')
    """
    kind = _DTYPES.get(kind, re.sub(r"^([IU])(\d+)$", lambda found: f"{KINDS[found[1]]}{found[2]}", kind))
    return f"{kind} {tuple(shape)}"
