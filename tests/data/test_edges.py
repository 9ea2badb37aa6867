import sys

from hypothesis import given
from hypothesis import strategies as st

from kft.data import edges


def test_spaces_are_those_of_python_and_two_that_cannot_be_seen():
    assert set(edges.SPACES) == {c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace()} | set("\u200b\ufeff")


@given(st.text(st.sampled_from(" \n\u00a0\u200bab\u0301")), st.integers(0, 8), st.integers(0, 8))
def test_only_spaces_are_cut_off(text, start, size):
    end = start + size
    first, last = edges.trimmed(text, start, end)
    if end > len(text):
        assert (first, last) == (start, end)  # left to the check that refuses it
        return
    part = text[start:end].strip(edges.SPACES)
    assert text[first:last] == (part or text[start:end])
    assert start <= first <= last <= end
