"""Cells that are lists become one type each; odd ones are refused with file, row and place in the list."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kft.data.clean import clean
from kft.data.columns import Column
from kft.data.mapped import BLOCK_ROWS
from kft.data.nested import ANSWERS, SPANS, TEXTS
from kft.errors import DataError
from kft.readers.formats import read

TYPES = {"words": TEXTS, "tags": TEXTS, "choices": TEXTS, "spans": SPANS, "answers": ANSWERS}
PER = {"start": 0, "end": 3, "label": "PER"}
TEA = {"text": "tea", "start": 4}
NOWHERE = {"text": "tea", "start": -1}


def cleaned(kind, cells, **others):
    """The column of these cells, read as a dict of lists, and cleaned."""
    table = clean(read({kind: cells, **others}), [Column(kind, kind)])
    assert table.rows[kind].type == TYPES[kind]
    return table.texts(kind)


def refusal(kind, cells, **others):
    with pytest.raises(DataError) as caught:
        clean(read({kind: cells, **others}), [Column(kind, kind)])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "cell", "expected"),
    [
        ("words", ["New York", "is", "\u200b", " a"], ["New York", "is", "\u200b", " a"]),
        ("words", "Tea is hot", ["Tea", "is", "hot"]),
        ("words", "日本", ["日本"]),
        ("tags", ["O", " B-PER "], ["O", "B-PER"]),
        ("tags", "O B-PER", ["O", "B-PER"]),
        ("tags", [1, 0], ["1", "0"]),
        ("tags", [1.0, 0.5], ["1", "0.5"]),
        ("tags", [True, False], ["true", "false"]),
        ("choices", ["one", "another"], ["one", "another"]),
        ("choices", ' ["one", "another"]', ["one", "another"]),
        ("spans", [PER], [PER]),
        ("spans", [], []),
        ("spans", [[4, 6, "LOC"], [0, 3, "PER"]], [PER, {"start": 4, "end": 6, "label": "LOC"}]),
        ("spans", [[0, 3, 7]], [{**PER, "label": "7"}]),
        ("spans", [{"start": 0.0, "end": 3.0, "label": None, "type": "PER"}], [PER]),
        ("spans", [{"start": 0, "end": 3, "tag": " PER"}], [PER]),
        ("spans", [{"start": 0, "end": 3, "entity": "PER", "score": 0.5}], [PER]),
        ("spans", '[{"start": 0, "end": 3, "label": "PER"}]', [PER]),
        ("spans", '[[0, 3, "PER"]]', [PER]),
        ("spans", "[]", []),
        ("answers", {"text": ["tea", "tea"], "answer_start": [4, 4]}, [TEA, TEA]),
        ("answers", {"text": [], "answer_start": []}, []),
        ("answers", {"text": ["tea"], "answer_start": None}, [NOWHERE]),
        ("answers", {"text": "tea", "answer_start": 4}, [TEA]),
        ("answers", [{"text": "tea", "answer_start": 4}], [TEA]),
        ("answers", [TEA], [TEA]),
        ("answers", [{"text": "tea"}], [NOWHERE]),
        ("answers", ["tea"], [NOWHERE]),
        ("answers", [], []),
        ("answers", "tea", [NOWHERE]),
        ("answers", " tea", [{"text": " tea", "start": -1}]),
        ("answers", 1912, [{"text": "1912", "start": -1}]),
        ("answers", '["tea"]', [NOWHERE]),
        ("answers", '{"text": ["tea"], "answer_start": [4]}', [TEA]),
        ("answers", "[]", []),
    ],
)
def test_every_form_of_a_cell_is_understood(kind, cell, expected):
    assert cleaned(kind, [cell]) == [expected]
    assert cleaned(kind, [expected]) == [expected]


@pytest.mark.parametrize(
    ("kind", "cell", "message"),
    [
        ("words", [], "there is no word; expected at least one in each row"),
        ("words", "", "there is no word"),
        ("words", " ", "there is no word"),
        ("words", None, "there is no word"),
        ("words", "Tea  hot", "word 2 of 3 is ''; expected text that is more than white space"),
        ("words", "Tea ", "word 2 of 2 is ''"),
        ("words", ["Tea", ""], "word 2 of 2 is ''"),
        ("words", ["Tea", "\u3000\t"], "word 2 of 2 is '\\u3000\\t'"),
        ("words", ["Tea", None], "word 2 of 2 is None"),
        ("words", [1, 2], "word 1 of 2 is 1; expected text"),
        ("words", 3, "found 3; expected a list of words, or text with single spaces"),
        ("words", {"a": 1}, "found {'a': 1}; expected a list of words"),
        ("tags", [], "there is no tag"),
        ("tags", ["O", None], "tag 2 of 2 is None; expected a label, as text or number"),
        ("tags", ["O", " "], "tag 2 of 2 is ' '"),
        ("tags", [0.5, math.nan], "tag 2 of 2 is nan"),
        ("tags", [["O"]], "tag 1 of 1 is ['O']"),
        ("tags", "O  O", "tag 2 of 3 is ''"),
        ("choices", ["one"], "the number of choices is 1; expected at least 2"),
        ("choices", ["one", " "], "choice 2 of 2 is ' '; expected text"),
        ("choices", [1, 2], "choice 1 of 2 is 1"),
        ("choices", "one", "found 'one'; expected a list of texts: "),
        ("choices", '["one"', "is no whole list (found the end where"),
        ("choices", None, "found None; expected a list of texts"),
        ("spans", None, 'found None; expected a list of spans, [{"start": 0, "end": 5, "label": "PER"}], or []'),
        ("spans", "", "found ''; expected a list of spans"),
        ("spans", "PER", "found 'PER'"),
        ("spans", "[0, 3", "'[0, 3' is no whole list"),
        ("spans", [[0, 3]], "span 1 is [0, 3]; expected {"),
        ("spans", ["PER"], "span 1 is 'PER'"),
        ("spans", [PER, {"start": 5, "end": 5, "label": "X"}], "span 2 goes from 5 to 5; expected whole numbers"),
        ("spans", [{"start": -1, "end": 5, "label": "X"}], "span 1 goes from -1 to 5"),
        ("spans", [{"start": 0.5, "end": 5, "label": "X"}], "span 1 goes from 0.5 to 5"),
        ("spans", [{"end": 5, "label": "X"}], "span 1 goes from None to 5"),
        ("spans", [{"start": "0", "end": "5", "label": "X"}], "span 1 goes from '0' to '5'"),
        ("spans", [{"start": 0, "end": 5}], "has no label (looked for label, type, tag, entity, role)"),
        ("spans", [{"start": 0, "end": 5, "label": ""}], "span 1, from 0 to 5, has no label"),
        ("answers", None, "the answer is missing; fill it in, or write [] where the question has no answer"),
        ("answers", "", "the answer is missing"),
        ("answers", " ", "the answer is missing"),
        ("answers", ["tea", ""], "answer 2 is ''; expected text, or [] for no answer"),
        ("answers", [{"text": None, "answer_start": 3}], "answer 1 is None"),
        ("answers", {"texts": ["tea"]}, "found the keys 'texts'; expected 'text' and 'answer_start'"),
        ("answers", {"text": ["tea", "a"], "answer_start": [0]}, "expected one start each"),
        ("answers", [{"text": "tea", "answer_start": -2}], "answer 1 starts at -2; expected a whole number from 0"),
        ("answers", [{"text": "tea", "answer_start": "4"}], "answer 1 starts at '4'"),
        ("answers", "[sic] tea", "is no whole list (found 'sic' where"),
        ("answers", "{'text': array(['tea' ... 'soup'])}", "was cut at '...'"),
    ],
)
def test_odd_cells_are_refused_with_their_place(kind, cell, message):
    found = refusal(kind, [cell, cell])
    assert found.startswith(f"<dict>, row 1: column {kind!r}: ") and message in found


def test_the_row_of_the_first_odd_cell_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"words": ["a"]}\n\n{"words": []}\n{"words": []}\n')
    with pytest.raises(DataError, match=r"rows.jsonl, row 3: column 'words': there is no word"):
        clean(read(path), [Column("words", "words")])


def test_a_span_that_quotes_its_text_must_quote_it_rightly():
    quoted = [{**PER, "text": "Ann"}]
    assert cleaned("spans", [quoted, []], text=["Ann sings", "b"]) == [[PER], []]
    assert cleaned("spans", [[{**PER, "text": None}]], text=["Bob sings"]) == [[PER]]
    assert cleaned("spans", [quoted]) == [[PER]]
    found = refusal("spans", [[], quoted], text=["a", "\u00e9Ann sings"])
    assert "row 2: column 'spans': span 1 has the text 'Ann', but from 0 to 3 there is 'éAn'" in found


def test_cells_of_a_text_file_are_json(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('text,spans\nAnn sings,"[{""start"": 0, ""end"": 3, ""tag"": ""PER""}]"\nnobody,[]\n')
    assert clean(read(path), [Column("text", "text"), Column("spans", "spans")]).texts("spans") == [[PER], []]


def test_spans_as_lists_are_read_whatever_holds_them(tmp_path):
    import pandas as pd

    spans = [[[0, 3, "PER"]], [], None]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"spans": cell}) + "\n" for cell in spans))
    named = [[PER], [], None]
    for source in (path, {"spans": spans}, [{"spans": cell} for cell in spans], pd.DataFrame({"spans": spans})):
        assert read(source).texts("spans") == named
    with pytest.raises(DataError, match="row 2: column 'spans' holds a value of type list"):
        read({"spans": [0, [[0, 3, "PER"]]]})


def test_long_columns_of_unlike_cells_become_one_type():
    cells = [[] if n < BLOCK_ROWS else [{"text": "tea", "answer_start": n}] for n in range(2 * BLOCK_ROWS)]
    rows = [{"answers": cell} for cell in cells]
    table = clean(read(iter(rows)), [Column("answers", "answers")])
    assert table.rows["answers"].num_chunks == 2
    assert table.texts("answers")[BLOCK_ROWS - 1 : BLOCK_ROWS + 1] == [[], [{"text": "tea", "start": BLOCK_ROWS}]]


def test_repeats_are_told_by_the_inputs_and_contradictions_by_the_targets():
    rows = {"words": [["a", "b"], ["a b"], ["a", "b"], ["a", "b"]], "tags": [["O", "O"], ["O"], ["O", "O"], ["O", "X"]]}
    notes = clean(read(rows), [Column("words", "words"), Column("tags", "tags")]).notes
    assert notes == (
        "<dict>, row 3: repeats row 1 exactly (1 row of 4 repeat another).",
        "<dict>, row 4: has the text of row 1 but other tags (3 rows of 4 contradict another).",
    )


TEXT = st.text(max_size=4).filter(lambda text: "\0" not in text)
LISTS = st.lists(TEXT | st.none() | st.integers(), max_size=3)
CELLS = TEXT | LISTS | st.dictionaries(st.sampled_from(["text", "answer_start", "start", "end", "label"]), TEXT | LISTS)


@given(st.sampled_from(list(TYPES)), CELLS | st.lists(CELLS, max_size=2))
@settings(max_examples=200, deadline=None)
@example("spans", [[0, 2**63, ""]])  # more than 64 bits
def test_any_cell_is_cleaned_or_refused(kind, cell):
    try:
        found = cleaned(kind, [cell])
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert cleaned(kind, found) == found
