"""Every task's baselines learn from its rows, are scored by its metrics, and never stop a fit."""

import numpy as np
import pyarrow as pa
import pytest

from kft.data.table import ROW, Table
from kft.evaluation import baselines, kinds
from kft.evaluation.baselines import by_task, rows

GOOD, BAD = "a warm and lovely evening", "cold and dull rooms"
TEXTS = [f"{GOOD} {i}" if i % 2 else f"{BAD} {i}" for i in range(24)]
BINARY = ["good" if i % 2 else "bad" for i in range(24)]
SPANS = [[{"start": 0, "end": 4, "label": "LOC"}], []]


def table(**columns):
    count = len(next(iter(columns.values())))
    return Table(pa.table({**columns, ROW: np.arange(1, count + 1)}), "<memory>")


def split(**columns):
    """The last four rows for validation, the others for training."""
    whole = table(**columns)
    return {"train": whole.take(range(len(whole) - 4)), "validation": whole.take(range(len(whole) - 4, len(whole)))}


def doubled(*values):
    return [*values] * 12


EVENTS = [{"type": "move", "start": 4, "end": 8, "arguments": [{"label": "who", "start": 0, "end": 3}]}]
ROWS = {
    "answer": (
        {
            "question": doubled("Who drinks tea?", "Where is Ann?"),
            "context": doubled("Ann left. Bob drinks tea.", "Ann is home. Bob is not."),
            "answers": doubled([{"text": "Bob", "start": 10}], []),
        },
        {"threshold": 0.5},
    ),
    "choose": (
        {
            "text": doubled("Tea is hot.", "It rains."),
            "choice1": doubled("a cup", "it rains much"),
            "choice2": doubled("hot tea", "sun"),
            "label": doubled("1", "0"),
        },
        {"labels": ["0", "1"]},
    ),
    "classify": ({"text": TEXTS, "label": BINARY}, {"labels": ["bad", "good"]}),
    "embed": (
        {"text": TEXTS, "text_pair": [f"{text}, says {i}" for i, text in enumerate(TEXTS)]},
        {"contrastive": "multiple_negatives"},
    ),
    "extract": ({"text": doubled("Ann left home", "Tea is hot"), "events": doubled(EVENTS, [])}, {}),
    "generate": ({"prompt": doubled("tea for two, please", "hot tea"), "response": doubled("tea for two", "tea")}, {}),
    "joint": (
        {
            "words": doubled(["go", "to", "Bath"], ["play", "it"]),
            "text": doubled("go to Bath", "play it"),
            "tags": doubled(["O", "O", "B-LOC"], ["O", "O"]),
            "label": doubled("travel", "play"),
        },
        {"labels": ["play", "travel"], "slots": {"scheme": "bio"}},
    ),
    "multilabel": ({"text": TEXTS, "label": doubled(["good", "warm"], ["bad"])}, {"labels": ["bad", "good", "warm"]}),
    "ordinal": ({"text": TEXTS, "label": doubled("1", "5")}, {"labels": ["1", "5"]}),
    "regress": ({"text": TEXTS, "label": doubled(1.0, 5.0)}, {"mean": 3.0, "deviation": 2.0}),
    "tag": ({"text": doubled("Bath is old", "it is")[:24], "spans": doubled(*SPANS)}, {"scheme": "bio"}),
}
ROWS |= {name: ROWS["classify"] for name in ("fewshot", "relate")}
TOKENS = baselines.Tokens(np.array([0, 0, 1]), np.array([0, 1]), 3)


@pytest.mark.parametrize("name", ROWS)
def test_the_baselines_of_a_task_have_its_headline(name):
    columns, label_spec = ROWS[name]
    found = baselines.of(name, split(**columns), "validation", label_spec)
    assert found.notes == ()
    assert list(found.metrics) == list(by_task.OPPONENTS[name])
    kind = kinds.of(name, label_spec)
    for metrics in found.metrics.values():
        assert kind.headline.name in metrics and metrics["num_rows"] == 4
        assert {*metrics} - {"per_class", "confusion", "num_rows"} <= {metric.name for metric in kind.metrics}


def test_what_the_baselines_reach():
    def reached(name):
        columns, label_spec = ROWS[name]
        headline = kinds.of(name, label_spec).headline.name
        metrics = baselines.of(name, split(**columns), "validation", label_spec).metrics
        return {baseline: round(values[headline], 3) for baseline, values in metrics.items()}

    assert reached("classify") == {"majority": 0.5, "bag of words": 1.0}
    assert reached("multilabel") == {"most frequent label": 0.4, "bag of words": 1.0}
    assert reached("choose") == {"most frequent position": 0.5, "most words in common": 1.0}
    assert reached("tag") == {"most frequent tag of each word": 1.0}
    assert reached("joint") == {"majority and most frequent tags": 0.5, "bag of words and most frequent tags": 1.0}
    assert reached("generate") == {"beginning of the prompt": 0.733}
    assert reached("answer") == {"sentence with most words of the question": 0.25, "no answer": 0.5}
    assert reached("embed")["TF-IDF cosine"] == 1.0
    columns, label_spec = ROWS["extract"]
    metrics = baselines.of("extract", split(**columns), "validation", label_spec).metrics
    assert metrics["most frequent type of each word"]["trigger_f1"] == 1.0


def test_similarities_are_those_of_words():
    columns = {
        "text": doubled("hot tea", "it rains"),
        "text_pair": doubled("hot tea", "sun"),
        "label": doubled(5.0, 1.0),
    }
    label_spec = {"contrastive": "cosine", "low": 1.0, "high": 5.0}
    found = baselines.of("embed", split(**columns), "validation", label_spec)
    assert found.metrics["TF-IDF cosine"]["mae"] == pytest.approx(0, abs=1e-6)


def test_plain_tags_of_unknown_words_are_the_most_frequent_one():
    columns = {"words": doubled(["tea", "falls"], ["cup"]), "tags": doubled(["NOUN", "VERB"], ["NOUN"])}
    parts = {**split(**columns), "test": table(words=[["pot", "falls"]], tags=[["NOUN", "VERB"]])}
    found = baselines.of("tag", parts, "test", {"scheme": "plain"})
    assert found.metrics["most frequent tag of each word"]["token_accuracy"] == 1.0


def test_no_answer_is_no_opponent_where_every_question_has_one():
    columns = {name: values[::2] for name, values in ROWS["answer"][0].items()}
    found = baselines.of("answer", split(**columns), "validation", {"threshold": 1.0})
    assert list(found.metrics) == ["sentence with most words of the question"] and not found.notes


def test_tokens_have_the_perplexity_of_their_frequencies():
    found = baselines.of("pretrain", split(text=TEXTS), "validation", {"objective": "clm"}, tokens=TOKENS)
    assert found.metrics["unigrams"]["perplexity"] == pytest.approx((1 / (3 / 6 * 2 / 6)) ** 0.5)
    found = baselines.of("pretrain", split(text=TEXTS), "validation", {"objective": "clm"})
    assert not found.metrics and "baseline unigrams: not computed. The tokens" in found.notes[0]


def test_what_fails_is_missing_with_a_note(monkeypatch):
    def broken(rows):
        raise MemoryError("too much")

    monkeypatch.setitem(by_task.OPPONENTS, "classify", {**by_task.CLASSES, "odd": broken})
    columns = {"text": ["."] * 20 + TEXTS[:4], "label": BINARY}
    columns["label"][:20] = ["bad"] * 20
    found = baselines.of("classify", split(**columns), "validation", {"labels": ["bad", "good"]})
    assert list(found.metrics) == ["majority"]
    assert "baseline bag of words: not computed. Found only the label 'bad'" in found.notes[0]
    assert found.notes[1] == "baseline odd: not computed. MemoryError: too much"


def test_large_parts_are_sampled_and_a_note_says_so(monkeypatch):
    monkeypatch.setattr(rows, "MOST_CHARACTERS", 250)
    columns, label_spec = ROWS["regress"]
    found = baselines.of("regress", split(**columns), "validation", label_spec)
    assert found.notes == ("baseline bag of words: computed with 10 of 20 train rows, drawn at random",)
    assert found.metrics["mean"]["num_rows"] == 4


def test_too_many_labels_are_not_learned():
    labels = [f"label {i:03d}" for i in range(501)]
    parts = {"train": table(text=labels, label=labels), "test": table(text=labels, label=labels)}
    found = baselines.of("classify", parts, "test", {"labels": labels})
    assert list(found.metrics) == ["majority"] and "There are 501 labels" in found.notes[0]
