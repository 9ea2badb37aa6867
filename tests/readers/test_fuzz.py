"""Whatever a reader is given, it gives rows or one clear line; KFT_FUZZ_EXAMPLES asks for more examples."""

import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data import clean
from kft.data.columns import Column
from kft.data.table import ROW
from kft.errors import KftError
from kft.readers import inputs
from kft.readers.formats import SUFFIXES, read

FUZZ = settings.get_profile("fuzz")
# What means something to a reader, in any order, and what breaks text.
PIECES = {
    ".csv": ["text", ",", '"', '""', "\n", "\r", "\r\n", ";", " ", "label", "a,b\n", "\ufeff", "__row__", "\x1a"],
    ".tsv": ["text", "\t", '"', '""', "\n", "\r", "label", "a\tb\n", "a\t\n", '"a\tb"\n', "\ufeff"],
    ".jsonl": [
        '{"text": "a"}\n',
        '{"a": [1, "b"]}',
        "{",
        "}",
        "[",
        "null",
        "\n",
        "1e999",
        "9" * 30,
        '"\\ud800"',
        "NaN",
    ],
    ".json": ['[{"text": "a"}', ",", "]", "[", '{"a": {"b": [1]}}', "{", "}", "null", "\n", ":", '"data"', "-1"],
    ".conll": ["Ann B-PER\n", "in O\n", "\n", "#", "# O\n", "# part1\n", "\t", " ", "-DOCSTART-", "a b c\n", "\x85"],
    ".conllu": ["1\tTea" + "\t_" * 8 + "\n", "2\ta" + "\t_" * 8 + "\n", "1-2", "1.1", "\t_", "\n", "# text = a\n", "²"],
    ".parquet": ["PAR1", "\x15\x04", "\0\0\0\0"],
}
QUESTION = {"id": "1", "question": "b", "answers": [{"text": "tea", "answer_start": 0}], "is_impossible": False}
SQUAD = {"data": [{"title": "a", "paragraphs": [{"context": "tea", "qas": [QUESTION]}]}]}
TEXT = (
    st.text() | st.text(st.characters(codec=None)) | st.sampled_from(["", " ", "a\0b", "\ud800", "1.0", "[]", "['a']"])
)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=4) | st.dates()
CELL = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.sampled_from(["text", "start", "end", "label", "role", "content", "trigger", "type"]), inner
        )
    ),
    max_leaves=6,
)
NEAR = {
    "spans": [{"start": 0, "end": 1, "label": "A"}, [0, 1, "A"]],
    "marks": [{"start": 0, "end": 1, "label": "A"}],
    "events": [{"type": "a", "trigger": {"start": 0, "end": 1}, "arguments": [{"role": "b", "start": 0, "end": 1}]}],
    "answers": [{"text": "a", "answer_start": 0}, {"text": ["a"], "answer_start": [0]}, "a"],
    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    "words": ["a", "b"],
    "choices": ["a", "b"],
}


def outcome(work):
    """The result of a piece of work, or None where it is refused as it should be."""
    try:
        return work()
    except KftError as error:
        assert str(error).isprintable() and len(str(error)) < 3000
        return None


def rows_of(source):
    table = outcome(lambda: read(source))
    if table is not None:
        assert len(table) and table.names() and len(table.texts(ROW)) == len(table)
    return table


def mutated(draw, content):
    """The same bytes with a piece cut out, doubled, or other bytes put in."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 20)))
    return (
        content[:start] + draw(st.sampled_from([b"", content[start:end] * 2]) | st.binary(max_size=4)) + content[end:]
    )


@pytest.mark.parametrize("ending", sorted({".txt", *PIECES} & {*SUFFIXES}))
@FUZZ
@given(st.data(), st.booleans())
def test_any_file_is_rows_or_one_line(tmp_path, ending, data, zipped):
    pieces = st.sampled_from(PIECES.get(ending, PIECES[".tsv"])).map(str.encode) | st.binary(max_size=3)
    content = b"".join(data.draw(st.lists(pieces, max_size=20)))
    if zipped and ending != ".parquet":
        ending, content = f"{ending}.gz", gzip.compress(content, mtime=0)
        content = mutated(data.draw, content) if data.draw(st.booleans()) else content
    path = tmp_path / f"rows{ending}"
    path.write_bytes(content)
    rows_of(path)


@FUZZ
@given(st.data())
def test_a_damaged_parquet_file_is_rows_or_one_line(tmp_path, data):
    path = tmp_path / "rows.parquet"
    values = data.draw(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.just(0), min_size=1))
    pq.write_table(pa.table({"text": [f"a{v}" for v in values], "label": values}), path)
    path.write_bytes(mutated(data.draw, path.read_bytes()))
    rows_of(path)


@FUZZ
@given(st.data())
def test_squad_with_anything_in_it_is_rows_or_one_line(tmp_path, data):
    squad = json.loads(json.dumps(SQUAD))
    place = squad
    for _ in range(data.draw(st.integers(1, 8))):
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=2)))
            break
        place = place[key]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(squad, default=str), encoding="utf-8", errors="surrogatepass")
    rows_of(path)


@FUZZ
@given(st.lists(st.dictionaries(TEXT | st.integers() | st.none(), CELL, max_size=3), max_size=4))
def test_any_dicts_are_rows_or_one_line(rows):
    rows_of(rows)
    rows_of({"text": [str(row) for row in rows], "label": rows})


@FUZZ
@given(st.lists(CELL, min_size=1, max_size=4), st.sampled_from([0, None, "", "text", "text\udc80", ("a", 1)]))
def test_any_frame_is_rows_or_one_line(cells, name):
    frame = pd.DataFrame({"a": pd.Series(cells, dtype=object)})
    frame.columns = pd.Index([name], dtype=object, tupleize_cols=False)
    rows_of(frame)
    rows_of({"text": pd.Series(cells, dtype=object)})


@FUZZ
@given(st.one_of(CELL, st.lists(CELL, max_size=3), st.dictionaries(TEXT, CELL, max_size=2)), st.sampled_from([1, 2]))
def test_whatever_is_asked_is_rows_or_one_line(source, width):
    def ask(given_rows):
        found = inputs.rows(given_rows, ["text", "text_pair"][:width])
        return None if found is None else read(found)

    outcome(lambda: ask(source))
    outcome(lambda: ask(np.array([source, "a"], object) if not isinstance(source, list) else iter(source)))


@pytest.mark.parametrize("kind", clean.CONVERSIONS)
@FUZZ
@given(st.data())
def test_any_cells_become_one_type_or_one_line(kind, data):
    near = st.lists(st.sampled_from(NEAR[kind]), max_size=3) if kind in NEAR else SCALAR
    cells = data.draw(st.lists(CELL | near | near.map(repr), min_size=1, max_size=3))
    table = outcome(lambda: read({"text": ["ab"] * len(cells), "cell": cells}))
    if table is None:
        return
    found = outcome(lambda: clean.clean(table, [Column("cell", kind)]))
    if found is not None:
        assert len(found) == len(cells) and found.rows["cell"].null_count == 0
