"""Knobs of earlier tasks: what is measured and kept of them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pydantic

from kft.knobs import knob
from kft.recipe.sections import Section
from kft.task_names import Retain

earlier = functools.partial(knob, "Earlier tasks")


class ForgettingKnobs(Section):
    """Earlier tasks: what is measured and kept of them."""

    retain: list[Retain] = earlier(
        [],
        "Rows of earlier tasks, scored before and after the fit: [{data: FILE, run: RUN, name: NAME}]. The run is the "
        "one that preset names where none is given; without any the texts are scored by the preset's own language "
        "model. A file alone is taken for data.",
        not_with={"preset": ["scratch:bert", "scratch:gpt2"]},
    )

    @pydantic.field_validator("retain", mode="before")
    @classmethod
    def _one_or_several_earlier(cls, value: Any) -> Any:
        several = list(value) if isinstance(value, list | tuple) else [value]
        return [{"data": str(one)} if isinstance(one, str | Path) else one for one in several]
