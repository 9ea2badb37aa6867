"""AdamW as the recipe asks for it: a rule for each variable, weight decay on kernels only, clipping, accumulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, saving

from kft.recipe import Recipe
from kft.training.accumulation import Windows
from kft.training.schedules import WarmupDecay
from kft.transfer.rules import Rule, plain


@saving.register_keras_serializable(package="kft")
class FusedAdamW(keras.optimizers.AdamW):
    """Keras's AdamW with a rule for each variable, and TensorFlow's fused kernel for the update on that backend.

    The gradients of the calls that make up an update are summed, not averaged: weights of rows say what each counts.

    Args:
        learning_rate: A number, or a function of the call.
        windows: Which calls make up an update; None where each is one.
        fused: Whether TensorFlow's kernel makes the update, on that backend; otherwise Keras does.
        **settings: Of Keras's AdamW.

    Attributes:
        rules: What happens to each variable, in their order; set before `build`. Empty: all train at the learning rate.
        gradient_norm: The global norm of the gradients of the latest update, so far as they came, before clipping.
    """

    rules: Sequence[Rule] = ()

    def __init__(
        self, learning_rate: Any = 0.001, *, windows: Windows | None = None, fused: bool = True, **settings: Any
    ):
        most_calls = windows.most_calls if windows else 1
        # Keras makes the variables that gradients are summed in.
        super().__init__(learning_rate, gradient_accumulation_steps=most_calls if most_calls > 1 else None, **settings)
        self.windows, self.fused = windows or Windows(1, 1), fused and keras.config.backend() == "tensorflow"

    def build(self, variables: list[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self.gradient_norm = self.add_variable((), aggregation="only_first_replica", name="gradient_norm")
        self.num_updates = self.add_variable((), dtype="int32", aggregation="only_first_replica", name="num_updates")

    @property
    def iterations(self) -> Any:
        """Updates made, where Keras counts calls: what the bias of Adam's moments is corrected by."""
        return self.num_updates if self.built else self._iterations

    def without_gradient(self) -> list[str]:
        """Variables that no update has moved yet: those whose first moment is all zero, by path.

        Those whose first gradient is zero in any case are left out.
        """
        moments = zip(self._trainable_variables, self._momentums, strict=True)
        idle = [variable for variable, moment in moments if not np.any(ops.convert_to_numpy(moment))]
        return [variable.path for variable in idle if not self._rule(variable).is_later]

    def skip(self) -> None:
        """Counts a call whose gradients cannot be used; where it is the last of its update, the others' are applied."""
        if self.gradient_accumulation_steps:
            sums = [accumulator + 0.0 for accumulator in self._accumulated_gradients]
            norm = self._global_norm(sums)
            self._update_if(ops.logical_and(self._is_last_call(), norm > 0.0), sums, norm, self._trainable_variables)
        self._iterations.assign_add(1)

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        """Keras's update, of the sum over replicas and calls: on TensorFlow it would clip each replica's share."""
        if keras.config.backend() == "tensorflow":
            from kft.accelerate import fused_adam

            grads = fused_adam.summed(grads, trainable_variables)
        sums = self._accumulate(grads, trainable_variables) if self.gradient_accumulation_steps else grads
        norm = self._global_norm(sums)
        self._set(self.gradient_norm, norm)  # in each call, so that what is not finite is seen before a checkpoint
        if self.gradient_accumulation_steps:
            self._update_if(self._is_last_call(), sums, norm, trainable_variables)
        else:
            self._update(sums, norm, trainable_variables)

    def _is_last_call(self) -> Any:
        return self.windows.is_last(ops.convert_to_tensor(self._iterations))

    def _accumulate(self, grads: Any, trainable_variables: Any) -> list[Any]:
        """Adds gradients to those of the update so far, and gives the sums."""
        accumulators = [self._accumulated_gradients[self._get_variable_index(v)] for v in trainable_variables]
        if keras.config.backend() == "tensorflow":
            from kft.accelerate import fused_adam

            return [fused_adam.added(a.value, gradient) for a, gradient in zip(accumulators, grads, strict=True)]
        for accumulator, gradient in zip(accumulators, grads, strict=True):
            accumulator.assign(accumulator + gradient)
        return [ops.convert_to_tensor(accumulator) for accumulator in accumulators]

    def _update_if(self, is_due: Any, sums: list[Any], norm: Any, trainable_variables: Any) -> None:
        """The update, and sums that begin anew, if an update is due."""

        def update() -> None:
            self._update(sums, norm, trainable_variables)
            for accumulator in self._accumulated_gradients:
                self._set(accumulator, ops.zeros(accumulator.shape, accumulator.dtype))

        if keras.config.backend() != "jax":
            ops.cond(is_due, update, lambda: None)
            return
        # In JAX a branch sets no variables: both outcomes are there, and one is chosen.
        state = [*trainable_variables, *self.variables]
        before = [variable.value for variable in state]
        update()
        for variable, value in zip(state, before, strict=True):
            variable.assign(ops.where(is_due, variable.value, value))

    def _update(self, grads: Any, norm: Any, trainable_variables: Any) -> None:
        """Clips gradients of this global norm, and updates the weights."""
        if self.global_clipnorm:
            # A norm of NaN or infinity makes every gradient NaN, so that no half of the update is lost in silence.
            scale = ops.minimum(1.0, self.global_clipnorm / norm) + (norm - norm)
            grads = [gradient * ops.cast(scale, gradient.dtype) for gradient in grads]
        self._apply_weight_decay(trainable_variables)
        self._backend_update_step(grads, trainable_variables, self.learning_rate)
        self._set(self.num_updates, self.num_updates + 1)

    def _set(self, variable: Any, value: Any) -> None:
        if keras.config.backend() == "tensorflow":
            from kft.accelerate import fused_adam

            fused_adam.assign(variable.value, value)
        else:
            variable.assign(value)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Keras's decay, at each variable's own rate; where the update is fused it is part of it."""
        if self.fused:
            return
        for variable in variables:
            share = self._shrinkage(self._rule(variable), self._decays(variable), self.learning_rate)
            if share is not None:
                variable.assign(variable * ops.cast(1.0 - share, variable.dtype))

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        if not self.fused:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        from kft.accelerate import fused_adam

        learning_rate = ops.cast(learning_rate, "float32")
        indices = [self._get_variable_index(variable) for variable in trainable_variables]
        rules = [self._rule(variable) for variable in trainable_variables]
        decays = [self._decays(variable) for variable in trainable_variables]
        rates = {rule: learning_rate * rule.rate for rule in set(rules)}
        # One small graph for all variables of a kind.
        shrinkages = {kind: self._shrinkage(*kind, learning_rate) for kind in set(zip(rules, decays, strict=True))}
        fused_adam.adamw_step(
            [variable.value for variable in trainable_variables],
            [self._momentums[i].value for i in indices],
            [self._velocities[i].value for i in indices],
            grads,
            step=self.iterations + 1,
            rates=[rates[rule] for rule in rules],
            shrinkages=[shrinkages[kind] for kind in zip(rules, decays, strict=True)],
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras's update of one variable, at its own rate."""
        super().update_step(gradient, variable, learning_rate * self._rule(variable).rate)

    def _rule(self, variable: Any) -> Rule:
        return self.rules[self._get_variable_index(variable)] if self.rules else Rule()

    def _decays(self, variable: Any) -> bool:
        return bool(self.weight_decay and self._rule(variable).decay and self._use_weight_decay(variable))

    def _shrinkage(self, rule: Rule, decays: bool, learning_rate: Any) -> Any:
        """The share of themselves that variables of this rule lose by weight decay in this update; None for none."""
        if not decays:
            return None
        return learning_rate * rule.rate * self.weight_decay

    def _global_norm(self, grads: Any) -> Any:
        if keras.config.backend() == "tensorflow":
            from kft.accelerate import fused_adam

            return fused_adam.global_norm(grads)
        return ops.sqrt(sum(ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in grads))


class LossScaling(keras.optimizers.LossScaleOptimizer):
    """Keras's scaling of float16 losses, where a call whose gradients overflow is counted too.

    Keras leaves it out of the count, so that each update would end a call later than the rows that it is weighted by.
    """

    def _stateful_handle_non_finite_grads(self) -> None:
        super()._stateful_handle_non_finite_grads()
        self.inner_optimizer.skip()

    def _stateless_handle_non_finite_grads(self, optimizer_variables: Any, trainable_variables: Any) -> Any:
        own = [*self._trainable_variables, *self.variables]
        given = [*trainable_variables, *optimizer_variables]
        with keras.StatelessScope(state_mapping=list(zip(own, given, strict=True))) as scope:
            self._stateful_handle_non_finite_grads()
        found = [scope.get_current_value(variable) for variable in own]
        return found[: len(trainable_variables)], found[len(trainable_variables) :]


def adamw(
    recipe: Recipe,
    rate: WarmupDecay,
    trainable: list[Any],
    rule_of: Callable[[Any], Rule] = plain,
    *,
    fused: bool = True,
) -> keras.optimizers.Optimizer:
    """AdamW on `trainable`, each variable by its rule.

    Args:
        recipe: The knobs.
        rate: The learning rate as a function of the call, with the windows of the updates.
        trainable: The variables to train.
        rule_of: From one of them to what happens to it.
        fused: Whether TensorFlow's kernel makes the update, on that backend.

    Reference:
        Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101
    """
    optimizer = FusedAdamW(
        rate,
        windows=rate.windows,
        fused=fused,
        weight_decay=recipe.weight_decay,
        beta_1=recipe.adam_beta1,
        beta_2=recipe.adam_beta2,
        epsilon=recipe.adam_epsilon,
        global_clipnorm=recipe.max_grad_norm or None,
    )
    optimizer.rules = [rule_of(variable) for variable in trainable]
    if recipe.precision == "mixed_float16":
        # Keras wraps by itself only under a global policy.
        return LossScaling(optimizer)
    return optimizer
