"""SuperGLUE's sets whose rows are more than two texts and a label, its diagnostics, and those of GLUE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kft.datasets import layouts
from kft.datasets.layouts import Benchmark, File, Hub, Made
from kft.evaluation import qa

PLACEHOLDER = "@placeholder"
TRUTH = {"False": "false", "True": "true"}
NUMBERED_TRUTH = {"0": "false", "1": "true"}
ENTAILMENT = {"entailment": "entailment", "not_entailment": "not_entailment"}
THREE_WAYS = {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"}
Row = Mapping[str, Any]


def _jsonl(*paths: str) -> tuple[dict[str, File], ...]:
    return (dict(zip(("train", "validation"), (File(path, layouts.jsonl) for path in paths), strict=True)),)


# -- rows ------------------------------------------------------------------------------------------------------------


def options(row: Row) -> list[dict[str, Any]]:
    """A row for each answer to each question of a passage of MultiRC; one of the hub's is such a row already.

    >>> question = {"question": "Hot?", "idx": 3, "answers": [{"text": "Yes", "label": 1, "idx": 9}]}
    >>> options({"idx": 0, "passage": {"text": "Tea is hot.", "questions": [question]}})[0]["question_id"]
    '0-3'
    """
    if "paragraph" in row:
        ids = row["idx"]
        found = {**row, "passage_idx": ids["paragraph"], "question_idx": ids["question"], "answer_idx": ids["answer"]}
        return [{**found, "question_id": f"{ids['paragraph']}-{ids['question']}"}]
    return [
        {
            "paragraph": row["passage"]["text"],
            "question": question["question"],
            "answer": answer["text"],
            "label": answer.get("label"),
            "passage_idx": row["idx"],
            "question_idx": question["idx"],
            "answer_idx": answer["idx"],
            "question_id": f"{row['idx']}-{question['idx']}",
        }
        for question in row["passage"]["questions"]
        for answer in question["answers"]
    ]


def candidates(row: Row) -> list[dict[str, Any]]:
    """A row for each entity of a passage of ReCoRD and each of its queries, which says whether it is the right one.

    >>> query = {"query": "@placeholder is hot.", "idx": 7, "answers": [{"start": 0, "end": 2, "text": "Tea"}]}
    >>> passage = {"text": "Tea or soup", "entities": [{"start": 0, "end": 2}, {"start": 7, "end": 10}]}
    >>> [(one["query"], one["label"]) for one in candidates({"idx": 0, "passage": passage, "qas": [query]})]
    [('Tea is hot.', 'true'), ('soup is hot.', 'false')]
    """
    if "qas" in row:
        text = row["passage"]["text"]
        entities = [text[one["start"] : one["end"] + 1] for one in row["passage"]["entities"]]  # the end is their last
        queries = [
            (each["query"], each["idx"], None if each.get("answers") is None else [a["text"] for a in each["answers"]])
            for each in row["qas"]
        ]
    else:
        text, entities = row["passage"], row["entities"]
        queries = [(row["query"], row["idx"]["query"], row["answers"] or None)]
    return [
        {
            "passage": text,
            "query": query.replace(PLACEHOLDER, entity),
            "candidate": entity,
            "gold": gold,
            "question_id": str(number),
            "label": None if gold is None else str(entity in gold).lower(),
        }
        for query, number, gold in queries
        for entity in dict.fromkeys(entities)
    ]


def flat_target(row: Row) -> list[dict[str, Any]]:
    """A row of WSC with what its file has under `target` beside the text, as the hub has it."""
    return [{**{key: value for key, value in row.items() if key != "target"}, **(row.get("target") or {})}]


def marked(text: str, span1_index: int, span1_text: str, span2_index: int, span2_text: str) -> str | None:
    """A text of WSC with its noun between `*` and its pronoun between `#`; None where they are not there.

    The indices count words between spaces.

    >>> marked("Ann saw that she won .", 0, "Ann", 3, "she")
    '* Ann * saw that # she # won .'
    """
    words = text.split(" ")
    spans = [(int(span1_index), len(span1_text.split(" ")), "*"), (int(span2_index), len(span2_text.split(" ")), "#")]
    for first, count, sign in sorted(spans, reverse=True):
        if first < 0 or first + count > len(words):
            return None
        words[first : first + count] = [sign, *words[first : first + count], sign]
    return " ".join(words)


# -- official metrics ------------------------------------------------------------------------------------------------


def best_of_groups(groups: Sequence[str], scores: np.ndarray) -> list[int]:
    """The row with the largest score of each group, in the order of the groups; the first of equals.

    >>> best_of_groups(["a", "b", "a"], np.array([0.1, 0.5, 0.9]))
    [2, 1]
    """
    best: dict[str, int] = {}
    for row, group in enumerate(groups):
        if group not in best or scores[row] > scores[best[group]]:
            best[group] = row
    return list(best.values())


def whole_questions(columns: Mapping[str, Sequence[Any]], scores: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """`question_exact_match`: the share of questions of MultiRC of which every answer is judged right."""
    right: dict[str, bool] = {}
    for group, truth, answer in zip(columns["question_id"], columns["label"], scores.argmax(axis=1), strict=True):
        right[group] = right.get(group, True) and names[answer] == truth
    return {"question_exact_match": sum(right.values()) / len(right)}


def entities_found(columns: Mapping[str, Sequence[Any]], scores: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """`question_exact_match` and `question_f1` of ReCoRD: of each query the likeliest entity against the gold ones."""
    chosen = best_of_groups(columns["question_id"], scores[:, list(names).index("true")])
    answers, gold = ([columns[name][row] for row in chosen] for name in ("candidate", "gold"))
    found = qa.scored(answers, gold)
    return {"question_exact_match": found["exact_match"], "question_f1": found["f1"]}


def parity(columns: Mapping[str, Sequence[Any]], scores: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """`gender_parity` of AX-g: the share of pairs, which differ in the gender of a pronoun, with the same answer.

    Reference:
        Wang et al., 2019, sec. 3.4, https://arxiv.org/abs/1905.00537
    """
    answers: dict[Any, list[int]] = {}
    for pair, answer in zip(columns["pair_id"], scores.argmax(axis=1), strict=True):
        answers.setdefault(pair, []).append(int(answer))
    return {"gender_parity": sum(len(set(one)) == 1 for one in answers.values()) / len(answers)}


# -- the sets --------------------------------------------------------------------------------------------------------


def _question_and_answer(question: str, answer: str) -> str:
    return f"{question} {answer}"


def _ids(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in names}


def _only(path: str, read: layouts.Reader) -> tuple[dict[str, File], ...]:
    return ({"test": File(path, read)},)


def _diagnostic(path: str, hub: Hub, columns: Mapping[str, tuple[str, ...]], **further: Any) -> Benchmark:
    settings = {"labels": ENTAILMENT, "metrics": ("mcc",), "layouts": _only(path, layouts.jsonl), **further}
    note = "it has no training rows: score a run of natural language inference with it"
    return Benchmark("classify", {**columns, "label": ("label", "Label")}, hub=hub, note=note, **settings)


REASONING: dict[str, Benchmark] = {
    "superglue:multirc": Benchmark(
        task="classify",
        # The passage is the long one, and the second text is what gets cut.
        columns={
            "text": Made(("question", "answer"), _question_and_answer),
            "text_pair": ("paragraph",),
            "label": ("label",),
        },
        layouts=_jsonl("MultiRC/train.jsonl", "MultiRC/val.jsonl"),
        metrics=("f1",),
        hub=Hub("aps/super_glue", "multirc"),
        labels=NUMBERED_TRUTH,
        expand=options,
        kept=_ids("question_id", "passage_idx", "question_idx", "answer_idx"),
        official=whole_questions,
    ),
    "superglue:record": Benchmark(
        task="classify",
        columns={"text": ("query",), "text_pair": ("passage",), "label": ("label",)},
        layouts=_jsonl("ReCoRD/train.jsonl", "ReCoRD/val.jsonl"),
        metrics=("f1",),
        hub=Hub("aps/super_glue", "record"),
        labels={"false": "false", "true": "true"},
        expand=candidates,
        kept=_ids("question_id", "candidate", "gold"),
        official=entities_found,
        note="each query is a row for each entity of its passage; question_f1 and question_exact_match are official",
    ),
    "superglue:wsc": Benchmark(
        task="classify",
        columns={
            "text": Made(("text", "span1_index", "span1_text", "span2_index", "span2_text"), marked),
            "label": ("label",),
        },
        layouts=_jsonl("WSC/train.jsonl", "WSC/val.jsonl"),
        metrics=("accuracy",),
        hub=Hub("aps/super_glue", "wsc.fixed"),
        labels=TRUTH,
        expand=flat_target,
    ),
    "superglue:axb": _diagnostic(
        "AX-b/AX-b.jsonl", Hub("aps/super_glue", "axb"), {"text": ("sentence1",), "text_pair": ("sentence2",)}
    ),
    "superglue:axg": _diagnostic(
        "AX-g/AX-g.jsonl",
        Hub("aps/super_glue", "axg"),
        {"text": ("premise",), "text_pair": ("hypothesis",)},
        metrics=("accuracy",),
        kept=_ids("pair_id"),
        official=parity,
    ),
    "glue:ax": _diagnostic(
        "diagnostic/diagnostic-full.tsv",
        Hub("nyu-mll/glue", "ax"),
        {"text": ("Premise", "premise", "sentence1"), "text_pair": ("Hypothesis", "hypothesis", "sentence2")},
        labels=THREE_WAYS,
        layouts=_only("diagnostic/diagnostic-full.tsv", layouts.tsv),
    ),
}
