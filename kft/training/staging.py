"""The stages of a fit made ready: for each its frozen layers cut off, its network optimised and compiled, its rows."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import keras

from kft.accelerate import overrides, passes, sparse_embeddings
from kft.accelerate.internals import layers_of
from kft.data.store import Store
from kft.data.streams import Stream
from kft.models.anatomy import Block
from kft.recipe import Recipe
from kft.tasks.task import Problem, never_anew
from kft.training import devices, prefix_cache, random_state, trainers
from kft.training.devices import Devices
from kft.training.fitted import Fitted
from kft.training.prefix_cache import Frontier
from kft.training.spans import Span
from kft.training.trainers import Trainer
from kft.transfer import prefix, rules
from kft.transfer.stages import Stage


@dataclass(frozen=True)
class Common:
    """What the stages of a fit have in common.

    Attributes:
        recipe: The knobs.
        problem: What is learnt.
        model: The KerasHub task model.
        blocks: Of the model.
        stages: What trains in each.
        spans: The steps of each.
        plain: The network of the whole model, from token features to named outputs.
        stores: The tokens of each part.
        texts: The text columns.
        devices: Where it computes.
        peak: The peak learning rate.
    """

    recipe: Recipe
    problem: Problem
    model: keras.Model
    blocks: Sequence[Block]
    stages: Sequence[Stage]
    spans: Sequence[Span]
    plain: keras.Model
    stores: Mapping[str, Store]
    texts: Sequence[str]
    devices: Devices
    peak: float


@dataclass(frozen=True)
class Ready:
    """A stage made ready.

    Attributes:
        trainer: Its network, compiled for `model.fit`.
        fitted: The problem with the model and that network.
        frontier: What is kept of its frozen layers.
        decisions: Which passes its network has.
        streams: The rows of each part but test as its network reads them, after `keep`.
    """

    trainer: Trainer
    fitted: Fitted
    frontier: Frontier
    decisions: Sequence[passes.Decision]
    streams: dict[str, Stream] = field(default_factory=dict)

    def keep(self, whole: Mapping[str, Stream], note: Callable[[str], None]) -> None:
        """Computes what the frozen layers give for all that is trained and validated on, or finds it from before.

        Args:
            whole: The rows as the whole network reads them.
            note: Takes what the user should know.
        """
        cache = self.frontier.cache
        with random_state.undisturbed():
            for name, stream in whole.items():
                if name != "test":
                    store = stream.store if cache is None else cache.store(stream.store, note)
                    self.streams[name] = replace(stream, store=store)


class Stages:
    """The stages of a fit, of which one is ready at a time. Make and use it inside the devices' scope.

    Args:
        common: What they have in common.

    Attributes:
        current: The one that is ready; at first the first.
    """

    def __init__(self, common: Common):
        self.common = common
        # Passes give layers a `call` of their own, and have to see them in each stage as they were before.
        self._calls = overrides.calls_of([*layers_of(common.plain), *layers_of(common.model)])
        self.current = self._ready(0)

    def enter(self, number: int, note: Callable[[str], None] = lambda text: None) -> None:
        """Makes another stage ready, by the weights as they are. What the one before had is let go of.

        Raises:
            OutOfMemory: It does not fit.
        """
        sparse_embeddings.put_back(self.current.trainer.network)
        del self.current
        gc.collect()
        overrides.restore_calls(self._calls)
        with devices.memory_errors(lambda: f"stage {number + 1}: its optimizer does not fit into memory"):
            self.current = self._ready(number)
        told = {"prefix cache": self.current.frontier.text, "accelerate": passes.summary(self.current.decisions)}
        text = "; ".join(f"{name}: {value}" for name, value in told.items() if value)
        note(f"stage {number + 1} of {len(self.common.stages)}: {text}")

    def _ready(self, number: int) -> Ready:
        common, stage, span = self.common, self.common.stages[number], self.common.spans[number]
        recipe, chosen = common.recipe, common.devices
        rules.freeze(common.blocks, stage.rules)
        is_collated_anew = common.problem.examples.collate is not never_anew
        frontier = prefix_cache.frontier_of(
            common.plain,
            common.model,
            prefix.trained_in(common.blocks, stage.rules),
            [store for name, store in common.stores.items() if name != "test"],
            chosen,
            accelerate=recipe.accelerate,
            is_asked=recipe.cache_features,
            is_collated_anew=is_collated_anew,
        )
        facts = passes.Facts(
            frontier.network,
            common.model,
            chosen.backend,
            chosen.platform,
            [common.stores["train"]],
            is_collated_anew,
            chosen.count,
        )
        network, decisions = passes.applied(facts, recipe.accelerate)
        trainer = trainers.prepare(
            network,
            common.problem.objective,
            recipe,
            chosen,
            peak=common.peak,
            batches_per_epoch=span.windows.batches_per_epoch,
            rule_of=rules.rule_of(common.blocks, stage.rules, sparse_embeddings.parts_of(network)),
            fused=passes.is_applied(decisions, "fused_adam"),
            span=span,
            whole=common.plain if span.count > 1 else None,
        )
        fitted = Fitted(common.problem, common.model, lambda num_texts: network, common.texts, chosen)
        return Ready(trainer, fitted, frontier, decisions)
