"""What the stages of a fit train and cost, foreseen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras

from kft.data.batches import Batch
from kft.tasks.task import never_anew
from kft.training import schedules
from kft.training.forecast import StagePlan, Work, memory_mb_of, parameters, work_of
from kft.training.staging import Common
from kft.transfer import prefix, rules


@dataclass(frozen=True)
class Cost:
    """What one stage costs.

    Attributes:
        work: Of all its steps and validations.
        memory_mb: For weights, optimizer and activations.
    """

    work: Work
    memory_mb: float


def of(
    common: Common,
    costly: Sequence[Batch],
    num_validated: int,
    shapes: int,
    number: int,
    network: keras.Model | None = None,
    saved: float | None = None,
) -> Cost:
    """The cost of one stage; a stage that is not ready yet is frozen as it will be, and left so.

    Args:
        common: What the stages have in common.
        costly: The batches of one epoch, each text of a row as a row.
        num_validated: Tokens of the validation rows.
        shapes: Programs that are compiled.
        number: Of the stage, from 0.
        network: What trains, where the stage is ready.
        saved: The share of a forward pass that is computed once for each row, where it is ready.
    """
    if network is None:
        rules.freeze(common.blocks, common.stages[number].rules)
    if saved is None:
        saved = _saved(common, number)
    network = network or common.plain
    epochs = common.spans[number].windows.total / len(costly)
    work = work_of(common.model, network, costly, epochs, num_validated, shapes, saved)
    return Cost(work, memory_mb_of(common.model, network, costly, saved))


def _saved(common: Common, number: int) -> float:
    """The share of a forward pass that a stage will be spared by its prefix cache, by the graph alone."""
    if not common.recipe.cache_features or common.problem.examples.collate is not never_anew:
        return 0.0
    is_trained = prefix.trained_in(common.blocks, common.stages[number].rules)
    cut = prefix.cut_of(common.plain, is_trained)
    kept = cut if isinstance(cut, str) else prefix.keeping(cut, list(common.stores["train"].offsets))
    return 0.0 if isinstance(kept, str) else kept.saved


def parameters_of(common: Common) -> tuple[int, int]:
    """How many parameters train in the last stage, and how many are frozen."""
    rules.freeze(common.blocks, common.stages[-1].rules)
    return parameters(common.model)


def planned(common: Common) -> tuple[StagePlan, ...]:
    """What trains in each stage; none where there is one."""
    if len(common.stages) == 1:
        return ()
    plans, known = [], set()
    for stage, span in zip(common.stages, common.spans, strict=True):
        variables = {path: v for block in common.blocks for path, v in block.variables.items()}
        trained = {path: rule for path, rule in stage.rules.items() if not rule.frozen}
        begun = [b.name for b in common.blocks if b.name not in known and not trained.keys().isdisjoint(b.variables)]
        known |= {*begun}
        of_rates = [common.peak * rule.rate for rule in trained.values()]
        steps = span.first_step + span.windows.total
        rate = schedules.schedule(common.recipe, common.peak, span.windows)
        plans.append(
            StagePlan(
                (span.epoch + 1, -(-steps // span.windows.batches_per_epoch)),
                (span.first_step + 1, steps),
                span.windows.num_updates,
                rate.warmup_updates,
                sum(math.prod(variables[path].shape) for path in trained),
                tuple(begun),
                (min(of_rates), max(of_rates)),
            )
        )
    return tuple(plans)
