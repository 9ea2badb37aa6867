"""Columns that belong together are checked row by row, and the first that disagrees is named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data.checks import check_spans, check_tags, chunk, located_answers, nearest, odd_sequences, scheme
from kft.data.clean import clean
from kft.data.columns import Column
from kft.errors import DataError
from kft.readers.formats import read

KINDS = {"context": "text"}


def table(**columns):
    kinds = {name: KINDS.get(name, name) for name in columns}
    return clean(read(columns), [Column(name, kind) for name, kind in kinds.items()])


def tagged(*sequences):
    return table(tags=list(sequences))


def spans(*triples):
    return [{"start": start, "end": end, "label": label} for start, end, label in triples]


def test_each_word_has_a_tag():
    check_tags(table(words=[["a", "b"], ["c"]], tags=[["O", "X"], ["O"]]))
    with pytest.raises(DataError, match=r"<dict>, row 2 has 1 word and 2 tags; expected one tag for each word"):
        check_tags(table(words=[["a", "b"], ["c"], ["d"]], tags=[["O", "X"], ["O", "O"], ["O", "O"]]))


def test_spans_that_touch_or_have_blank_edges_pass():
    check_spans(table(text=["Ann Lee🎈", ""], spans=[spans((0, 4, "A"), (4, 8, "B")), []]))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([(0, 10, "A")], "row 2: the span (A, 0 to 10) ends past the text, which has 9 characters"),
        ([(3, 4, "A")], "row 2: the span (A, 3 to 4) holds ' ', only white space"),
        ([(0, 3, "A"), (2, 5, "B")], "row 2: the spans 'Ann' (A, 0 to 3) and 'n s' (B, 2 to 5) overlap"),
        ([(0, 9, "A"), (0, 3, "B")], "row 2: the spans 'Ann' (B, 0 to 3) and 'Ann sings' (A, 0 to 9) overlap"),
        ([(0, 3, "A"), (0, 3, "A")], "row 2: the spans 'Ann' (A, 0 to 3) and 'Ann' (A, 0 to 3) overlap"),
    ],
)
def test_spans_outside_their_text_blank_or_overlapping_are_refused(found, message):
    rows = table(text=["Tea", "Ann sings"], spans=[spans((0, 3, "X")), spans(*found)])
    with pytest.raises(DataError) as caught:
        check_spans(rows)
    assert str(caught.value).startswith("<dict>, ") and message in str(caught.value)


def test_answers_are_put_where_their_text_stands():
    contexts = ["tea or tea", "🎈 tea", "soup"]
    answers = [[{"text": "tea", "start": 7}, {"text": "or", "start": -1}], [{"text": "tea", "start": -1}], []]
    found = located_answers(table(context=contexts, answers=answers))
    assert [[answer["start"] for answer in row] for row in found.texts("answers")] == [[7, 4], [2], []]
    assert found.notes == () and found.names() == ["context", "answers"]


def test_a_start_that_leads_elsewhere_is_moved_to_the_nearest_place_with_a_note():
    answers = [[{"text": "tea", "start": start} for start in (6, 3, 99, 0)]] * 2
    found = located_answers(table(context=["tea or tea"] * 2, answers=answers))
    assert [answer["start"] for answer in found.texts("answers")[1]] == [7, 0, 7, 0]
    assert found.notes[-1] == (
        "<dict>, row 1: answer 'tea' starts at 7, not at 6 as given (6 of 8 answers moved to the nearest place that "
        "has their text)."
    )


@pytest.mark.parametrize("start", [-1, 0, 50])
def test_an_answer_that_is_not_in_its_context_is_refused(start):
    rows = table(context=["tea", "Tea is hot."], answers=[[], [{"text": "tea", "start": start}]])
    with pytest.raises(DataError, match="<dict>, row 2: column 'answers': answer 'tea' is not in the context"):
        located_answers(rows)


@given(st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=12), st.integers(0, 14))
@settings(max_examples=300, deadline=None)
def test_no_place_is_nearer_than_the_nearest(text, context, start):
    places = [n for n in range(len(context)) if context.startswith(text, n)]
    found = nearest(text, context, start)
    assert found is None if not places else abs(found - start) == min(abs(place - start) for place in places)
    assert found is None or found in places


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"O", "B-PER", "I-PER"}, "bio"),
        ({"O", "I-PER"}, "bio"),
        ({"B-GPE.NAM", "O"}, "bio"),
        ({"O", "B-creative-work"}, "bio"),
        ({"B", "I", "O"}, "bio"),
        ({"O", "B-PER", "E-PER", "S-PER"}, "bioes"),
        ({"O", "U-PER", "L-PER", "I-PER", "B-PER"}, "bioes"),
        ({"B", "M", "E", "S"}, "bioes"),
        ({"NOUN", "VERB", "X"}, "plain"),
        ({"O"}, "plain"),
        ({"I", "O"}, "plain"),
        ({"O", "PER"}, "plain"),
        ({"B-PER", "NOUN"}, "plain"),
        ({"O-PER", "B-PER"}, "plain"),
        (set(), "plain"),
    ],
)
def test_the_scheme_is_read_off_the_tags(tags, expected):
    assert scheme(tags) == expected


def test_letters_of_other_schemes_mean_the_same():
    assert [chunk(tag)[0] for tag in ("M-X", "L-X", "U-X", "B-X", "O", "N-X")] == ["I", "E", "S", "B", "O", ""]


def test_tags_that_go_on_with_nothing_are_counted():
    assert odd_sequences(tagged("O B-A I-A", "B-A I-A I-A O B-A", "NOUN")) == []
    assert odd_sequences(tagged("O B-A I-A", "B-A I-A I-A O B-A")) == []
    assert odd_sequences(tagged("B-A E-A S-B", "B-A I-A E-A", "S-A O")) == []
    assert odd_sequences(tagged("B-A I-A", "O B-A I-B I-B", "I-A O I-A")) == [
        "<dict>, row 2: tag 3, 'I-B', comes after 'B-A', where no entity of its type is open; it begins one "
        "(3 tags like this)."
    ]
    assert "row 1: tag 1, 'I-A', comes first" in odd_sequences(tagged("I-A I-A", "B-A O"))[0]
    assert "tag 3, 'E-A', comes after 'S-A'" in odd_sequences(tagged("O S-A E-A"))[0]
    assert "(1 tag like this)" in odd_sequences(tagged("B I O I"))[0]
