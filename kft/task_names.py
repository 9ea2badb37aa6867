"""The names of the tasks, as users write them, and what they say of further heads and of earlier tasks.

The tasks themselves are not imported here, since they bring in TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from kft.errors import quoted

TASKS = (
    *("answer", "choose", "classify", "embed", "extract", "fewshot", "generate", "joint", "multilabel", "ordinal"),
    *("pretrain", "regress", "relate", "tag"),
)
"""The names of the tasks."""
HUB_TASKS: dict[str, dict[str, str]] = {
    "text-classification": {"task": "classify"},
    "token-classification": {"task": "tag"},
    "question-answering": {"task": "answer"},
    "multiple-choice": {"task": "choose"},
    "fill-mask": {"task": "pretrain", "pretrain_objective": "mlm"},
    "sentence-similarity": {"task": "embed"},
    "feature-extraction": {"task": "embed"},
    "summarization": {"task": "generate"},
    "translation": {"task": "generate"},
    "text-generation": {"task": "generate"},
    "text2text-generation": {"task": "generate"},
}
"""The Hugging Face Hub's names of tasks, and the knobs that each stands for."""
MAIN = "main"
"""What stands for the task's own head beside those of `aux`."""
AUX_NAME = r"[a-z][a-z0-9_]{0,23}"
"""Names of heads of `aux`."""
ANSWERS = ("label", "labels", "score", "scores", "value")
"""What the task's own head answers under: a head of such a name would stand in the place of one."""


class Aux(pydantic.BaseModel):
    """A further head beside the task's own, that learns another column of the same rows.

    Attributes:
        task: What it learns: classify, regress, multilabel or ordinal.
        label: Its column.
        name: What its outputs, metrics and losses are called. By default that is the name of the column.
        weight: What its loss is multiplied by.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: Literal["classify", "regress", "multilabel", "ordinal"]
    label: str = pydantic.Field(min_length=1)
    name: str = ""
    weight: float = pydantic.Field(1.0, gt=0, le=1e6)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        """With the column's name where there is none, and the Hub's name of the task as kft's."""
        if not isinstance(values, Mapping):
            return values
        task, name = values.get("task"), values.get("name") or values.get("label", "")
        meant = HUB_TASKS.get(task, {}).get("task", task) if isinstance(task, str) else task
        if isinstance(name, str) and (not re.fullmatch(AUX_NAME, name) or name in (MAIN, *ANSWERS)):
            raise ValueError(
                f"{quoted(name)} cannot be the name of a head: expected up to 24 small letters, digits and _, a letter "
                f"first, and none of {', '.join((MAIN, *ANSWERS))}. Give it another, as in {{task: regress, "
                "label: COLUMN, name: urgency}"
            )
        return {**values, "task": meant, "name": name}


KEPT_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""Names of the heads of earlier tasks."""


class Retain(pydantic.BaseModel):
    """Rows of an earlier task, which are scored before and after a fit.

    Attributes:
        data: A file or a benchmark, with the columns that the earlier run was trained on.
        run: The run that learnt the task; by default the one that `preset` names.
        name: What the task is called. By default that is the name of the run's directory.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    data: str = pydantic.Field(min_length=1)
    run: str | None = pydantic.Field(None, min_length=1)
    name: str | None = pydantic.Field(None, pattern=f"^{KEPT_NAME}$")
