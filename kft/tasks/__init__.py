"""The tasks kft knows. Adding one is a file beside this one and a line in `TASKS`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from kft.data import columns
from kft.data.table import Table
from kft.errors import DataError, RecipeError, did_you_mean
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

MANY_VALUES = 20


def find(name: str) -> Task:
    """The task of this name.

    Raises:
        RecipeError: No task is called so.
    """
    if name not in TASKS:
        raise RecipeError(f"unknown task {name!r}.{did_you_mean(name, TASKS)} Expected auto, {', '.join(TASKS)}.")
    return TASKS[name]


def decide(table: Table, given: Mapping[str, str | None]) -> tuple[Task, str]:
    """Reads the task off the columns: a label, or else questions about texts, events, tags, spans of a text, responses.

    Labels that are fractions, or more than 20 different numbers, are regressed. Lists are sets of labels. Ranks cannot
    be told from classes, so `ordinal` has to be asked for, and so have the tasks that no column gives away.

    Returns:
        The task and a sentence that says what was decided and why.
    """
    if any(given.get(column.name) for column in GENERATE.columns):
        return GENERATE, _why(GENERATE, columns.choose(table, GENERATE.columns, given))
    try:
        chosen = columns.choose(table, CLASSIFY.columns, given)
    except DataError:
        if given.get("label"):  # the user knows that there is one
            raise
        for task in (ANSWER, EXTRACT, TAG, GENERATE):
            with contextlib.suppress(DataError):
                return task, _why(task, columns.choose(table, task.columns, given))
        raise
    values = table.rows[chosen["label"]]
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return MULTILABEL, f"multilabel, because {chosen['label']!r} holds lists"
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        stripped = pc.utf8_trim_whitespace(values.drop_null())
        is_number = pc.all(pc.match_substring_regex(stripped, r"^[-+]?\d+(\.\d+)?([eE][-+]?\d+)?$")).as_py()
        if not is_number:
            return CLASSIFY, f"classify, because {chosen['label']!r} holds text"
        values = pc.cast(stripped, pa.float64())
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return CLASSIFY, f"classify, because {chosen['label']!r} holds {values.type}"
    numbers = pc.drop_null(pc.cast(values, pa.float64()))
    has_fractions = bool(pc.any(pc.not_equal(numbers, pc.floor(numbers))).as_py())
    num_different = len(pc.unique(numbers))
    if has_fractions or num_different > MANY_VALUES:
        kind = "fractions" if has_fractions else f"{num_different} different numbers"
        return REGRESS, f"regress, because {chosen['label']!r} holds {kind}"
    return CLASSIFY, f"classify, because {chosen['label']!r} holds {num_different} different whole numbers"


def _why(task: Task, found: Mapping[str, str]) -> str:
    return f"{task.name}, because there are the columns {', '.join(map(repr, found.values()))}"
