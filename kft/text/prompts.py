"""How prompts are written: a conversation as one text, and what stands between a prompt and its response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ROLES = ("system", "user", "assistant")
HEADS = {role: f"\n\n{role.capitalize()}:\n" for role in ROLES}
# It ends in a line break, so that a response begins as a line does, and its first word is the token it is elsewhere.
SEPARATOR = HEADS["assistant"]


def split(messages: Sequence[Mapping[str, str]]) -> tuple[str, str | None]:
    """A conversation as a prompt and the response to it, the last turn if that is the assistant's.

    Each turn is headed by its role. Only a first turn of system or user stands bare, so that a conversation of one
    question is written as that question is.

    Args:
        messages: `{"role", "content"}` of each turn.

    Returns:
        The prompt, without the separator, and the response; None where the last turn is not the assistant's.

    >>> ask = [{"role": "user", "content": "Tea?"}]
    >>> split([*ask, {"role": "assistant", "content": "Please."}])
    ('Tea?', 'Please.')
    >>> split([{"role": "system", "content": "Be brief."}, *ask])
    ('Be brief.\\n\\nUser:\\nTea?', None)
    """
    *before, last = messages
    is_answered = last["role"] == "assistant"
    prompt = "".join(
        ("" if place == 0 and turn["role"] != "assistant" else HEADS[turn["role"]]) + turn["content"]
        for place, turn in enumerate(before if is_answered else messages)
    )
    return prompt, last["content"] if is_answered else None
