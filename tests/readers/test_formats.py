"""Every source gives the same rows; every broken one is refused with its place."""

import csv
import gzip
import io
import json
import os
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kft.data.mapped import BLOCK_ROWS
from kft.data.table import ROW
from kft.errors import DataError
from kft.readers.formats import READERS, read

ROWS = [
    {"text": "plain", "label": "a"},
    {"text": 'says "hi", twice', "label": "b"},
    {"text": "two\nlines\tand a tab", "label": "a"},
    {"text": "日本語 ünï 🎈", "label": "b"},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "label")}


def csv_text(rows, delimiter=","):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["text", "label"])
    writer.writerows([row["text"], row["label"]] for row in rows)
    return out.getvalue()


def jsonl_text(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


TEXTS = {
    "rows.csv": csv_text(ROWS),
    "rows.tsv": csv_text(ROWS, "\t"),
    "rows.txt": csv_text(ROWS, "\t"),
    "rows.jsonl": jsonl_text(ROWS),
    "rows.ndjson": jsonl_text(ROWS),
    "rows.json": json.dumps(ROWS, indent=1),
}


def columns(table):
    return {name: table.texts(name) for name in table.names()}


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(source, **options):
    with pytest.raises(DataError) as caught:
        read(source, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_formats_give_the_same_rows(tmp_path, name, zipped, mark):
    content = mark + TEXTS[name].encode()
    path = write(tmp_path, name + ".gz" * zipped, gzip.compress(content) if zipped else content)
    table = read(path)
    assert columns(table) == COLUMNS
    assert table.source == str(path)


def test_row_numbers_are_the_lines_where_rows_begin(tmp_path):
    table = read(write(tmp_path, "rows.csv", 'text,label\r\n\r\n"a\r\nb",x\r\n\r\nc,y\r\n\r\n'))
    assert table.texts(ROW) == [3, 6]
    assert table.texts("text") == ["a\r\nb", "c"]
    assert table.where(1) == f"{tmp_path / 'rows.csv'}, row 6"
    table = read(write(tmp_path, "rows.json", '[\n {"text": "a"},\n\n {"text":\n "b"}]'))
    assert table.texts(ROW) == [2, 4]
    table = read(write(tmp_path, "rows.jsonl", '{"text": "a\u2028b"}\n\n{"label": "x"}\n'))
    assert table.texts(ROW) == [1, 3]
    assert table.texts("text") == ["a\u2028b", None]


def test_long_files_are_streamed_and_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    count = 2 * BLOCK_ROWS + 5
    content = "".join(json.dumps({"n": i if i < BLOCK_ROWS else str(i)}) + "\n" for i in range(count))
    table = read(write(tmp_path, "rows.jsonl", content))
    assert table.texts("n") == [str(i) for i in range(count)]
    assert table.texts(ROW) == list(range(1, count + 1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]
    picked = table.take(range(1, count))
    assert picked.texts("n") == [str(i) for i in range(1, count)]
    assert picked.take([2, 0]).texts(ROW) == [4, 2]
    assert picked.fingerprint() == read({"n": picked.texts("n")}).fingerprint() != table.fingerprint()


def test_long_fields_pass(tmp_path):
    text = "x" * 200_000
    assert read(write(tmp_path, "rows.csv", f"text\n{text}\n")).texts("text") == [text]


@given(
    st.lists(
        st.tuples(*[st.text(st.sampled_from("a\",\t\n\r ;'é🎈\u2028\x85\ufeff\\"), max_size=6)] * 2),
        min_size=1,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_csv_round_trip(tmp_path, pairs):
    rows = [{"text": text, "label": label} for text, label in pairs]
    table = read(write(tmp_path, "rows.csv", csv_text(rows)))
    assert list(zip(table.texts("text"), table.texts("label"), strict=True)) == pairs


GLUE = 'Quality\t#1 String\n1\t"Go on , " she said .\n0\tHe has a 5" disc .\n1\t"It is so\n0\tor not"\n'
STRAY_PAIR = 'first\tsecond\n"He said\tyes\nno"\tmaybe\n'


@pytest.mark.parametrize("content", [GLUE, STRAY_PAIR, GLUE.replace("\n", "\r\n")])
def test_stray_quotes_of_a_tsv_are_text(tmp_path, content):
    table = read(write(tmp_path, "rows.tsv", content))
    lines = [line.split("\t") for line in content.splitlines()]
    assert [list(row) for row in zip(*columns(table).values(), strict=True)] == lines[1:]
    assert "ordinary characters" in table.notes[0]


def test_well_formed_quotes_of_a_tsv_enclose_fields(tmp_path):
    table = read(write(tmp_path, "rows.tsv", 'text\tlabel\n"a\tb\nand\nc ""d"""\tx\n'))
    assert columns(table) == {"text": ['a\tb\nand\nc "d"'], "label": ["x"]}
    assert "quoted fields" in table.notes[0]
    assert read(write(tmp_path, "plain.tsv", "text\tlabel\nit's 5\" long\tx\n")).notes == ()


BROKEN = {
    "empty.csv": (b"", "is empty"),
    "blank.csv": (b"\n\n", "is empty"),
    "blank.json": (b" \n", "is empty"),
    "mark.csv": (b"\xef\xbb\xbf", "is empty"),
    "header.csv": (b"text,label\n", "has a header but no rows"),
    "empty.jsonl": (b"\n", "is empty"),
    "none.json": (b"[]", "is empty"),
    "double.csv": (b"text,label,text\n1,2,3\n", "columns 1 and 3 are both named 'text'"),
    "unnamed.csv": (b", \n1,2\n", "no column has a name"),
    "reserved.csv": (b"text,__row__\n1,2\n", "'__row__' is kept for row numbers"),
    "semicolon.csv": (b"text;label\na;b\n", "expected names with commas between them"),
    "commas.tsv": (b"text,label\na,b\n", "expected names with tabs between them"),
    "ragged.csv": (b"text,label\na,b\na,b,c\n", "row 3: found 3 fields, expected 2"),
    "short.tsv": (b"text\tlabel\na\tb\na\n", "row 3: found 1 field, expected 2"),
    "open.csv": (b'text,label\na,b\n"c,d\ne,f\n', "row 3: a quoted field opens here and is never closed"),
    "after.csv": (b'text,label\n"a"b,c\n', "row 2: text follows the closing quote"),
    "latin.csv": (b"text\nok\ncaf\xe9\n", "row 3: byte 0xe9 at byte offset 11 is not UTF-8"),
    "wide.csv": ("text\na\n".encode("utf-16"), "is UTF-16"),
    "wider.csv": ("text\na\n".encode("utf-32"), "is UTF-32"),
    "nul.csv": (b"text\na\na\0b\n", "row 3: holds a NUL byte"),
    "cut.jsonl": (b'{"text": "a"}\n{"text": \n', "row 2: is not valid JSON"),
    "deep.jsonl": (b"[" * 200_000, "row 1: is not valid JSON"),
    "array.jsonl": (b'[{"text": "a"}]\n', "row 1: is a JSON list"),
    "surrogate.jsonl": (
        b'{"text": "a"}\n{"text": "\\ud800"}\n',
        "row 2: column 'text' holds a lone surrogate",
    ),
    "cut.json": (b'[{"text": "a"},\n{"text"', "row 2: is not valid JSON"),
    "comma.json": (b'[{"text": "a"}\n{"text": "b"}]', "row 2: is not valid JSON; expected a comma"),
    "trailing.json": (b'[{"text": "a"},\n]', "row 2: is not valid JSON"),
    "more.json": (b'[{"text": "a"}] x', "text follows the closing ]"),
    "lines.json": (b'{"text": "a"}\n', "is one JSON object; expected an array"),
    "number.json": (b"[1]", "row 1: is a JSON int"),
    "rows.xlsx": (b"PK", "'.xlsx' names no known format; expected .csv, .tsv"),
    "rows": (b"text\na\n", "the name has no ending"),
    "rows.parquet.gz": (b"text", "names no known format"),
    "rows.parquet": (b"PAR1 not really", "is not a whole Parquet file"),
    "rows.csv.gz": (b"text\na\n", "is not a whole gzip file"),
    "cut.csv.gz": (gzip.compress(b"text\n" + bytes(range(97, 122)) * 9)[:-12], "is not a whole gzip file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_with_their_place(tmp_path, name):
    content, message = BROKEN[name]
    path = write(tmp_path, name, content)
    found = refusal(path)
    assert message in found
    assert found.startswith(str(path))


def test_endless_quoted_fields_do_not_fill_the_memory(tmp_path):
    path = write(tmp_path, "rows.csv", 'text\n"' + "x" * (16 * 1024 * 1024 + 1))
    assert "row 2: a field holds more than" in refusal(path)


def test_damaged_parquet_pages_are_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [str(i) for i in range(5000)]}), path, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)
    assert "is not a whole Parquet file" in refusal(path)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    assert "has columns but no rows" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "columns_are"),
    [
        ("frame.csv", ",text,label\n0,a,x\n1,b,y\n", "column 1 has no name and is"),
        ("sheet.csv", "text,label,,\r\na,x,,\r\nb,y,,\r\n", "2 columns have no name and are"),
        ("frame.tsv", "\ttext\tlabel\n0\ta\tx\n1\tb\ty\n", "column 1 has no name and is"),
        (
            "rows.jsonl",
            '{"": 0, "text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n',
            "column 1 has no name and is",
        ),
    ],
)
def test_columns_without_a_name_are_left_out_with_a_note(tmp_path, name, content, columns_are):
    table = read(write(tmp_path, name, content))
    assert columns(table) == {"text": ["a", "b"], "label": ["x", "y"]}
    assert table.notes == (f"{tmp_path / name}: {columns_are} left out.",)


@pytest.mark.parametrize(
    "content", ['{"text": "a"}\n{"text": "b"}\n', '{"text": "a"} {"text":\n "b"}', ' {"text": "a"}\n\n{"text": "b"}']
)
def test_json_lines_under_the_name_of_json_are_read_with_a_note(tmp_path, content):
    table = read(write(tmp_path, "rows.json", content))
    assert table.texts("text") == ["a", "b"]
    assert table.notes == (
        f"{table.source}: is no JSON array but one object after another, and is read as JSON lines.",
    )


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("kft.readers.lines.lines.__kwdefaults__", {"newline": "", "most_characters": 20})
    path = write(tmp_path, "rows.jsonl", '{"text": "a"}\n' + '{"text": "' + "b" * 20 + '"}\n')
    assert "row 2: is a line of more than 20 characters; expected one row a line" in refusal(path)


def test_time_grows_with_the_width_of_a_file_not_with_its_square(tmp_path):
    def seconds(count):
        names = [f"column{i}" for i in range(count)]
        row = ",".join("1" for _ in names)
        path = write(tmp_path, "wide.csv", "\n".join([",".join(names), row, row]))
        began = time.process_time()
        assert read(path).names() == names
        return time.process_time() - began

    assert seconds(40_000) < 20 * (seconds(4_000) + 0.1)


def test_a_parquet_file_that_is_cut_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    values = pa.table({"text": [f"text {i}" for i in range(4 * BLOCK_ROWS)]})
    pq.write_table(values, path, row_group_size=BLOCK_ROWS, compression="none", use_dictionary=False)
    batches, _ = READERS["parquet"](path, "rows.parquet")
    next(batches)
    os.truncate(path, path.stat().st_size // 3)
    with pytest.raises(DataError, match="rows.parquet: is not a whole Parquet file"):
        list(batches)


def test_wrong_paths_are_refused(tmp_path):
    write(tmp_path, "train.csv", "text\na\n")
    assert "Did you mean 'train.csv'?" in refusal(tmp_path / "trian.csv")
    assert "nor does its folder" in refusal(str(tmp_path / "no" / "train.csv"))
    assert "is a folder" in refusal(tmp_path)
    assert "not a regular file" in refusal(os.devnull)
    assert read(tmp_path / "train.csv", file_format="tsv").texts("text") == ["a"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_unreadable_files_are_refused(tmp_path):
    for name in ("train.csv", "train.parquet"):
        path = write(tmp_path, name, "text\na\n")
        path.chmod(0)
        assert "no permission" in refusal(path)


def test_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "train.csv", "text\na\n")
    assert read(Path("~/train.csv")).source == "~/train.csv"
