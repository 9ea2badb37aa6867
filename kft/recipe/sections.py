"""The sections that knobs are listed in, in the words of `kft fit --help` and docs, and limits of all knobs."""

from __future__ import annotations

import functools
from typing import Any

import pydantic

from kft.knobs import knob

LARGEST = 10**12
"""What no knob that counts goes beyond."""
MOST_RATE = 10.0
"""The highest learning rate that is taken."""
SCRATCH = {"preset": ("scratch:*",)}

model = functools.partial(knob, "Task and model")
lora = functools.partial(knob, "Adapters", only_with={"transfer": ("lora:*", "*+lora:*", "*+ lora:*")})
rows = functools.partial(knob, "Rows and splits")
classes = functools.partial(knob, "Classes")
vectors = functools.partial(knob, "Vectors of texts")
pretraining = functools.partial(knob, "Pretraining", tasks=("pretrain",))
generation = functools.partial(knob, "Generation", tasks=("generate",))
optimisation = functools.partial(knob, "Optimisation")
selection = functools.partial(knob, "Model selection and checkpoints")
machine = functools.partial(knob, "Devices, precision and seed")
output = functools.partial(knob, "Output")


def column(description: str, *tasks: str) -> Any:
    """A knob that names a column of the rows."""
    return knob("Columns", None, description, tasks=tasks)


class Section(pydantic.BaseModel):
    """Knobs that belong together; the Recipe has those of all sections."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @pydantic.field_validator("*")
    @classmethod
    def _within_reach(cls, value: Any) -> Any:
        if isinstance(value, int) and value > LARGEST:
            raise ValueError(f"expected {LARGEST:,} at most")
        members = [*value] if isinstance(value, list | dict) else [value]
        texts = [
            text for one in members for text in (dict(one).values() if isinstance(one, pydantic.BaseModel) else [one])
        ]
        for text in texts:
            if not isinstance(text, str):
                continue
            if "\0" in text or not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise ValueError("expected text of UTF-8 without NUL")
        return value
