"""YAML and JSON that people write: plain values without aliases, within limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kft import untrusted
from kft.errors import KftError, quoted

MAX_BYTES = 2**20
MAX_DEPTH = 20
TIMESTAMP, MERGE = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge"


def read(path: Path, error: type[KftError]) -> Any:
    """The value in a file of JSON if its name ends in .json, and of YAML otherwise.

    Raises:
        KftError: Of the kind `error`: it cannot be read, or is not such a file.
    """
    text = untrusted.read_text(path, error, max_bytes=MAX_BYTES, is_given=True)
    if path.suffix == ".json":
        return untrusted.parse_json(text, Any, str(path), error)
    return parse_yaml(text, str(path), error)


def parse_yaml(text: str, where: str, error: type[KftError]) -> Any:
    """The value of a YAML document: no aliases, no tags, no dates, no key twice, 20 levels at most.

    Raises:
        KftError: Of the kind `error`, with line and column; the message begins with `where`.

    >>> parse_yaml("{a: 1, b: [x, 2026-02-31]}", "here", KftError)
    {'a': 1, 'b': ['x', '2026-02-31']}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as refused:
        mark = refused.problem_mark or refused.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise error(f"{where}{place}: not valid YAML: {refused.problem or refused.context}") from None
    except (yaml.YAMLError, ValueError) as refused:
        # A number of thousands of digits.
        raise error(f"{where}: not valid YAML: {refused}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without what lets a small text become a large or another value."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (TIMESTAMP, MERGE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        mark = event.start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not taken", mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, f"tags ({quoted(event.tag)}) are not taken", mark)
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep=deep)
        if len(found) < len(node.value):
            keys: list[Any] = []
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if key in keys:
                    problem = f"found the key {quoted(key)} twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                keys.append(key)
        return found
