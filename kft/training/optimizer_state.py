"""What the state of an optimizer says: updates made, their gradients, variables that none has moved."""

from __future__ import annotations

from typing import Any

from keras import ops

from kft.training.optimizers import FusedAdamW


def gradient_norm(optimizer: Any) -> float:
    """The global norm of the latest update's gradients, so far as they came, before clipping; 0 before the first."""
    return float(ops.convert_to_numpy(_adamw(optimizer).gradient_norm))


def num_updates(optimizer: Any) -> int:
    """Updates of the weights that were made."""
    return int(ops.convert_to_numpy(_adamw(optimizer).iterations))


def without_gradient(optimizer: Any) -> list[str] | None:
    """Trainable variables that no update has moved yet, by path. None before the first update."""
    return _adamw(optimizer).without_gradient() if num_updates(optimizer) else None


def _adamw(optimizer: Any) -> FusedAdamW:
    """The AdamW inside the wrapper that Keras scales float16 losses with."""
    return getattr(optimizer, "inner_optimizer", optimizer)
