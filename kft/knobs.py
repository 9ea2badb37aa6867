"""What a knob is for: the group that it is listed in, and the tasks and values of other knobs that it is used with.

`kft.recipe` declares each with `knob`. Refusals, the sections of `kft fit --help`, the search space and docs/knobs.md
are read off these declarations.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

from kft.errors import quoted

TITLE = """# Knobs

Each knob has this name in Python (`kft.fit(rows, mask_rate=0.2)`), in a recipe file (`mask_rate: 0.2`) and, with
dashes, in a shell (`--mask-rate 0.2`). A knob that is set to another value than its default is refused where the task,
the preset or another knob leaves it without effect; the last column says what uses it.

This page is made from `kft/recipe`: `make knobs` writes it anew."""
Values = Mapping[str, Any]
"""The values of all knobs of a fit, by name."""


@dataclass(frozen=True)
class Use:
    """What a knob is for.

    Attributes:
        group: The section that it is listed in.
        tasks: The tasks that have it; none for all.
        only_with: Other knobs with the values, or patterns of them, one of which each must have.
        not_with: Other knobs with the values that they must not have.
    """

    group: str
    tasks: Sequence[str] = ()
    only_with: Mapping[str, Sequence[str]] = field(default_factory=dict)
    not_with: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def depends_on(self) -> set[str]:
        """The knobs whose values decide whether this one is used."""
        return {*self.only_with, *self.not_with}

    def why_unused(self, values: Values) -> str | None:
        """Why a knob of this use is not used beside these values; None where it is, or the task is not known yet.

        >>> Use("Generation", ["generate"]).why_unused({"task": "tag"})
        'is for task generate, not for tag'
        >>> Use("Generation", only_with={"decoding": ["beam"]}).why_unused({"task": "auto", "decoding": "greedy"})
        'is used with decoding=beam only, not with decoding=greedy'
        """
        if self.tasks and values["task"] not in ("auto", *self.tasks):
            *others, last = self.tasks
            owners = f"{', '.join(others)} and {last}" if others else last
            return f"is for task {owners}, not for {values['task']}"
        for name, known in self.only_with.items():
            if not any(fnmatch.fnmatchcase(_as_text(values[name]), pattern) for pattern in known):
                expected = " or ".join(f"{name}={value}" for value in known)
                return f"is used with {expected} only, not with {name}={_as_text(values[name])}"
        for name, excluded in self.not_with.items():
            if _as_text(values[name]) in excluded:
                return f"is not used with {name}={_as_text(values[name])}"
        return None

    def words(self) -> str:
        """The tasks and values that it is used with, for a table; empty where it is used always.

        >>> Use("Generation", ["generate"], {"decoding": ["beam"]}).words()
        'generate; with decoding=beam'
        """
        only = [f"with {name}={' or '.join(values)}" for name, values in self.only_with.items()]
        never = [f"not with {name}={' or '.join(values)}" for name, values in self.not_with.items()]
        return "; ".join([*filter(None, [", ".join(self.tasks)]), *only, *never])


def knob(group: str, default: Any, description: str, *, tasks: Sequence[str] = (),
         only_with: Mapping[str, Sequence[str]] | None = None, not_with: Mapping[str, Sequence[str]] | None = None,
         **limits: Any) -> Any:  # fmt: skip
    """A field of the Recipe.

    Args:
        group: As of `Use`, and so are `tasks`, `only_with` and `not_with`.
        default: The value of a fit that does not name it.
        description: What it does, for help and docs.
        tasks: See `group`.
        only_with: See `group`.
        not_with: See `group`.
        **limits: Of pydantic's Field, such as `ge=1`.
    """
    use = Use(group, list(tasks), only_with or {}, not_with or {})
    return Field(default, description=description, json_schema_extra=asdict(use), **limits)


def use_of(declared: FieldInfo) -> Use:
    """What `knob` was told of a field."""
    extra = declared.json_schema_extra
    assert isinstance(extra, dict), "each field of the Recipe is made by `knob`"
    return Use(**extra)  # type: ignore[arg-type]  # JSON's types are wider


def by_group(fields: Mapping[str, FieldInfo]) -> dict[str, dict[str, FieldInfo]]:
    """The fields of each group, groups and fields in the order of the declarations."""
    groups: dict[str, dict[str, FieldInfo]] = {}
    for name, declared in fields.items():
        groups.setdefault(use_of(declared).group, {})[name] = declared
    return groups


def unused(fields: Mapping[str, FieldInfo], values: Values) -> dict[str, str]:
    """By name a sentence for each knob that has another value than its default and is not used beside the others.

    Args:
        fields: All knobs.
        values: Theirs.
    """
    found = {}
    for name, declared in fields.items():
        if values[name] == declared.default:
            continue
        why = use_of(declared).why_unused(values)
        if why is not None:
            found[name] = f"{name}: found {quoted(values[name])}, but {name} {why}."
    return found


def table(fields: Mapping[str, FieldInfo]) -> str:
    """All knobs by group as tables of Markdown: docs/knobs.md."""
    lines = [TITLE]
    for group, members in by_group(fields).items():
        lines += ["", f"## {group}", "", "| knob | default | what it does | used by |", "|---|---|---|---|"]
        for name, declared in members.items():
            described, used_by = (
                text.replace("|", "\\|") for text in (declared.description or "", use_of(declared).words())
            )
            lines.append(f"| `{name}` | {default_text(declared)} | {described} | {used_by or 'all'} |")
    return "\n".join(lines) + "\n"


def default_text(declared: FieldInfo) -> str:
    """A default as help and docs write it."""
    return "none" if declared.default in (None, []) else str(declared.default)


def _as_text(value: Any) -> str:
    """A value as users write it.

    >>> _as_text(0.0), _as_text("beam")
    ('0', 'beam')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)
