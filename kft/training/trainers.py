"""A model made ready for `model.fit`, and how its steps are planned."""

from __future__ import annotations

import sys
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
from kft.transfer.rules import Rule, plain


@dataclass(frozen=True)
class Trainer:
    """A model made ready for `model.fit`, and how its batches are planned.

    Attributes:
        learner: The compiled model: a network, which shares its layers with the task model, and an objective.
        devices: Where it computes.
        recipe: The knobs.
        rate: The learning rate as a function of the step.
        windows: Which batches make up an update of the weights, and which pieces a batch.
    """

    learner: Learner
    devices: Devices
    recipe: Recipe
    rate: schedules.WarmupDecay
    windows: Windows

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


def total_steps(recipe: Recipe, batches_per_epoch: int) -> int:
    """Batches of a whole fit."""
    return min(batches_per_epoch * recipe.epochs, recipe.max_steps or sys.maxsize)


def windows_of(recipe: Recipe, batches_per_epoch: int, micro_batches: int = 1) -> Windows:
    """Which batches of a fit make up each update, and which calls of the optimizer a batch."""
    total = total_steps(recipe, batches_per_epoch)
    return Windows(batches_per_epoch, total, recipe.gradient_accumulation_steps, micro_batches)


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
    """
    windows = windows_of(recipe, batches_per_epoch, micro_batches)
    rate = schedules.schedule(recipe, peak, windows)
    learner = Learner(network, objective)
    learner.compile(
        optimizer=optimizers.adamw(recipe, rate, network.trainable_variables, rule_of, fused=fused),
        jit_compile=devices.jit_compile,
    )
    learner.optimizer.build(network.trainable_variables)
    return Trainer(learner, devices, recipe, rate, windows)
