"""The tasks kft knows. Adding one is a file beside this one and a line in `TASKS`."""

from __future__ import annotations

from collections.abc import Mapping

from kft.data import task_columns
from kft.tasks import beside
from kft.tasks.answer import ANSWER
from kft.tasks.choose import CHOOSE
from kft.tasks.classify import CLASSIFY
from kft.tasks.embed import EMBED
from kft.tasks.extract import EXTRACT
from kft.tasks.fewshot import FEWSHOT
from kft.tasks.generate import GENERATE
from kft.tasks.joint import JOINT
from kft.tasks.multilabel import MULTILABEL
from kft.tasks.ordinal import ORDINAL
from kft.tasks.pretrain import PRETRAIN
from kft.tasks.regress import REGRESS
from kft.tasks.relate import RELATE
from kft.tasks.tag import TAG
from kft.tasks.task import Task

TASKS: dict[str, Task] = {
    "answer": ANSWER,
    "choose": CHOOSE,
    "classify": CLASSIFY,
    "embed": EMBED,
    "extract": EXTRACT,
    "fewshot": FEWSHOT,
    "generate": GENERATE,
    "joint": JOINT,
    "multilabel": MULTILABEL,
    "ordinal": ORDINAL,
    "pretrain": PRETRAIN,
    "regress": REGRESS,
    "relate": RELATE,
    "tag": TAG,
}


def find(name: str, heads: Mapping[str, str] | None = None) -> Task:
    """The task of this name.

    Args:
        name: Of the task.
        heads: By the name of each further head, that of its task.

    Raises:
        RecipeError: No task is called so.
    """
    for one in (name, *(heads or {}).values()):
        task_columns.require_known(one)
    return beside.with_heads(TASKS[name], {head: TASKS[one] for head, one in (heads or {}).items()})
