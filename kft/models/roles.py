"""What the linear layers of a network are for, in the words that users name them by."""

from __future__ import annotations

from collections.abc import Sequence

ROLES = {
    "query": "queries of attention",
    "key": "keys of attention",
    "value": "values of attention",
    "output": "what attention gives, projected back",
    "position": "relative positions as keys, in XLNet",
    "feed-forward": "the layers after attention",
    "pooler": "what sums a row up",
    "embeddings": "embeddings projected to the width of the blocks",
}
ALL = "all"
_IN_ATTENTION = {
    **{"query": "query", "q": "query", "key": "key", "k": "key", "value": "value", "v": "value"},
    **{"output": "output", "o": "output"},
}


def in_attention(name: str) -> tuple[str, ...]:
    """The roles of a layer inside attention, by its name; several where one layer gives several.

    >>> in_attention("query"), in_attention("k_dense_layer"), in_attention("attention_output"), in_attention("encoding")
    (('query',), ('key',), ('output',), ('position',))
    >>> in_attention("query_key_value")
    ('query', 'key', 'value')
    """
    found = tuple(_IN_ATTENTION[word] for word in name.split("_") if word in _IN_ATTENTION)
    return found or ("position",)


def parsed(targets: str | Sequence[str]) -> str:
    """Roles as a recipe holds them, from a text with + between them, or a list.

    Raises:
        ValueError: One is unknown, or there is none.

    >>> parsed(["query", "value"]), parsed(" all ")
    ('query+value', 'all')
    """
    names = [name.strip() for name in (targets.split("+") if isinstance(targets, str) else targets)]
    known = [*ROLES, ALL]
    if not names or any(name not in known for name in names):
        raise ValueError(f"expected some of {', '.join(known)}, with + between them, as in query+value")
    return "+".join(dict.fromkeys(names))


def named(targets: str) -> tuple[str, ...]:
    """The roles in such a text.

    >>> named("query+value"), len(named("all"))
    (('query', 'value'), 8)
    """
    names = targets.split("+")
    return tuple(ROLES) if ALL in names else tuple(names)
