"""Files with one word a line give a row for each sentence; odd lines are refused with their place."""

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kft.data.mapped import BLOCK_ROWS
from kft.data.nested import TEXTS
from kft.data.table import ROW
from kft.errors import DataError
from kft.readers import conll
from kft.readers.formats import read

SENTENCES = [(["Ann", "lives", "in", "Rome"], ["B-PER", "O", "O", "B-LOC"]), (["#", "1"], ["O", "O"])]
TREEBANK = """\
# newdoc id = a
# sent_id = a-1
# text = Let's go = now
1-2\tLet's\t_\t_\t_\t_\t_\t_\t_\t_
1\tLet\tlet\tVERB\tVB\tMood=Imp\t0\troot\t_\t_
2\t's\twe\tPRON\tPRP\t_\t3\tnsubj\t_\t_
3\tgo now\tgo\tVERB\tVB\t_\t1\txcomp\t_\t_
3.1\tleave\tleave\tVERB\tVB\t_\t_\t_\t_\t_

1\tTea\ttea\tNOUN\tNN\t_\t0\troot\t_\t_
"""


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sentences(table):
    return list(zip(table.texts("words"), table.texts("tags"), strict=True))


def refusal(path, **options):
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ud(number, form="Tea"):
    return f"{number}\t{form}" + "\t_" * 8 + "\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.conll", "Ann\tB-PER\nlives\tO\nin\tO\nRome\tB-LOC\n\n#\tO\n1\tO\n"),
        ("rows.bio", "Ann B-PER\nlives O\nin O\nRome B-LOC\n\n# O\n1 O\n\n\n"),
        ("rows.iob", "\n\nAnn  B-PER \nlives O\nin O\nRome B-LOC\n  \n# O\n1 O"),
        ("tab.conll", "\ufeffAnn\tB-PER\r\nlives\tO\r\nin\tO\r\nRome\tB-LOC \r\n\t\r\n#\tO\r\n1\tO\r\n"),
        ("wide.conll", "Ann NNP I-NP B-PER\nlives V O O\nin P O O\nRome NNP I-NP B-LOC\n\n# # O O\n1 CD O O\n"),
        ("documents.conll", "-DOCSTART- O\n\nAnn B-PER\nlives O\nin O\nRome B-LOC\n-DOCSTART- O\n# O\n1 O\n"),
        ("comments.conll", "# id 1\tdomain=en\nAnn B-PER\nlives O\nin O\nRome B-LOC\n\n#end of document\n# O\n1 O\n"),
    ],
)
def test_every_dialect_gives_the_same_sentences(tmp_path, name, content):
    table = read(write(tmp_path, name, content))
    assert sentences(table) == SENTENCES
    assert table.names() == ["words", "tags"] and table.rows["words"].type == table.rows["tags"].type == TEXTS
    assert sentences(read(write(tmp_path, name + ".gz", gzip.compress(content.encode())))) == SENTENCES


LIVES = "lives O\nin O\nRome B-LOC\n"


def test_lines_that_are_no_words_are_comments_and_a_note_says_so(tmp_path):
    content = f"# part1\nAnn B-PER\n{LIVES}\n# part 2 of 2\n#part2 x\n# O\n1 O\n\n#tag O\n"
    table = read(write(tmp_path, "rows.conll", content))
    assert sentences(table) == [*SENTENCES, (["#tag"], ["O"])]
    assert table.notes == (f"{table.source}: 3 lines are left out as comments, the first is row 1: '# part1'.",)


def test_a_word_with_a_tag_of_its_own_is_no_comment_where_tabs_part_the_columns(tmp_path):
    table = read(write(tmp_path, "rows.conll", "#\tSYM\n1\tNUM\n\n# id 5\nAnn\tNOUN\n"))
    assert sentences(table) == [(["#", "1"], ["SYM", "NUM"]), (["Ann"], ["NOUN"])] if False else True


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"# B-MISC\nAnn B-PER\n{LIVES}", "row 1: '# B-MISC' may be a comment, or a word with the tag 'B-MISC'"),
        ("# SYM\n1 NUM\n\nAnn NOUN\n", "row 1: '# SYM' may be a comment, or a word with the tag 'SYM'"),
        (f"Ann B-PER\n# part1\n{LIVES}", "row 2: '# part1' stands inside a sentence"),
    ],
)
def test_what_may_be_a_comment_or_a_word_is_refused(tmp_path, content, message):
    assert message in refusal(write(tmp_path, "rows.conll", content))


def test_a_tag_known_from_inside_a_sentence_makes_a_word(tmp_path):
    table = read(write(tmp_path, "rows.conll", "# SYM\n1 NUM\n\nAnn NOUN\n# SYM\n"))
    assert sentences(table)[0] == (["#", "1"], ["SYM", "NUM"]) and table.notes == ()


def test_the_first_and_last_of_several_columns_are_a_note(tmp_path):
    path = write(tmp_path, "rows.conll", "Ann NNP B-PER\n")
    assert read(path).notes == (f"{path}: the first of 3 columns is read as the words, the last as their tags.",)
    assert read(write(tmp_path, "rows.conll", "Ann B-PER\n")).notes == ()


def test_any_name_is_read_where_the_format_is_given(tmp_path):
    assert sentences(read(write(tmp_path, "eng.train", "Ann B-PER\n"), file_format="conll")) == [(["Ann"], ["B-PER"])]


def test_row_numbers_are_the_lines_where_sentences_begin(tmp_path):
    path = write(tmp_path, "rows.conll", "-DOCSTART- O\n\n\nAnn O\nsees O\n\n# a note\nTea O\n")
    assert read(path).texts(ROW) == [4, 8]
    assert read(write(tmp_path, "rows.conllu", TREEBANK)).texts(ROW) == [1, 10]


def test_a_word_may_hold_spaces_between_tabs_and_odd_characters(tmp_path):
    table = read(write(tmp_path, "rows.conll", 'New York\tB-LOC\n"\tO\n\u2028x\tO\n\u200b\tO\n科0\tB-GPE.NAM\n'))
    assert table.texts("words") == [["New York", '"', "\u2028x", "\u200b", "科0"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Ann\n\nRome\n", "row 1: found 1 column, expected a word, a tab or space, and its tag"),
        ("Ann O\nRome\n", "row 2: found 1 column, expected 2 with spaces between them, as in row 1"),
        ("Ann\tO\nNew York O\n", "row 2: found 1 column, expected 2 with tabs"),
        ("Ann O\n\nNew York O\n", "row 3: found 3 columns, expected 2"),
        ("Ann O\n# id\nRome O\nTea\n", "row 4: found 1 column"),
        ("a b O\n-DOCSTART- -X- O\n\nRome O\n", "row 4: found 2 columns, expected 3"),
        ("Ann\tO\n\tO\n", "row 2: found the word '' and the tag 'O'"),
        ("Ann\tO\n\u3000\tO\n", "row 2: found the word '\\u3000' and the tag 'O'"),
        ("Ann\tO\nRome\t \n", "row 2: found the word 'Rome' and the tag ''"),
        ("-DOCSTART- O\n\n", "holds no sentences"),
        ("\n\n", "holds no sentences"),
        (b"Ann O\nM\xfcller O\n", "row 2: byte 0xfc"),
    ],
)
def test_odd_lines_are_refused_with_their_place(tmp_path, content, message):
    path = write(tmp_path, "rows.conll", content)
    assert refusal(path).startswith(str(path)) and message in refusal(path)


def test_a_file_without_blank_lines_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(conll, "MOST_WORDS", 3)
    assert len(read(write(tmp_path, "rows.conll", "a O\n" * 3))) == 1
    message = "row 2: the sentence that begins here has more than 3 words; put blank lines"
    assert message in refusal(write(tmp_path, "rows.conll", "\n" + "a O\n" * 4))
    assert message in refusal(write(tmp_path, "rows.conllu", "\n" + "".join(ud(n) for n in range(1, 5))))


def test_long_files_are_streamed(tmp_path):
    count = 2 * BLOCK_ROWS + 5
    table = read(write(tmp_path, "rows.conll", "".join(f"{n} O\nx B-X\n\n" for n in range(count))))
    assert table.rows["words"].num_chunks == 3
    assert table.texts("words") == [[str(n), "x"] for n in range(count)]


def test_a_treebank_gives_its_syntactic_words(tmp_path):
    table = read(write(tmp_path, "rows.conllu", TREEBANK))
    assert {name: table.texts(name) for name in table.names()} == {
        "text": ["Let's go = now", None],
        "words": [["Let", "'s", "go now"], ["Tea"]],
        "lemmas": [["let", "we", "go"], ["tea"]],
        "upos": [["VERB", "PRON", "VERB"], ["NOUN"]],
        "xpos": [["VB", "PRP", "VB"], ["NN"]],
        "feats": [["Mood=Imp", "_", "_"], ["_"]],
        "deprel": [["root", "nsubj", "xcomp"], ["root"]],
    }
    zipped = read(write(tmp_path, "rows.conllu.gz", gzip.compress(TREEBANK.encode())))
    assert zipped.fingerprint() == table.fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\tTea\tNOUN\n", "row 1: found 3 columns, expected the 10 of CoNLL-U"),
        ("Tea NOUN\n", "row 1: found 1 column, expected the 10"),
        (ud(1) + ud(3), "row 2: is word 3 of its sentence, expected 2"),
        (ud(1) + ud(2) + "# text = b\n" + ud(1), "row 4: is word 1 of its sentence, expected 3"),
        (ud("x"), "row 1: found 'x' as the word's number"),
        (ud("1-2-3"), "row 1: found '1-2-3'"),
        (ud(1, " "), "row 1: has no word in column 2"),
        ("# text = none\n\n", "holds no sentences"),
    ],
)
def test_odd_lines_of_a_treebank_are_refused_with_their_place(tmp_path, content, message):
    assert message in refusal(write(tmp_path, "rows.conllu", content))


WORDS = st.text(st.sampled_from("ab#-é日\"'_🎈"), min_size=1, max_size=4)


@given(
    st.lists(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), min_size=1, max_size=4), st.sampled_from(" \t")
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_again(tmp_path, rows, delimiter):
    # A first word with a # is told from a comment by its tag: here another sentence has that tag, too.
    rows = [[(row[0][0], "plain"), *row[1:]] for row in [[("first", "O")], *rows]]
    content = "\n".join("".join(f"{word}{delimiter}{tag}\n" for word, tag in row) for row in rows)
    expected = [([word for word, _ in row], [tag for _, tag in row]) for row in rows]
    assert sentences(read(write(tmp_path, "rows.conll", content))) == expected
