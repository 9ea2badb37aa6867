"""The tasks kft knows. Adding one is a file beside this one and a line in `TASKS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from kft.data import columns, listed, targets
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

GUESSED = (CLASSIFY, ANSWER, EXTRACT, TAG, GENERATE)
"""The tasks that columns give away, in the order in which they are looked for."""
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

    Columns that the user names decide: only tasks that have all of them are asked. Labels that are fractions, or more
    than 20 different numbers, are regressed. Lists are sets of labels. Ranks cannot be told from classes, so `ordinal`
    has to be asked for, and so have the tasks that no column gives away.

    Returns:
        The task and a sentence that says what was decided and why.

    Raises:
        DataError: A column is not there, or none is found that a task needs.
        RecipeError: No task has all the columns that are given, or several that cannot be told apart do.
    """
    names = [name for name, column in given.items() if column]
    able = [task for task in TASKS.values() if {*names} <= {column.name for column in task.columns}]
    if not able:
        raise RecipeError(_no_task_for(names, given))
    guessed = [task for task in GUESSED if task in able]
    if not guessed:
        if len(able) > 1:
            raise RecipeError(
                f"the columns that are given ({_given(names, given)}) are those of several tasks: "
                f"{', '.join(task.name for task in able)}. Say which: task=… (--task)."
            )
        return able[0], _why(able[0], columns.choose(table, able[0].columns, given))
    refusals = []
    for task in guessed:
        try:
            chosen = columns.choose(table, task.columns, given)
        except DataError as error:
            refusals.append(error)
            continue
        if task is CLASSIFY:
            return _by_labels(table, chosen["label"])
        return task, _why(task, chosen)
    raise refusals[0]


def _by_labels(table: Table, name: str) -> tuple[Task, str]:
    """The task of rows with labels, by what the label column holds."""
    values = table.rows[name]
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return MULTILABEL, f"multilabel, because {name!r} holds lists"
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        if listed.spells_lists(values, targets.ELEMENTS):
            return MULTILABEL, f"multilabel, because {name!r} holds lists, written as text"
        stripped = pc.utf8_trim_whitespace(values.drop_null())
        is_number = pc.all(pc.match_substring_regex(stripped, r"^[-+]?\d+(\.\d+)?([eE][-+]?\d+)?$")).as_py()
        if not is_number:
            return CLASSIFY, f"classify, because {name!r} holds text"
        values = pc.cast(stripped, pa.float64())
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return CLASSIFY, f"classify, because {name!r} holds {values.type}"
    numbers = pc.drop_null(pc.cast(values, pa.float64(), safe=False))
    has_fractions = bool(pc.any(pc.not_equal(numbers, pc.floor(numbers))).as_py())
    num_different = len(pc.unique(numbers))
    if has_fractions or num_different > MANY_VALUES:
        kind = "fractions" if has_fractions else f"{num_different} different numbers"
        return REGRESS, f"regress, because {name!r} holds {kind}"
    return CLASSIFY, f"classify, because {name!r} holds {num_different} different whole numbers"


def check_given(task: Task, given: Mapping[str, str | None]) -> None:
    """Refuses columns that are given though the task has none of that name.

    Raises:
        RecipeError: Names them, and the columns of the task.
    """
    known = [column.name for column in task.columns]
    for name, column in given.items():
        if column and name not in known:
            raise RecipeError(
                f"{name}: found {column!r}, but task {task.name} has no {name}.{did_you_mean(name, known)} Expected "
                f"only: {', '.join(known)}. Leave it out, or ask for another task."
            )


def _no_task_for(names: Sequence[str], given: Mapping[str, str | None]) -> str:
    owners = {name: [t.name for t in TASKS.values() if name in [c.name for c in t.columns]] for name in names}
    which = "; ".join(f"{name} is of {', '.join(found)}" for name, found in owners.items())
    return (
        f"the columns that are given ({_given(names, given)}) belong to no one task: {which}. Leave some out, or say "
        "which task with task=… (--task)."
    )


def _given(names: Sequence[str], given: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name}={given[name]!r}" for name in names)


def _why(task: Task, found: Mapping[str, str]) -> str:
    return f"{task.name}, because there are the columns {', '.join(map(repr, found.values()))}"
