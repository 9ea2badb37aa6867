"""AdamW as the recipe asks for it: warmup and decay, weight decay on kernels only, clipping, accumulation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, saving

from kft.recipe import Recipe


@saving.register_keras_serializable(package="kft")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warmup from zero to `peak`, then decay to zero at `total_steps`.

    Args:
        peak: The highest rate, reached after `warmup_steps`.
        warmup_steps: Steps of warmup; 0 starts at the peak.
        total_steps: The step at which linear and cosine decay reach zero.
        decay: `"linear"`, `"cosine"` (half a period) or `"constant"`.
        calls_per_step: How many calls, counted by the optimizer, make up a step.
    """

    def __init__(
        self, peak: float, warmup_steps: int, total_steps: int, decay: str = "linear", calls_per_step: int = 1
    ):
        super().__init__()
        self.peak, self.warmup_steps, self.total_steps, self.decay = peak, warmup_steps, total_steps, decay
        self.calls_per_step = calls_per_step

    def __call__(self, call: Any) -> Any:
        step = ops.cast(ops.floor_divide(call, self.calls_per_step), "float32")
        rising = (step + 1.0) / max(1.0, float(self.warmup_steps))
        done = (step - self.warmup_steps) / max(1.0, float(self.total_steps - self.warmup_steps))
        done = ops.clip(done, 0.0, 1.0)
        falling = {
            "linear": lambda: 1.0 - done,
            "cosine": lambda: 0.5 * (1.0 + ops.cos(math.pi * done)),
            "constant": lambda: ops.ones_like(done),
        }[self.decay]()
        return self.peak * ops.where(step < self.warmup_steps, rising, falling)

    def at(self, step: int) -> float:
        """The rate of one step as a plain number."""
        return float(ops.convert_to_numpy(self(step * self.calls_per_step)))

    def get_config(self) -> dict[str, Any]:
        names = ("peak", "warmup_steps", "total_steps", "decay", "calls_per_step")
        return {name: getattr(self, name) for name in names}


def schedule(recipe: Recipe, peak: float, total_steps: int, micro_batches: int = 1) -> WarmupDecay:
    """The recipe's schedule over `total_steps` batches of `micro_batches` each, which are what Keras counts."""
    accumulated = recipe.gradient_accumulation_steps
    is_share = recipe.warmup_steps < 1
    warmup = round(recipe.warmup_steps * total_steps) if is_share else round(recipe.warmup_steps) * accumulated
    return WarmupDecay(peak, warmup, total_steps, recipe.schedule, micro_batches)


@saving.register_keras_serializable(package="kft")
class FusedAdamW(keras.optimizers.AdamW):
    """Keras's AdamW with a rate for each variable, and TensorFlow's fused kernel for the update on that backend.

    Attributes:
        factors: For some variables, by path, what multiplies the learning rate; 1 for all others.
        gradient_norm: The global norm of the latest call's gradients, before clipping.
    """

    factors: Mapping[str, float] = {}

    def build(self, variables: list[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self.gradient_norm = self.add_variable((), aggregation="only_first_replica", name="gradient_norm")

    def _clip_gradients(self, grads: Any) -> Any:
        """Keras's clipping by global norm, which keeps the norm."""
        norm = self._global_norm(grads)
        if not self.gradient_accumulation_steps:
            self._keep_norm(norm)
        if not self.global_clipnorm:
            return grads
        # A norm of NaN or infinity makes every gradient NaN, so that no half of the update is lost in silence.
        scale = ops.minimum(1.0, self.global_clipnorm / norm) + (norm - norm)
        return [gradient * ops.cast(scale, gradient.dtype) for gradient in grads]

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        """Keras's update, of the sum over replicas: on TensorFlow it would clip each replica's share by itself."""
        if keras.config.backend() == "tensorflow":
            from kft.training import fused

            grads = fused.summed(grads, trainable_variables)
        super()._backend_apply_gradients(grads, trainable_variables)
        if self.gradient_accumulation_steps:  # so that what is not finite is seen before it is summed into a checkpoint
            self._keep_norm(self._global_norm(grads))

    def _keep_norm(self, norm: Any) -> None:
        if keras.config.backend() == "tensorflow":
            from kft.training import fused

            fused.assign(self.gradient_norm.value, norm)
        else:
            self.gradient_norm.assign(norm)

    def _backend_increment_gradient_accumulators(self, grads: Any, acc_grads: Any) -> None:
        if keras.config.backend() != "tensorflow":
            super()._backend_increment_gradient_accumulators(grads, acc_grads)
            return
        from kft.training import fused

        for gradient, accumulator in zip(grads, acc_grads, strict=True):
            fused.assign_add(accumulator.value, gradient)

    def _backend_reset_gradient_accumulators(self) -> None:
        if keras.config.backend() != "tensorflow":
            super()._backend_reset_gradient_accumulators()
            return
        from kft.training import fused

        for accumulator in self._accumulated_gradients:
            fused.assign(accumulator.value, ops.zeros(accumulator.shape, accumulator.dtype))

    def _apply_weight_decay(self, variables: Any) -> None:
        """Keras's decay; on TensorFlow it is part of the update."""
        if keras.config.backend() != "tensorflow":
            super()._apply_weight_decay(variables)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        if keras.config.backend() != "tensorflow":
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        from kft.training import fused

        indices = [self._get_variable_index(variable) for variable in trainable_variables]
        fused.adamw_step(
            [variable.value for variable in trainable_variables],
            [self._momentums[i].value for i in indices],
            [self._velocities[i].value for i in indices],
            grads,
            step=self.iterations + 1,
            learning_rate=learning_rate,
            factors=[self._factor(variable) for variable in trainable_variables],
            decays=[
                float(self.weight_decay or 0) if self._use_weight_decay(variable) else 0.0
                for variable in trainable_variables
            ],
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras's update of one variable, at its own rate."""
        super().update_step(gradient, variable, learning_rate * self._factor(variable))

    def _factor(self, variable: Any) -> float:
        return self.factors.get(self._trainable_variables[self._get_variable_index(variable)].path, 1.0)

    def _global_norm(self, grads: Any) -> Any:
        if keras.config.backend() == "tensorflow":
            from kft.training import fused

            return fused.global_norm(grads)
        return ops.sqrt(sum(ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in grads))


def adamw(
    recipe: Recipe, rate: WarmupDecay, trainable: list[Any], factors: Mapping[str, float], micro_batches: int = 1
) -> keras.optimizers.Optimizer:
    """AdamW on `trainable`, decaying kernels only: no biases, norms or embedding tables.

    Args:
        recipe: The knobs.
        rate: The learning rate as a function of the call.
        trainable: The variables to train.
        factors: What multiplies the rate of some of them, by path.
        micro_batches: Pieces that each batch is computed in.

    Reference:
        Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101
    """
    accumulated = recipe.gradient_accumulation_steps * micro_batches
    optimizer = FusedAdamW(
        rate,
        weight_decay=recipe.weight_decay,
        beta_1=recipe.adam_beta1,
        beta_2=recipe.adam_beta2,
        epsilon=recipe.adam_epsilon,
        global_clipnorm=recipe.max_grad_norm or None,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
    )
    optimizer.factors = dict(factors)
    optimizer.exclude_from_weight_decay(var_list=[v for v in trainable if not is_kernel(v)])
    if recipe.precision == "mixed_float16":
        # Keras wraps by itself only under a global policy.
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def is_kernel(variable: Any) -> bool:
    """Whether a variable is the matrix of a dense or attention layer."""
    return variable.path.rsplit("/", 1)[-1] == "kernel"


def gradient_norm(optimizer: Any) -> float:
    """The global norm of the latest call's gradients, before clipping; 0 before the first."""
    return float(ops.convert_to_numpy(_adamw(optimizer).gradient_norm))


def without_gradient(optimizer: Any) -> list[str] | None:
    """Trainable variables that no update has moved yet: those whose first moment is all zero, by path.

    None before the first update.
    """
    adam = _adamw(optimizer)
    if not int(ops.convert_to_numpy(adam.iterations)):
        return None
    moments = zip(adam._trainable_variables, adam._momentums, strict=True)
    return [variable.path for variable, moment in moments if not np.any(ops.convert_to_numpy(moment))]


def _adamw(optimizer: Any) -> FusedAdamW:
    """The AdamW inside the wrapper that Keras scales float16 losses with."""
    return getattr(optimizer, "inner_optimizer", optimizer)
