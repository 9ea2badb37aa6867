"""A model made ready for `model.fit`, and how its steps are planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kft.data import feed, streams
from kft.data.store import Store
from kft.data.streams import Step, Stream
from kft.losses.objective import Objective
from kft.recipe import Recipe
from kft.training import inference, optimizers, schedules
from kft.training.accumulation import Windows
from kft.training.devices import Devices
from kft.training.learner import Learner
from kft.training.spans import Span, spans_of
from kft.training.variables import Part
from kft.transfer.rules import Rule, plain


@dataclass(frozen=True)
class Trainer:
    """A model made ready for `model.fit`, and how its batches are planned.

    Attributes:
        learner: The compiled model: a network, which shares its layers with the task model, and an objective.
        devices: Where it computes.
        recipe: The knobs.
        rate: The learning rate as a function of the step.
        span: The steps of the stage that it trains in.
        whole: The network that names variables in checkpoints: of the same layers, and the same in all stages.
    """

    learner: Learner
    devices: Devices
    recipe: Recipe
    rate: schedules.WarmupDecay
    span: Span
    whole: keras.Model

    @property
    def windows(self) -> Windows:
        """Which batches of its stage make up an update of the weights, and which pieces a batch."""
        return self.span.windows

    @property
    def network(self) -> keras.Model:
        """Token features to named outputs."""
        return self.learner.network

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self.learner.objective

    @property
    def micro_batches(self) -> int:
        """Pieces that each batch is computed in, one after the other, where memory is short."""
        return self.windows.pieces

    @property
    def saved(self) -> Any:
        """The network as checkpoints hold it: in a stage before the last with all that trains later."""
        return self.network if self.whole is self.network else Part(self.whole, self.network, not self.span.is_last)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step of the fit."""
        return self.rate.at(step - self.span.first_step)

    def plan(self, sources: Mapping[str, Stream], epoch: int) -> list[Step]:
        """The steps of one epoch."""
        return plan({name: stream.store for name, stream in sources.items()}, self.recipe, self.devices, epoch)

    def feed(
        self, sources: Mapping[str, Stream], part: list[Step], totals: Mapping[str, np.ndarray], epoch: int = 0
    ) -> Any:
        """What `model.fit` takes for these steps.

        Args:
            sources: The rows by stream.
            part: The steps.
            totals: By term, what the weights of the rows of each step are divided by: `(steps,)`.
            epoch: The pass over the rows of the first stream, from 0.
        """
        return feed.for_keras(
            feed.to_train(
                sources,
                part,
                list(self.network.input),
                totals,
                {term.name: term.stream for term in self.objective.terms},
                epoch=epoch,
                pieces=self.micro_batches,
                multiple_of=self.devices.count,
            )
        )


def plan(stores: Mapping[str, Store], recipe: Recipe, devices: Devices, epoch: int) -> list[Step]:
    """The shuffled steps of one epoch, in the shapes these devices like."""
    return streams.plan(
        stores,
        dict.fromkeys(stores, recipe.batch_size),
        seed=recipe.seed,
        epoch=epoch,
        fixed_lengths={name: inference.shapes(store, devices) for name, store in stores.items()},
        multiple_of=devices.count,
    )


def prepare(
    network: keras.Model,
    objective: Objective,
    recipe: Recipe,
    devices: Devices,
    *,
    peak: float,
    batches_per_epoch: int,
    rule_of: Callable[[Any], Rule] = plain,
    micro_batches: int = 1,
    fused: bool = True,
    span: Span | None = None,
    whole: keras.Model | None = None,
) -> Trainer:
    """Compiles a network for training. Call inside the devices' scope.

    Args:
        network: Token features to named outputs, frozen where it should be; shares its layers with the task model.
        objective: What is minimised.
        recipe: The knobs.
        devices: Where to compute.
        peak: The peak learning rate.
        batches_per_epoch: Batches in one pass over the rows.
        rule_of: From a trainable variable to what happens to it.
        micro_batches: Pieces that each batch is computed in.
        fused: Whether TensorFlow's kernel updates the weights, on that backend.
        span: The stage that it trains in; None: the whole fit.
        whole: See `Trainer`; None: the network itself.
    """
    span = span or spans_of(recipe, batches_per_epoch, micro_batches=micro_batches)[0]
    rate = schedules.schedule(recipe, peak, span.windows)
    learner = Learner(network, objective, span.first_update)
    learner.compile(
        optimizer=optimizers.adamw(recipe, rate, network.trainable_variables, rule_of, fused=fused),
        jit_compile=devices.jit_compile,
    )
    learner.optimizer.build(network.trainable_variables)
    return Trainer(learner, devices, recipe, rate, span, network if whole is None else whole)
