"""The learning rate over the updates of a fit: warmup and decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import keras
from keras import ops, saving

from kft.recipe import Recipe
from kft.training.accumulation import Windows


@saving.register_keras_serializable(package="kft")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warmup from zero to `peak`, then decay to zero at `total_updates`.

    Args:
        peak: The highest rate, reached after `warmup_updates`.
        warmup_updates: Updates of warmup; 0 starts at the peak.
        total_updates: The update at which linear and cosine decay reach zero.
        decay: `"linear"`, `"cosine"` (half a period) or `"constant"`.
        windows: Which calls, counted by the optimizer, make up an update; None where each is one.
    """

    def __init__(
        self,
        peak: float,
        warmup_updates: int,
        total_updates: int,
        decay: str = "linear",
        windows: Windows | Mapping[str, int] | None = None,
    ):
        super().__init__()
        self.peak, self.warmup_updates, self.total_updates, self.decay = peak, warmup_updates, total_updates, decay
        self.windows = Windows(**windows) if isinstance(windows, Mapping) else windows

    def __call__(self, call: Any) -> Any:
        update = call if self.windows is None else self.windows.update_of(ops.convert_to_tensor(call))
        update = ops.cast(update, "float32")
        rising = (update + 1.0) / max(1.0, float(self.warmup_updates))
        done = (update - self.warmup_updates) / max(1.0, float(self.total_updates - self.warmup_updates))
        done = ops.clip(done, 0.0, 1.0)
        falling = {
            "linear": lambda: 1.0 - done,
            "cosine": lambda: 0.5 * (1.0 + ops.cos(math.pi * done)),
            "constant": lambda: ops.ones_like(done),
        }[self.decay]()
        return self.peak * ops.where(update < self.warmup_updates, rising, falling)

    def at(self, step: int) -> float:
        """The rate of one step, which is a batch, as a plain number."""
        return float(ops.convert_to_numpy(self(step * (self.windows.pieces if self.windows else 1))))

    def get_config(self) -> dict[str, Any]:
        names = ("peak", "warmup_updates", "total_updates", "decay")
        windows = self.windows and asdict(self.windows)
        return {**{name: getattr(self, name) for name in names}, "windows": windows}


def schedule(recipe: Recipe, peak: float, windows: Windows) -> WarmupDecay:
    """The recipe's schedule over the updates of a fit."""
    is_share = recipe.warmup_steps < 1
    warmup = round(recipe.warmup_steps * windows.num_updates) if is_share else round(recipe.warmup_steps)
    return WarmupDecay(peak, warmup, windows.num_updates, recipe.schedule, windows)
