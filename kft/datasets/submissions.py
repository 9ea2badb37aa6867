"""The files that GLUE, SuperGLUE and SQuAD take submissions in, as text.

References:
    https://gluebenchmark.com/faq; https://super.gluebenchmark.com/faq; https://rajpurkar.github.io/SQuAD-explorer
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kft.data.table import Table
from kft.datasets import layouts, registry
from kft.datasets.layouts import File
from kft.datasets.superglue import best_of_groups

Answers = Sequence[Mapping[str, Any]]
"""What `Run.predict` gives, a dict for each row."""
INDEX = {"index": ("index", "id", "idx")}
LOWEST_SIMILARITY, HIGHEST_SIMILARITY = 0.0, 5.0  # of STS-B


@dataclass(frozen=True)
class Submission:
    """What a benchmark takes.

    Attributes:
        files: The name of each file of the submission, and the rows of the release that it is about.
        content: (the benchmark's name, the table of these rows, answers to them) to the content of the file.
        kept: Columns of the rows beside the benchmark's own, as in `Benchmark.kept`.
    """

    files: Mapping[str, File]
    content: Callable[[str, Table, Answers], str]
    kept: Mapping[str, tuple[str, ...]]


def _tsv(name: str, rows: Table, answers: Answers) -> str:
    """`index` and `prediction`, labels as in the files of the release; numbers of STS-B between 0 and 5."""
    written = {shown: label for label, shown in registry.find(name)[0].labels.items()}
    lines = ["index\tprediction"]
    for index, answer in zip(rows.texts("index"), answers, strict=True):
        if "value" in answer:
            prediction = f"{min(max(answer['value'], LOWEST_SIMILARITY), HIGHEST_SIMILARITY):.3f}"
        else:
            prediction = written[answer["label"]]
        lines.append(f"{index}\t{prediction}")
    return "\n".join(lines) + "\n"


def _lines(objects: Sequence[Any]) -> str:
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)


def _jsonl(name: str, rows: Table, answers: Answers) -> str:
    """`idx` and `label` a line: WSC's truth with a capital, COPA's a number, all others as kft has them."""
    benchmark = registry.find(name)[0]
    capital = {shown: label for label, shown in benchmark.labels.items()} if name == "superglue:wsc" else {}
    labels: list[Any] = [capital.get(answer["label"], answer["label"]) for answer in answers]
    shown = [int(label) if benchmark.task == "choose" else label for label in labels]
    return _lines([{"idx": int(n), "label": label} for n, label in zip(rows.texts("index"), shown, strict=True)])


def _multirc(name: str, rows: Table, answers: Answers) -> str:
    """A line for each passage: its questions, and of each the answers with the label 0 or 1."""
    passages: dict[int, dict[int, list[dict[str, int]]]] = {}
    ids = [rows.texts(column) for column in ("passage_idx", "question_idx", "answer_idx")]
    for passage, question, option, answer in zip(*ids, answers, strict=True):
        judged = {"idx": int(option), "label": int(answer["label"] == "true")}
        passages.setdefault(int(passage), {}).setdefault(int(question), []).append(judged)
    return _lines(
        [
            {"idx": n, "passage": {"questions": [{"idx": q, "answers": options} for q, options in questions.items()]}}
            for n, questions in passages.items()
        ]
    )


def _record(name: str, rows: Table, answers: Answers) -> str:
    """`idx` and `label`, the likeliest entity, a line for each query."""
    queries = rows.texts("question_id")
    chosen = best_of_groups(queries, np.array([answer["scores"]["true"] for answer in answers]))
    entities = rows.texts("candidate")
    return _lines([{"idx": int(queries[row]), "label": entities[row]} for row in chosen])


def squad(ids: Sequence[str], answers: Answers) -> str:
    """The answer to each question by its id, empty for none, as one JSON object."""
    return json.dumps({n: answer["answer"] for n, answer in zip(ids, answers, strict=True)}, ensure_ascii=False) + "\n"


def _glue(**files: str) -> Submission:
    named = {file.replace("_", "-") + ".tsv": File(path) for file, path in files.items()}
    return Submission(named, _tsv, INDEX)


def _superglue(file: str, path: str, content: Any = _jsonl, kept: Mapping[str, tuple[str, ...]] = INDEX) -> Submission:
    return Submission({file: File(path, layouts.jsonl)}, content, kept)


SUBMISSIONS: dict[str, dict[str, Submission]] = {
    "glue": {
        "glue:cola": _glue(CoLA="CoLA/test.tsv"),
        "glue:sst2": _glue(SST_2="SST-2/test.tsv"),
        "glue:mrpc": _glue(MRPC="MRPC/test.tsv"),
        "glue:qqp": _glue(QQP="QQP/test.tsv"),
        "glue:stsb": _glue(STS_B="STS-B/test.tsv"),
        "glue:mnli": _glue(MNLI_m="MNLI/test_matched.tsv", MNLI_mm="MNLI/test_mismatched.tsv"),
        "glue:qnli": _glue(QNLI="QNLI/test.tsv"),
        "glue:rte": _glue(RTE="RTE/test.tsv"),
        "glue:wnli": _glue(WNLI="WNLI/test.tsv"),
        "glue:ax": _glue(AX="diagnostic/diagnostic.tsv"),
    },
    "superglue": {
        "superglue:boolq": _superglue("BoolQ.jsonl", "BoolQ/test.jsonl"),
        "superglue:cb": _superglue("CB.jsonl", "CB/test.jsonl"),
        "superglue:copa": _superglue("COPA.jsonl", "COPA/test.jsonl"),
        "superglue:multirc": _superglue("MultiRC.jsonl", "MultiRC/test.jsonl", _multirc, {}),
        "superglue:record": _superglue("ReCoRD.jsonl", "ReCoRD/test.jsonl", _record, {}),
        "superglue:rte": _superglue("RTE.jsonl", "RTE/test.jsonl"),
        "superglue:wic": _superglue("WiC.jsonl", "WiC/test.jsonl"),
        "superglue:wsc": _superglue("WSC.jsonl", "WSC/test.jsonl"),
        "superglue:axb": _superglue("AX-b.jsonl", "AX-b/AX-b.jsonl"),
        "superglue:axg": _superglue("AX-g.jsonl", "AX-g/AX-g.jsonl"),
    },
}
"""By the form of the submission and the name of the benchmark."""
SQUAD = "squad"
FORMS = (*SUBMISSIONS, SQUAD)
