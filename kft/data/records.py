"""Answers as plain records: one dict a row, as `predict` gives them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def records(
    answers: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, Any]]:
    """Answers as one dict of plain Python values a row.

    A number for each of some names becomes `{name: number}`, another list of numbers a list. Of several strings the
    empty ones are left out, which only fill the list up. Answers called `entities.text` and `entities.start` become one
    list of dicts, as long as there are texts in it; those of `events.arguments.role` lists in such dicts. Those of a
    further head, as `urgency/value`, stand in a dict of its name.

    Args:
        answers: By name, `(rows, …)`.
        names: By answer, what the numbers of a row stand for, as the classes of `scores`.

    >>> records({"label": np.array([b"no"]), "scores": np.array([[0.25, 0.75]])}, {"scores": ["yes", "no"]})
    [{'label': 'no', 'scores': {'yes': 0.25, 'no': 0.75}}]
    >>> records({"labels": np.array([[b"no", b""]])})
    [{'labels': ['no']}]
    >>> records({"label": np.array([b"no"]), "urgency/value": np.array([0.5])})
    [{'label': 'no', 'urgency': {'value': 0.5}}]
    >>> records({"spans.text": np.array([[b"tea", b""]]), "spans.start": np.array([[4, 0]])})
    [{'spans': [{'text': 'tea', 'start': 4}]}]
    """
    heads = dict.fromkeys(name.partition("/")[0] for name in answers if "/" in name)
    if heads:
        own = records({name: values for name, values in answers.items() if "/" not in name}, names)
        further = {head: records(of_head(answers, head), of_head(names or {}, head)) for head in heads}
        return [{**row, **{head: rows[place] for head, rows in further.items()}} for place, row in enumerate(own)]
    columns: dict[str, list[Any]] = {}
    for name, values in answers.items():
        plain = _plain(values.tolist())
        if names is not None and name in names:
            columns[name] = [dict(zip(names[name], row, strict=True)) for row in plain]
        elif "." not in name and values.ndim == 2 and values.dtype.kind in "SO":
            columns[name] = [[text for text in row if text] for row in plain]
        else:
            columns[name] = plain
    return [_nested(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def of_head(values: Mapping[str, Any], head: str) -> dict[str, Any]:
    """The values of a further head, by the names that it has by itself.

    >>> of_head({"label": 1, "urgency/value": 2}, "urgency")
    {'value': 2}
    """
    return {name.removeprefix(f"{head}/"): value for name, value in values.items() if name.startswith(f"{head}/")}


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values whose names share what stands before a dot, as one list of dicts."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        group, dot, member = name.partition(".")
        if dot:
            nested.setdefault(group, {})[member] = value
        else:
            nested[name] = value
    dotted = {name.partition(".")[0] for name in values if "." in name}
    return {name: _dicts(value) if name in dotted else value for name, value in nested.items()}


def _dicts(lists: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Lists of equal length as dicts, up to the first empty string."""
    members = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    return [_nested(one) for one in itertools.takewhile(lambda one: "" not in one.values(), members)]


def _plain(value: Any) -> Any:
    """Bytes in nested lists as text."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode("utf-8") if isinstance(value, bytes) else value
