"""Which columns each task needs of the rows, and which task the columns of a table ask for.

No TensorFlow stands here, so that rows which lack a column are refused before it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from kft.data import columns, listed, targets
from kft.data.columns import Column
from kft.data.table import Table
from kft.errors import DataError, RecipeError, did_you_mean

TEXT_GUESSES = (
    "text",
    "sentence",
    "sentence1",
    "content",
    "message",
    "review",
    "premise",
    "question1",
    "query",
    "#1 string",
)
PAIR_GUESSES = ("text_pair", "sentence2", "hypothesis", "question2", "#2 string")
LABEL_GUESSES = ("label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "quality")
NUMBER_GUESSES = ("label", "score", "value", "rating", "target", "stars", "similarity", "urgency", "price")
SIMILARITY_GUESSES = ("label", "score", "similarity", "similarity_score")
PROMPT_GUESSES = (
    *("prompt", "instruction", "input", "source", "article", "document", "dialogue", "dialog", "passage"),
    *("question", "text"),
)
RESPONSE_GUESSES = (
    *("response", "completion", "output", "target", "summary", "highlights", "abstract", "translation", "answer"),
)

MOST_CHOICES = 8
CHOICES = tuple(f"choice{number}" for number in range(1, MOST_CHOICES + 1))
_ONE_OR_TWO_TEXTS = (
    Column("text", "text", guesses=TEXT_GUESSES, repeats="together"),
    Column("text_pair", "text", required=False, guesses=PAIR_GUESSES, repeats="noted"),
)
_CLASSIFY = (*_ONE_OR_TWO_TEXTS, Column("label", "label", guesses=LABEL_GUESSES))
_TAG = (
    Column("text", "text", guesses=TEXT_GUESSES),
    Column("words", "words", required=False, guesses=("words", "tokens", "token"), instead_of="text"),
    Column("spans", "spans", guesses=("spans", "entities")),
    Column("tags", "tags", required=False, guesses=("tags", "ner_tags", "pos_tags", "upos", "pos"), instead_of="spans"),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "answer": (
        Column("question", "text", guesses=("question", "query")),
        Column("context", "text", guesses=("context", "passage", "paragraph", "document"), repeats="together"),
        Column("answers", "answers", guesses=("answers", "answer")),
    ),
    "choose": (
        Column("text", "text", guesses=(*TEXT_GUESSES, "question"), repeats="together"),
        *(
            Column(name, "text", required=False, guesses=(name, f"choice_{number}", f"option{number}"))
            for number, name in enumerate(CHOICES, 1)
        ),
        Column("choices", "choices", required=False, guesses=("choices", "options"), instead_of="choice1"),
        Column("label", "label", guesses=("label", "answer", "correct")),
    ),
    "classify": _CLASSIFY,
    "embed": (
        Column("text", "text", guesses=("anchor", *TEXT_GUESSES), repeats="together"),
        Column("text_pair", "text", guesses=("positive", *PAIR_GUESSES), repeats="noted"),
        Column("negative", "text", required=False, guesses=("negative", "hard_negative")),
        Column("label", "number", required=False, guesses=SIMILARITY_GUESSES),
    ),
    "extract": (
        Column("text", "text", guesses=TEXT_GUESSES),
        Column("events", "events", guesses=("events",)),
    ),
    "fewshot": _CLASSIFY,
    "generate": (
        Column("prompt", "text", guesses=PROMPT_GUESSES),
        Column("messages", "messages", required=False, guesses=("messages", "conversation"), instead_of="prompt"),
        Column("input", "addition", required=False, guesses=("input", "context"), beside=("prompt", "instruction")),
        Column("response", "response", guesses=RESPONSE_GUESSES, within="messages"),
    ),
    "joint": (*_TAG, Column("label", "label", guesses=("intent", *LABEL_GUESSES))),
    "multilabel": (*_ONE_OR_TWO_TEXTS, Column("label", "labels", guesses=LABEL_GUESSES)),
    "ordinal": (*_ONE_OR_TWO_TEXTS, Column("label", "label", guesses=NUMBER_GUESSES)),
    "pretrain": (Column("text", "text", guesses=TEXT_GUESSES),),
    "regress": (*_ONE_OR_TWO_TEXTS, Column("label", "number", guesses=NUMBER_GUESSES)),
    "relate": (
        Column("text", "text", guesses=TEXT_GUESSES),
        Column("spans", "marks", required=False, guesses=("spans", "entities")),
        Column("label", "label", guesses=("relation", *LABEL_GUESSES)),
    ),
    "tag": _TAG,
}
"""The columns of each task by its name."""
GUESSED = ("classify", "answer", "extract", "tag", "generate")
"""The tasks that columns give away, in the order in which they are looked for."""
MANY_VALUES = 20


def require_known(task: str) -> None:
    """Refuses a task that kft does not have.

    Raises:
        RecipeError: No task is called so.
    """
    if task not in COLUMNS:
        raise RecipeError(f"unknown task {task!r}.{did_you_mean(task, COLUMNS)} Expected auto, {', '.join(COLUMNS)}.")


def decide(table: Table, given: Mapping[str, str | None]) -> tuple[str, str]:
    """Reads the task off the columns: a label, or else questions about texts, events, tags, spans of a text, responses.

    Columns that the user names decide: only tasks that have all of them are asked. Labels that are fractions, or more
    than 20 different numbers, are regressed. Lists are sets of labels. Ranks cannot be told from classes, so `ordinal`
    has to be asked for, and so have the tasks that no column gives away.

    Returns:
        The name of the task, and a sentence that says what was decided and why.

    Raises:
        DataError: A column is not there, or none is found that a task needs.
        RecipeError: No task has all the columns that are given, or several that cannot be told apart do.
    """
    names = [name for name, column in given.items() if column]
    able = [task for task, needed in COLUMNS.items() if {*names} <= {column.name for column in needed}]
    if not able:
        raise RecipeError(_no_task_for(names, given))
    guessed = [task for task in GUESSED if task in able]
    if not guessed:
        if len(able) > 1:
            raise RecipeError(
                f"the columns that are given ({_given(names, given)}) are those of several tasks: "
                f"{', '.join(able)}. Say which: task=… (--task)."
            )
        return able[0], _why(able[0], columns.choose(table, COLUMNS[able[0]], given))
    refusals = []
    for task in guessed:
        try:
            chosen = columns.choose(table, COLUMNS[task], given)
        except DataError as error:
            refusals.append(error)
            continue
        return _by_labels(table, chosen["label"]) if task == "classify" else (task, _why(task, chosen))
    raise refusals[0]


def _by_labels(table: Table, name: str) -> tuple[str, str]:
    """The task of rows with labels, by what the label column holds."""
    values = table.rows[name]
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return "multilabel", f"multilabel, because {name!r} holds lists"
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        if listed.spells_lists(values, targets.ELEMENTS):
            return "multilabel", f"multilabel, because {name!r} holds lists, written as text"
        stripped = pc.utf8_trim_whitespace(values.drop_null())
        is_number = pc.all(pc.match_substring_regex(stripped, r"^[-+]?\d+(\.\d+)?([eE][-+]?\d+)?$")).as_py()
        if not is_number:
            return "classify", f"classify, because {name!r} holds text"
        values = pc.cast(stripped, pa.float64())
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return "classify", f"classify, because {name!r} holds {values.type}"
    numbers = pc.drop_null(pc.cast(values, pa.float64(), safe=False))
    has_fractions = bool(pc.any(pc.not_equal(numbers, pc.floor(numbers))).as_py())
    num_different = len(pc.unique(numbers))
    if has_fractions or num_different > MANY_VALUES:
        kind = "fractions" if has_fractions else f"{num_different} different numbers"
        return "regress", f"regress, because {name!r} holds {kind}"
    return "classify", f"classify, because {name!r} holds {num_different} different whole numbers"


def _no_task_for(names: Sequence[str], given: Mapping[str, str | None]) -> str:
    owners = {name: [task for task, known in COLUMNS.items() if name in [c.name for c in known]] for name in names}
    which = "; ".join(f"{name} is of {', '.join(found)}" for name, found in owners.items())
    return (
        f"the columns that are given ({_given(names, given)}) belong to no one task: {which}. Leave some out, or say "
        "which task with task=… (--task)."
    )


def _given(names: Sequence[str], given: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name}={given[name]!r}" for name in names)


def _why(task: str, found: Mapping[str, str]) -> str:
    return f"{task}, because there are the columns {', '.join(map(repr, found.values()))}"
