"""What users call: each refuses first what it can without TensorFlow, which is loaded only then."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Unpack

from kft import early
from kft.keywords import Knobs
from kft.recipe import Recipe

if TYPE_CHECKING:
    from kft.dataset import Dataset
    from kft.run import Run
    from kft.training.forecast import Forecast


def fit(train: Any, *, quiet: bool = False, **knobs: Unpack[Knobs]) -> Run:
    """Fine-tunes a pretrained model on rows of text.

    Args:
        train: A file (.csv .tsv .jsonl .json .parquet), a pandas or pyarrow table, a list of dicts, a Hugging Face
            dataset, a `tf.data.Dataset`, or the name of a benchmark such as `glue:sst2`.
        quiet: Nothing on the screen.
        **knobs: The fields of `kft.Recipe` by name. `validation` and `test` may also be rows, as `train`.

    Returns:
        The finished run, with its metrics.

    Raises:
        KftError: Of the kind that says what is wrong: recipe, data, preset, run directory, devices, training.
    """
    early.refuse(*early.split_rows(train, knobs))
    from kft import workflow  # TensorFlow takes seconds

    return workflow.fit(train, quiet=quiet, **knobs)


def check(train: Any, **knobs: Unpack[Knobs]) -> Dataset:
    """Reads, maps, cleans and splits the rows of a fit without training, and returns what a fit would see.

    Raises:
        KftError: As `fit` would, before any training.
    """
    early.refuse(*early.split_rows(train, knobs), is_out_a_run=False)
    from kft import workflow  # TensorFlow takes seconds

    return workflow.check(train, **knobs)


def plan(train: Any, **knobs: Unpack[Knobs]) -> Forecast:
    """What a fit with these knobs would do and cost: rows, lengths, steps, parameters, devices, time and memory."""
    early.refuse(*early.split_rows(train, knobs), is_out_a_run=False)
    from kft import workflow  # TensorFlow takes seconds

    return workflow.plan(train, **knobs)


def _documented_knobs() -> inspect.Signature:
    """fit's signature with every knob of the Recipe and its default, for `help()` and editors."""
    own = [p for p in inspect.signature(fit).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    fields = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
        for name, field in Recipe.model_fields.items()
        if name != "train"
    ]
    return inspect.Signature([*own, *fields], return_annotation="Run")


fit.__signature__ = _documented_knobs()  # type: ignore[attr-defined]
