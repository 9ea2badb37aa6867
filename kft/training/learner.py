"""The Learner: the one Keras model that trains. It sums the terms of an objective over the outputs of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from kft.losses.objective import Objective

LOSS_PREFIX = "term_"
"""What the names of the logs begin with that hold the loss of each term times its weight."""


class Latest(keras.metrics.Metric):
    """A number of the latest batch alone, summed over replicas, where Keras's own metrics are means over the epoch."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self.value = self.add_variable((), "zeros", name="value", aggregation="sum")

    def update_state(self, value: Any) -> None:
        self.value.assign(ops.cast(value, self.value.dtype))

    def result(self) -> Any:
        return ops.convert_to_tensor(self.value)  # JAX does not take the variable itself


class Learner(keras.Model):
    """Trains a network: batches of `({stream: features}, {stream: targets}, {term: weights})` by an objective.

    Args:
        network: From token features to named outputs; every stream goes through it.
        objective: What is minimised.
        first_update: Updates of the weights that were made before by other optimizers.
    """

    def __init__(self, network: keras.Model, objective: Objective, first_update: int = 0):
        super().__init__(name="learner")
        self.network, self.first_update = network, first_update
        self.objective = objective
        self.latest = [Latest(LOSS_PREFIX + term.name) for term in objective.terms]
        self.num_updates: Any = None
        self.built = True  # the network is

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        return {name: self.network(features, training=training) for name, features in inputs.items()}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The sum of the terms, each of them computed once and kept for the logs."""
        total = 0.0
        num_updates = self.optimizer.iterations if self.num_updates is None else self.num_updates
        for term, latest in zip(self.objective.terms, self.latest, strict=True):
            loss = term.of_batch(y_pred[term.stream], y[term.stream], sample_weight[term.name])
            loss = term.weight_at(num_updates, self.first_update) * loss
            latest.update_state(loss)
            total = total + loss
        return total

    def compute_loss_and_updates(self, *arguments: Any, optimizer_variables: Any = None, **settings: Any) -> Any:
        """Keras's for JAX, where the loss sees no variable of the optimizer: the count of its updates is handed on."""
        if optimizer_variables is not None:
            place = [id(variable) for variable in self.optimizer.variables].index(id(self.optimizer.iterations))
            self.num_updates = optimizer_variables[place]
        found = super().compute_loss_and_updates(*arguments, optimizer_variables=optimizer_variables, **settings)
        self.num_updates = None
        return found


class RowValues(keras.Model):
    """Numbers of each row, such as losses, that are computed from outputs and targets and never held with them.

    Call arguments:
        inputs: `features`, `targets` and `is_real` of a batch, as `feed.to_evaluate` gives them.

    Args:
        network: From token features to named outputs.
        values: By name, (outputs, targets, `(rows,)` whether each row is real) to `(rows,)` numbers.
    """

    def __init__(self, network: keras.Model, values: Mapping[str, Callable[[Any, Any, Any], Any]]):
        super().__init__(name="row_values")
        self.network = network
        self.values_by_name = dict(values)
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        outputs = self.network(inputs["features"], training=False)
        return {
            name: value(outputs, inputs["targets"], inputs["is_real"]) for name, value in self.values_by_name.items()
        }
