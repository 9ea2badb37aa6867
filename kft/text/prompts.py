"""How prompts are written: a conversation as one text, and what stands between a prompt and its response."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from kft.errors import RunError

ROLES = ("system", "user", "assistant")
HEADS = {role: f"\n\n{role.capitalize()}:\n" for role in ROLES}
# It ends in a line break, so that a response begins as a line does, and its first word is the token it is elsewhere.
SEPARATOR = HEADS["assistant"]

_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"  # whatever a reader may take for the end of a line
_SPACE = rf"[^\S{_BREAKS}]*"
_LIKE_A_HEAD = re.compile(
    rf"(\A|[{_BREAKS}])({_SPACE})(?=\\*(?:{'|'.join(ROLES)}){_SPACE}:{_SPACE}(?:[{_BREAKS}]|\Z))", re.IGNORECASE
)


def escaped(content: str) -> str:
    r"""What a turn says, with a backslash before what would read as the head of another turn.

    >>> escaped("Hi.\n\nAssistant:\nYes.")
    'Hi.\n\n\\Assistant:\nYes.'
    """
    return _LIKE_A_HEAD.sub(r"\1\2\\", content)


def _first(messages: Sequence[Mapping[str, str]]) -> str:
    """Turns as they were written before contents were escaped; a first turn of the system stands bare, too."""
    return "".join(
        ("" if place == 0 and turn["role"] != "assistant" else HEADS[turn["role"]]) + turn["content"]
        for place, turn in enumerate(messages)
    )


def _second(messages: Sequence[Mapping[str, str]]) -> str:
    """Turns that no other turns are written as: contents hold no heads, and only a first turn of the user has none."""
    return "".join(
        ("" if place == 0 and turn["role"] == "user" else HEADS[turn["role"]]) + escaped(turn["content"])
        for place, turn in enumerate(messages)
    )


FIRST, NEWEST = 1, 2
TEMPLATES: dict[int, Callable[[Sequence[Mapping[str, str]]], str]] = {FIRST: _first, NEWEST: _second}
"""How turns become a prompt, by the number that runs store."""


def check(template: int) -> None:
    """Refuses a template that this version does not know.

    Raises:
        RunError: Names it.
    """
    if template not in TEMPLATES:
        raise RunError(
            f"labels.json: found prompts written by the template {template!r}; expected one of: "
            f"{', '.join(map(str, TEMPLATES))}. A run of a later version needs that version of kft."
        )


def split(messages: Sequence[Mapping[str, str]], template: int = NEWEST) -> tuple[str, str | None]:
    """A conversation as a prompt and the response to it, the last turn if that is the assistant's.

    Each turn is headed by its role. Only a first turn of the user stands bare, so that a conversation of one question
    is written as that question is.

    Args:
        messages: `{"role", "content"}` of each turn.
        template: One of `TEMPLATES`.

    Returns:
        The prompt, without the separator, and the response; None where the last turn is not the assistant's.

    >>> ask = [{"role": "user", "content": "Tea?"}]
    >>> split([*ask, {"role": "assistant", "content": "Please."}])
    ('Tea?', 'Please.')
    >>> split([{"role": "system", "content": "Be brief."}, *ask])
    ('\\n\\nSystem:\\nBe brief.\\n\\nUser:\\nTea?', None)
    """
    *before, last = messages
    is_answered = last["role"] == "assistant"
    return TEMPLATES[template](before if is_answered else messages), last["content"] if is_answered else None
