"""Lists that are written as text in one cell: as JSON, as Python and pandas write them, or as NumPy does."""

import ast
import json
import math
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MOST_LEVELS = 50
"""The deepest nesting; real cells have a few levels, and recursion must end before Python's own limit."""
MOST_DIGITS = 400

TOKEN = re.compile(
    r"""(?P<space>\s*)(?:
        (?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
      | (?P<call>(?:array|list|np\.\w+)\()
      | (?P<name>[A-Za-z][\w.]*)
      | (?P<mark>[][(){},:=])
    )""",
    re.VERBOSE,
)
NAMES = {
    **dict.fromkeys(("None", "null", "NaT"), None),
    **dict.fromkeys(("True", "true", "np.True_"), True),
    **dict.fromkeys(("False", "false", "np.False_"), False),
    **dict.fromkeys(("nan", "NaN", "np.nan"), math.nan),
}
CLOSING = {"[": "]", "(": ")", "{": "}"}

Token = tuple[str, str, bool]
"""What kind it is of, as it is written, and whether white space stands before it."""
END: Token = ("end", "", False)


def parse(text: str) -> Any:
    """The list or dict that a text spells, whole; nothing in it is evaluated.

    Tuples become lists. NumPy's lists have spaces in place of commas; one that was cut with `...` is refused.

    Raises:
        ValueError: It spells none; says why.

    >>> parse('["a", null]'), parse("[(0, 5, 'PER')]"), parse("['a' 'b']")
    (['a', None], [[0, 5, 'PER']], ['a', 'b'])
    >>> parse("{'text': array(['tea'], dtype=object), 'answer_start': array([5])}")
    {'text': ['tea'], 'answer_start': [5]}
    """
    if text.lstrip()[:1] not in CLOSING:
        raise ValueError("it begins with no bracket")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        tokens = _tokens(text)
    value, position = _value(tokens, 0, 0)
    if tokens[position] is not END:
        raise ValueError(f"{_quoted(tokens[position])} follows its end")
    return value


def parse_tuple(text: str) -> Any:
    """The list that a text in round brackets spells as Python writes it, or the text: much else stands in brackets.

    >>> parse_tuple("('tea', 'soup')"), parse_tuple("(1, 2)"), parse_tuple("(about 1990)")
    (['tea', 'soup'], '(1, 2)', '(about 1990)')
    """
    try:
        value = parse(text)
    except ValueError:
        return text
    return value if value and isinstance(value[0], str | list | dict) else text


def spells_lists(column: pa.ChunkedArray, kinds: tuple[type, ...]) -> bool:
    """Whether a text column holds lists written as text, so that each of its cells has to be one.

    It does if one cell spells a list that begins with one of `kinds` (another one may be plain words, as `[ 1 ]`), or
    if every cell looks like a list without quotes, as `[a, b]`.

    Args:
        column: Of any type; only text is looked at.
        kinds: Types of the elements, as `(str,)` for words.
    """
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    enclosed = pc.fill_null(pc.match_substring_regex(column, r"(?s)^\s*(\[.*\]|\(.*\))\s*$"), False)
    if any(_begins_with(text.as_py(), kinds) for text in column.filter(enclosed)):
        return True
    unquoted = pc.match_substring_regex(column, r"(?s)^\s*\[[^\s,].*,.*\S\]\s*$")
    return len(column) > 0 and bool(pc.all(pc.fill_null(unquoted, False)).as_py())


def _begins_with(text: str, kinds: tuple[type, ...]) -> bool:
    try:
        value = parse(text)
    except ValueError:
        return False
    return isinstance(value, list) and bool(value) and isinstance(value[0], kinds)


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = TOKEN.match(text, position)
        if match is None:
            rest = text[position:].lstrip()
            cut = "it was cut at '...', so what is left out is lost" if rest.startswith("...") else None
            raise ValueError(cut or f"no list goes on with {rest[:20]!r}")
        kind = str(match.lastgroup)
        found.append((kind, match[kind], bool(match["space"])))
        position = match.end()
    return [*found, END]


def _value(tokens: list[Token], position: int, level: int) -> tuple[Any, int]:
    """The value that begins at a token, and the position after it."""
    if level > MOST_LEVELS:
        raise ValueError(f"its lists stand more than {MOST_LEVELS} deep in one another")
    kind, token, _ = tokens[position]
    if kind == "call":
        return _called(tokens, position + 1, level)
    if kind == "mark" and token in CLOSING:
        return _enclosed(tokens, position + 1, level, CLOSING[token])
    return _scalar(tokens[position]), position + 1


def _scalar(found: Token) -> Any:
    kind, token, _ = found
    if kind == "text":
        return token[1:-1] if "\\" not in token else _unescaped(token)
    if kind == "number" and len(token) <= MOST_DIGITS:
        return int(token) if token.lstrip("+-").isdecimal() else float(token)
    if kind == "name" and token in NAMES:
        return NAMES[token]
    raise ValueError(f"found {_quoted(found)} where a number or a text in quotes was expected")


def _unescaped(token: str) -> str:
    try:
        return str(ast.literal_eval(token))
    except (ValueError, SyntaxError):
        raise ValueError(f"{token[:20]!r} has an escape that Python does not have") from None


def _called(tokens: list[Token], position: int, level: int) -> tuple[Any, int]:
    """The first argument of `array([…], dtype=…)`, `list([…])` or `np.int64(…)`."""
    value, position = _value(tokens, position, level + 1)
    while tokens[position][1] != ")":
        if tokens[position] is END or tokens[position][1] in ("(", "[", "{"):
            raise ValueError(f"found {_quoted(tokens[position])} where an array was expected to end")
        position += 1
    return value, position + 1


def _enclosed(tokens: list[Token], position: int, level: int, closing: str) -> tuple[Any, int]:
    """The elements up to a closing bracket, and the position after it; a dict where it is a brace."""
    is_dict, is_numpy = closing == "}", False
    keys: list[str] = []
    values: list[Any] = []
    while tokens[position][:2] != ("mark", closing):
        value, position = _value(tokens, position, level + 1)
        if is_dict:
            if not isinstance(value, str) or tokens[position][:2] != ("mark", ":"):
                raise ValueError("the keys of a dict were expected to be texts, each with a colon after it")
            keys.append(value)
            value, position = _value(tokens, position + 1, level + 1)
        values.append(value)
        if tokens[position][:2] == ("mark", closing):
            if closing == ")" and len(values) == 1 and tokens[position - 1][1] != ",":
                raise ValueError("brackets around a single value make no list")
            break
        has_comma = tokens[position][:2] == ("mark", ",")
        if len(values) == 1:  # the first pair says how it is written
            is_numpy = not has_comma and closing == "]" and tokens[position][2]
        if has_comma is is_numpy:
            raise ValueError(f"found {_quoted(tokens[position])} where a comma or {closing} was expected")
        position += has_comma
    return (dict(zip(keys, values, strict=True)) if is_dict else values), position + 1


def _quoted(token: Token) -> str:
    return repr(token[1][:20]) if token is not END else "the end"
