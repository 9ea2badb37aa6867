"""Every benchmark is read from the files of its release; a wrong or partial layout is refused by name."""

import json

import pytest

from kft.data.table import ROW
from kft.datasets import loading, registry
from kft.datasets.structured import STRUCTURED
from kft.datasets.superglue import REASONING
from kft.errors import DataError, RecipeError
from kft.evaluation import kinds
from kft.tasks import TASKS

MNLI = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
MNLI_TRAIN, MNLI_DEV = f"{MNLI} sentence1 sentence2 label1 gold_label", f"{MNLI} sentence1 sentence2 label1 label2"
XNLI = "language gold_label sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2 score"


def tab(header, *rows):
    """A tab-separated file; `header` has spaces between the names, rows `|` between the fields."""
    names = [header.replace(" ", "\t")] if header else []
    return "\n".join([*names, *(row.replace("|", "\t") for row in rows), ""])


def objects(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def msr(rows):
    """A file of MRPC, whose column names have spaces in them."""
    return "\t".join(["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]) + "\n" + rows


MSR = msr("1\t7\t8\tTea is hot .\tThe tea is hot .\n0\t9\t8\tTea .\tSoup .\n1\t3\t4\tA cup .\tOne cup .\n")

FILES = {
    "CoLA/train.tsv": tab("", 'gj04|1||The "tea" is hot.', "gj04|0|*|Tea hot the is."),
    "CoLA/dev.tsv": tab("", "bc01|1||Soup boils."),
    "SST-2/train.tsv": tab("sentence label", '" a warm cup |1', "cold soup |0"),
    "SST-2/dev.tsv": tab("sentence label", "fine tea |1"),
    "MRPC/train.tsv": "\ufeff" + msr('1\t7\t8\tHe said " tea .\tHe said tea .\n'),
    "MRPC/dev.tsv": "\ufeff" + msr("0\t3\t4\tA cup .\tA pot .\n"),
    "QQP/train.tsv": tab(
        "id qid1 qid2 question1 question2 is_duplicate",
        "1|2|3|Is tea hot?|Is the tea hot?|1",
        '"|Was the soup good? What is the evidence?|0',
        "4|5|6|Is it?||0",
    ),
    "QQP/dev.tsv": tab("id qid1 qid2 question1 question2 is_duplicate", "7|8|9|Why tea?|Why soup?|0"),
    "STS-B/train.tsv": tab(STSB, "0|main|MSRvid|2012|0001|none|none|A cup falls.|A cup is falling.|4.750"),
    "STS-B/dev.tsv": tab(STSB, "0|main|MSRvid|2012|0000|none|none|Tea.|Soup.|0.000"),
    "MNLI/train.tsv": tab(MNLI_TRAIN, "0|1|1n|fiction|( a )|( b )|( a )|( b )|Tea is hot.|It is warm.|neutral|neutral"),
    "MNLI/dev_matched.tsv": tab(
        f"{MNLI_DEV} label3 label4 label5 gold_label",
        "0|1|1c|slate|a|b|a|b|Tea.|No tea.|contradiction|neutral|neutral|entailment|neutral|contradiction",
    ),
    "MNLI/dev_mismatched.tsv": tab(
        f"{MNLI_DEV} label3 label4 label5 gold_label", "0|1|1e|letters|a|b|a|b|Tea.|A drink.|neutral|-|-|-|-|entailment"
    ),
    "QNLI/train.tsv": tab("index question sentence label", "0|What is hot?|Tea is hot.|entailment"),
    "QNLI/dev.tsv": tab("index question sentence label", "0|What is cold?|Tea is hot.|not_entailment"),
    "RTE/train.tsv": tab("index sentence1 sentence2 label", "0|Tea is hot.|Tea is warm.|entailment"),
    "RTE/dev.tsv": tab("index sentence1 sentence2 label", "0|Tea is hot.|Soup is cold.|not_entailment"),
    "WNLI/train.tsv": tab("index sentence1 sentence2 label", "0|The cup fell; it broke.|The cup broke.|1"),
    "WNLI/dev.tsv": tab("index sentence1 sentence2 label", "0|The cup fell on it.|The cup broke.|0"),
    "BoolQ/train.jsonl": objects({"question": "is tea hot", "passage": "Tea is hot.", "idx": 0, "label": True}),
    "BoolQ/val.jsonl": objects({"question": "is soup cold", "passage": "No.", "idx": 0, "label": False}),
    "CB/train.jsonl": objects({"premise": "B: Tea?", "hypothesis": "it is tea", "label": "contradiction", "idx": 0}),
    "CB/val.jsonl": objects({"premise": "A: Tea.", "hypothesis": "it is tea", "label": "entailment", "idx": 0}),
    "WiC/train.jsonl": objects(
        {"word": "cup", "sentence1": "A cup.", "sentence2": "The cup final.", "label": False, "start1": 2, "idx": 0}
    ),
    "WiC/val.jsonl": objects({"word": "pot", "sentence1": "A pot.", "sentence2": "My pot.", "label": True, "idx": 0}),
    "XNLI-MT-1.0/multinli/multinli.train.de.tsv": tab(
        "premise hypo label", 'Der "Tee" ist heiß .|Er ist kalt .|contradictory', "Der Tee .|Ein Tee .|neutral"
    ),
    "XNLI-1.0/xnli.dev.tsv": tab(
        f"{XNLI} sentence1 sentence2 promptID", "ar|neutral|||||شاي|حساء|1", "de|entailment|||||Der Tee.|Ein Tee.|1"
    ),
    "XNLI-1.0/xnli.test.tsv": tab(f"{XNLI} sentence1 sentence2 promptID", "de|neutral|||||Eine Tasse.|Zwei.|2"),
    "x-final/de/translated_train.tsv": tab(
        "id sentence1 sentence2 label",
        '1|"Das ""Café"" ist zu."|Zu ist das Café.|1',
        "2|NS|Das Café.|0",
        "3|Der Tee.|Tee.",
        "4|Tee|Der Tee.|NS",
    ),
    "x-final/de/dev_2k.tsv": tab("id sentence1 sentence2 label", "1|Ein Tee.|Tee.|0"),
    "x-final/de/test_2k.tsv": tab("id sentence1 sentence2 label", "1|Ein Topf.|Topf.|1"),
    "x-final/en/train.tsv": tab("id sentence1 sentence2 label", "1|A 'cup' .|The cup .|0"),
    "x-final/en/dev_2k.tsv": tab("id sentence1 sentence2 label", "1|Tea .|A tea .|1"),
    "x-final/en/test_2k.tsv": tab("id sentence1 sentence2 label", "1|Soup .|A soup .|1"),
    "banking_data/train.csv": 'text,category\r\n"My card, it is lost",lost_card\r\nWhere is it?,card_arrival\r\n',
    "banking_data/test.csv": "text,category\r\nI lost it,lost_card\r\n",
}
SUPERGLUE = {
    "RTE/train.jsonl": objects({"premise": "Tea is hot.", "hypothesis": "Hot tea.", "label": "entailment", "idx": 0}),
    "RTE/val.jsonl": objects({"premise": "Tea.", "hypothesis": "Soup.", "label": "not_entailment", "idx": 0}),
}
ROWS = {
    ("glue:cola", "train"): [('The "tea" is hot.', "acceptable"), ("Tea hot the is.", "unacceptable")],
    ("glue:cola", "validation"): [("Soup boils.", "acceptable")],
    ("glue:sst2", "train"): [('" a warm cup ', "positive"), ("cold soup ", "negative")],
    ("glue:sst2", "validation"): [("fine tea ", "positive")],
    ("glue:mrpc", "train"): [('He said " tea .', "He said tea .", "equivalent")],
    ("glue:mrpc", "validation"): [("A cup .", "A pot .", "not_equivalent")],
    ("glue:qqp", "train"): [("Is tea hot?", "Is the tea hot?", "duplicate"), ("Is it?", "", "not_duplicate")],
    ("glue:qqp", "validation"): [("Why tea?", "Why soup?", "not_duplicate")],
    ("glue:stsb", "train"): [("A cup falls.", "A cup is falling.", "4.750")],
    ("glue:stsb", "validation"): [("Tea.", "Soup.", "0.000")],
    ("glue:mnli", "train"): [("Tea is hot.", "It is warm.", "neutral")],
    ("glue:mnli", "validation"): [("Tea.", "No tea.", "contradiction")],
    ("glue:mnli", "test"): [("Tea.", "A drink.", "entailment")],
    ("glue:qnli", "train"): [("What is hot?", "Tea is hot.", "entailment")],
    ("glue:qnli", "validation"): [("What is cold?", "Tea is hot.", "not_entailment")],
    ("glue:rte", "train"): [("Tea is hot.", "Tea is warm.", "entailment")],
    ("glue:rte", "validation"): [("Tea is hot.", "Soup is cold.", "not_entailment")],
    ("glue:wnli", "train"): [("The cup fell; it broke.", "The cup broke.", "entailment")],
    ("glue:wnli", "validation"): [("The cup fell on it.", "The cup broke.", "not_entailment")],
    ("superglue:boolq", "train"): [("is tea hot", "Tea is hot.", "true")],
    ("superglue:boolq", "validation"): [("is soup cold", "No.", "false")],
    ("superglue:cb", "train"): [("B: Tea?", "it is tea", "contradiction")],
    ("superglue:cb", "validation"): [("A: Tea.", "it is tea", "entailment")],
    ("superglue:rte", "train"): [("Tea is hot.", "Hot tea.", "entailment")],
    ("superglue:rte", "validation"): [("Tea.", "Soup.", "not_entailment")],
    ("superglue:wic", "train"): [("cup: A cup.", "The cup final.", "false")],
    ("superglue:wic", "validation"): [("pot: A pot.", "My pot.", "true")],
    ("xnli:de", "train"): [
        ('Der "Tee" ist heiß .', "Er ist kalt .", "contradiction"),
        ("Der Tee .", "Ein Tee .", "neutral"),
    ],
    ("xnli:de", "validation"): [("Der Tee.", "Ein Tee.", "entailment")],
    ("xnli:ar", "validation"): [("شاي", "حساء", "neutral")],
    ("xnli:de", "test"): [("Eine Tasse.", "Zwei.", "neutral")],
    ("pawsx:de", "train"): [
        ('Das "Café" ist zu.', "Zu ist das Café.", "paraphrase"),
        ("NS", "Das Café.", "different_meaning"),
    ],
    ("pawsx:de", "validation"): [("Ein Tee.", "Tee.", "different_meaning")],
    ("pawsx:de", "test"): [("Ein Topf.", "Topf.", "paraphrase")],
    ("pawsx:en", "train"): [("A 'cup' .", "The cup .", "different_meaning")],
    ("pawsx:en", "test"): [("Soup .", "A soup .", "paraphrase")],
    ("banking77", "train"): [("My card, it is lost", "lost_card"), ("Where is it?", "card_arrival")],
    ("banking77", "test"): [("I lost it", "lost_card")],
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """A directory with all releases, and one with SuperGLUE's, whose RTE has the name of GLUE's."""
    folders = tmp_path_factory.mktemp("all"), tmp_path_factory.mktemp("superglue")
    for folder, files in zip(folders, (FILES, {**FILES, **SUPERGLUE}), strict=True):
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8", newline="")
    return dict(zip(("glue", "superglue"), folders, strict=True))


def rows_of(table):
    return list(zip(*(table.texts(name) for name in table.names()), strict=True))


def refusal(*arguments, kind=DataError):
    with pytest.raises(kind) as caught:
        loading.read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "part"), ROWS)
def test_the_rows_are_those_of_the_release(releases, name, part):
    table = loading.read(name, part, releases["superglue" if name.startswith("superglue") else "glue"])
    assert rows_of(table) == ROWS[name, part]
    assert table.names() == [n for n in ("text", "text_pair", "label") if n in registry.find(name)[0].columns]


def test_every_benchmark_and_part_is_read_by_a_test():
    read = [(registry.find(name)[0], part) for name, part in ROWS]
    for name, entry in registry.BENCHMARKS.items():
        if name in {**STRUCTURED, **REASONING}:
            continue  # test_structured.py and test_superglue.py read these
        assert {part for found, part in read if found is entry} == entry.parts, name


def test_every_entry_names_a_task_and_metrics_that_exist():
    for entry in registry.BENCHMARKS.values():
        assert entry.task in TASKS and entry.metrics and set(entry.metrics) <= set(kinds.METRICS)


def test_the_positive_class_comes_second(releases):
    assert loading.read("glue:mrpc", "train", releases["glue"]).labels == ("not_equivalent", "equivalent")
    assert loading.read("xnli:de", "test", releases["glue"]).labels == ("entailment", "neutral", "contradiction")


def test_broken_rows_of_a_release_are_left_out_with_a_note(releases):
    table = loading.read("glue:qqp", "train", releases["glue"])
    path = releases["glue"] / "QQP" / "train.tsv"
    assert table.notes == (f"{path}, row 3: has no whole texts and label; 1 row like this left out.",)
    assert table.texts(ROW) == [2, 4]
    assert "row 4: has no whole texts and label; 2 rows" in loading.read("pawsx:de", "train", releases["glue"]).notes[0]


def test_mrpc_is_divided_by_its_dev_ids(tmp_path):
    (tmp_path / "msr_paraphrase_train.txt").write_text(MSR)
    assert "lacks dev_ids.tsv, which says which rows of msr_paraphrase_train.txt" in refusal(
        "glue:mrpc", "train", tmp_path
    )
    (tmp_path / "mrpc_dev_ids.tsv").write_text("9\t8\n")
    assert [row[0] for row in rows_of(loading.read("glue:mrpc", "train", tmp_path))] == ["Tea is hot .", "A cup ."]
    assert rows_of(loading.read("glue:mrpc", "validation", tmp_path)) == [("Tea .", "Soup .", "not_equivalent")]


def test_the_directory_may_be_the_own_folder_of_the_benchmark(releases):
    for name, folder in (("glue:rte", "RTE"), ("xnli:de", "XNLI-1.0"), ("pawsx:de", "x-final")):
        assert rows_of(loading.read(name, "validation", releases["glue"] / folder)) == ROWS[name, "validation"]
    # The files of all languages have one name: without the folder of the language nobody could tell them apart.
    assert "lacks x-final/en/dev_2k.tsv" in refusal("pawsx:en", "validation", releases["glue"] / "x-final" / "de")


def test_a_partial_layout_is_refused_with_what_it_lacks(tmp_path):
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2" / "train.tsv").write_text(FILES["SST-2/train.tsv"])
    assert refusal("glue:sst2", "validation", tmp_path) == (
        f"{tmp_path}: lacks SST-2/dev.tsv, the validation rows of glue:sst2. Expected, as its release has them: "
        "SST-2/train.tsv, SST-2/dev.tsv. Found there: SST-2."
    )
    assert "lacks MRPC/train.tsv or MRPC/msr_paraphrase_train.txt" in refusal("glue:mrpc", "train", tmp_path)
    assert "There is no such directory" in refusal("glue:sst2", "train", tmp_path / "none")


BROKEN = [
    ("superglue:wic", "WiC/train.jsonl", '{"sentence1": "a"}', "has no column 'word'"),
    (
        "glue:rte",
        "RTE/train.tsv",
        "index s1 sentence2 label",
        "has no column 'sentence1'. Columns found: 'index', 's1'",
    ),
    ("glue:wnli", "WNLI/train.tsv", "index sentence1 sentence2 label", "row 2: the label is 'x', expected '0' or '1'"),
    ("glue:rte", "RTE/train.tsv", "index sentence1 sentence2", "row 2: found 4 fields, expected 3"),
    ("glue:mrpc", "MRPC/train.tsv", "index sentence1 sentence2 Quality", "has no column '#1 String' or 'sentence1'"),
]


@pytest.mark.parametrize(("name", "path", "header", "message"), BROKEN)
def test_a_file_unlike_the_release_is_refused(tmp_path, name, path, header, message):
    if "mrpc" in name:
        header = header.replace("sentence1", "first")
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(tab(header, "0|Tea.|Soup.|x") if path.endswith(".tsv") else header)
    found = refusal(name, "train", tmp_path)
    assert found.startswith(str(tmp_path / path)) and message in found


def test_a_file_without_rows_or_without_the_language_is_refused(tmp_path):
    (tmp_path / "xnli.dev.tsv").write_text(FILES["XNLI-1.0/xnli.dev.tsv"])
    assert "holds no rows of fr, expected the validation rows of xnli:fr" in refusal("xnli:fr", "validation", tmp_path)
    (tmp_path / "train.tsv").write_text("sentence\tlabel\n")
    assert "holds no rows, expected the train rows of glue:sst2" in refusal("glue:sst2", "train", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gleu:sst2", "unknown benchmark 'gleu:sst2'. Did you mean 'glue:sst2'?"),
        ("GLUE:SST2", "Did you mean 'glue:sst2'?"),
        ("xnli:dd", "Did you mean 'xnli:de'?"),
        ("xnli:", "Expected one of: glue:cola"),
        ("ud:EN_EWT", "Did you mean 'ud:en_ewt'?"),
        ("ud:en", "unknown benchmark 'ud:en'."),
        ("ud:en_ewt_x", "unknown benchmark 'ud:en_ewt_x'."),
        ("pawsx:<language>", "wnut17, ud:<treebank>."),
    ],
)
def test_a_wrong_name_gets_a_suggestion(name, message):
    assert registry.is_name(name)
    assert message in refusal(name, "train", None, kind=RecipeError)


def test_paths_and_objects_are_no_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("rows.csv", "data/rows.csv", "C:\\rows.csv", "hf://org/set", tmp_path, [{"text": "a"}], 0.1, None):
        assert not registry.is_name(source)
    (tmp_path / "banking77").mkdir()
    (tmp_path / "glue:sst2").write_text("sentence\tlabel\n")
    assert registry.is_name("squad_v2") and registry.is_name("ud:grc_proiel")
    assert registry.is_name("banking77") and not registry.is_name("glue:sst2")


def test_test_rows_without_labels_are_refused(releases):
    assert "glue:sst2: has no test rows with labels. Those that have: train, validation." in refusal(
        "glue:sst2", "test", releases["glue"]
    )
