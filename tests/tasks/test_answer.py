import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

import kft
from kft import job
from kft.errors import DataError
from kft.evaluation import qa
from kft.losses.tokens import span_crossentropy
from kft.models import heads, presets
from kft.tasks.answer import ANSWER, spans
from kft.text import answers as graph
from kft.text.tokens import Encoder


def asked(row):
    """What it is about, and a question that has no answer."""
    noun = row["text"].split()[1]
    about = {"context": row["text"], "question": "the same", "answers": [{"text": noun, "answer_start": 4}]}
    return [about, {"context": row["text"], "question": "tea", "answers": []}]


@pytest.fixture(scope="module")
def run(message_rows, quick, tmp_path_factory):
    rows = list(itertools.chain(*map(asked, message_rows)))
    out = tmp_path_factory.mktemp("runs") / "answers"
    shares = {"validation": 0.2, "test": 0.2}
    return kft.fit(rows, epochs=60, out=str(out), **shares, **quick)


@pytest.mark.slow
def test_answers_are_parts_of_the_context(run):
    assert run.task is ANSWER  # by the columns
    assert run.metrics["test"]["f1"] > 0.8
    context = "the  Invoice was\tlost today"
    found, none = run.predict([("the same", context), ("tea", context)])
    assert context[found["start"] : found["end"]] == found["answer"] == "Invoice"
    assert none["answer"] == "" and (none["start"], none["end"]) == (-1, -1)
    assert none["no_answer"] > run.labels["threshold"] >= found["no_answer"]
    for answer in (found, none):
        assert 1 <= len(answer["nbest"]) <= 5
        assert all(context[one["start"] : one["end"]] == one["answer"] for one in answer["nbest"])
        assert answer["no_answer"] + sum(one["score"] for one in answer["nbest"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_the_end_of_a_long_context_is_searched_too(run):
    context = "was lost " * 80 + "the invoice is wrong"
    (answer,) = run.predict([{"question": "the same", "context": context}])
    assert all(context[one["start"] : one["end"]] == one["answer"] for one in answer["nbest"])
    assert max(one["end"] for one in answer["nbest"]) > 100


@pytest.mark.slow
def test_the_export_answers_the_same(run, tmp_path):
    version = run.export(tmp_path / "saved_models" / "answers")
    contract = json.loads((version / "assets.extra" / "kft.json").read_text())
    assert contract["task"] == "answer" and contract["inputs"] == ["question", "context"]
    assert contract["largest_difference"] <= 1e-5


def test_an_answer_that_is_not_in_its_context_is_refused_by_row():
    rows = [{"question": "who", "context": "the tea", "answers": "the soup"}]
    with pytest.raises(DataError, match="row 1.*soup"):
        kft.check(rows, validation=0)


def test_targets_are_the_tokens_of_the_answer_in_each_window(tiny_preset):
    from kft.data import columns, store
    from kft.data.clean import clean
    from kft.readers import formats
    from kft.tasks.answer import prepare

    model = heads.token_model(presets.find(tiny_preset), 2, max_length=16, dtype="float32", seed=0)
    context = "was lost " * 10 + "the invoice is wrong"
    rows = [{"question": "my lamp", "context": context, "answers": "the invoice"}]
    table = formats.read(rows, role="train")
    table = prepare(
        clean(columns.canonical(table, {c.name: c.name for c in ANSWER.schema.columns}), ANSWER.schema.columns)
    )
    encoder = Encoder(model.preprocessor, 2, graph.encode)
    tokens = store.in_memory(encoder([[rows[0]["question"]], [context]]), encoder)
    assert len(tokens) > 1 and set(tokens.texts) == {0}
    found = spans(table, tokens)
    assert found[:, 2].tolist() == tokens.lengths.tolist()
    has_answer = np.flatnonzero(found[:, 1])
    assert len(has_answer)
    for row in has_answer:
        first, last, _ = found[row]
        part = slice(*tokens.offsets[""][row : row + 2])
        assert context[tokens.features["start"][part][first] : tokens.features["end"][part][last]] == "the invoice"
    assert not found[0, :2].any()


def test_spaces_at_the_edges_of_an_answer_are_left_out_of_it_and_counted():
    def answer(text, start=None):
        return {"text": text, **({} if start is None else {"answer_start": start})}

    context = "I saw Anna\u00a0 at sea"
    given = [answer(" Anna", 5), answer("Anna\u00a0 ", 6), answer(" Anna "), answer("sea\n"), answer("Anna", 6)]
    rows = [{"question": "who", "context": f"{context} {n}", "answers": [one]} for n, one in enumerate(given)]
    data = kft.check(rows, validation=0)
    gold = [row[0] for row in data.parts["train"].texts("answers")]
    assert gold == [{"text": "Anna", "start": 6}] * 3 + [{"text": "sea", "start": 15}, {"text": "Anna", "start": 6}]
    note = "<list>, row 1: answer ' Anna' has spaces at its edges, which are left out of it (4 of 5 answers have some)."
    assert note in data.notes


def test_answers_that_cannot_be_given_are_counted(tiny_preset):
    long = " ".join(["the parcel was lost today", "my lamp"] * 30)
    rows = [
        {"question": "which", "context": long, "answers": long[: len(long) // 2]},  # longer than a window
        {"question": "how much", "context": "it was 5", "answers": "it was"},
        {
            "question": "what",
            "context": "the lampparcel was lost",
            "answers": "mpparcel",
        },  # `lamp`, then `parcel` cut up
        {"question": "was it lost " * 9, "context": "the lamp", "answers": "lamp"},
        *({"question": f"who {n}", "context": "the courier was late", "answers": "courier"} for n in range(8)),
    ]
    knobs = {"preset": tiny_preset, "max_length": 32, "validation": 0, "task": "answer"}
    ready = job.prepare(kft.Recipe.of(**knobs), {"train": rows, "validation": 0, "test": None})
    absent, inexact, full = [note for note in ready.data.notes if " of train (8.33%) " in note]
    assert absent.startswith("<list>, row 1: 1 of 12 answers of train (8.33%) are in no window of 32 tokens whole")
    assert inexact.startswith("<list>, row 3: 1 of 12 answers of train (8.33%) begin or end inside a token")
    assert full.startswith("<list>, row 4: 1 of 12 questions of train (8.33%) fill the room that a window of 32 tokens")


def padded_answers(extra, longest=0):
    """Answers to four windows of two texts, as they come from a batch that is padded by as many tokens more."""
    random = np.random.default_rng(0)
    size = 4, 40
    logits = random.normal(scale=2, size=(*size, 2)).astype(np.float32)
    start = np.tile(np.arange(40, dtype=np.int32) - 3, (4, 1))
    start[:, :3] = -1
    extras = {"text": np.array([0, 0, 1, 1], np.int32), "start": start, "end": np.where(start >= 0, start + 1, -1)}
    logits[1, 3, 0] = logits[1, 39, 1] = 50
    more = [(0, 0), (0, extra)]
    logits = np.pad(logits, [*more, (0, 0)], constant_values=7)  # whatever the network makes of padding
    extras = {name: np.pad(v, more, constant_values=-1) if v.ndim == 2 else v for name, v in extras.items()}
    found = graph.answers(tf.constant(logits), 1.0, extras, ["x" * 37] * 2, longest)
    return {name: value.numpy() for name, value in found.items()}


def test_answers_do_not_depend_on_how_far_a_batch_is_padded():
    alone = padded_answers(0)
    for extra in (1, 24):
        for name, values in padded_answers(extra).items():
            np.testing.assert_array_equal(values, alone[name], err_msg=name)


def test_answers_are_as_long_as_those_of_train():
    assert padded_answers(0)["end"][0] - padded_answers(0)["start"][0] <= graph.LONGEST_ANSWER
    assert (padded_answers(0, 37)["start"][0], padded_answers(0, 37)["end"][0]) == (0, 37)
    lengths = [10] * 5 + [200]
    rows = [{"question": str(n), "context": "y" * 200, "answers": "y" * size} for n, size in enumerate(lengths)]
    assert kft.check(rows, task="answer", validation=0).labels == {"threshold": 1.0, "longest": 200}


def spans_by_hand(logits, extras, text):
    found = {}
    for window in np.flatnonzero(extras["text"] == text):
        first, last = extras["start"][window], extras["end"][window]
        for i, j in itertools.product(range(logits.shape[1]), repeat=2):
            if first[i] >= 0 and first[j] >= 0 and i <= j < i + graph.LONGEST_ANSWER:
                score = logits[window, i, 0] + logits[window, j, 1]
                key = (first[i], last[j])
                found[key] = max(found.get(key, -np.inf), score)
    return sorted(found.items(), key=lambda item: -item[1])[: graph.NUM_BEST]


@pytest.mark.parametrize("seed", range(4))
def test_the_best_spans_over_all_windows_by_hand(seed):
    random = np.random.default_rng(seed)
    context = ["abcdefghij", "xy"]
    positions = [[-1, 0, 1, 2, 3, -1], [-1, 2, 3, 4, 5, -1], [-1, 6, 7, 8, 9, -1], [-1, 0, 1, -1, -1, -1]]
    start = np.array(positions, np.int32)
    extras = {"text": np.array([0, 0, 0, 1], np.int32), "start": start, "end": np.where(start >= 0, start + 1, -1)}
    logits = random.normal(scale=2, size=(4, 6, 2)).astype(np.float32)
    found = {k: v.numpy() for k, v in graph.answers(tf.constant(logits), 1.0, extras, context).items()}
    for text in range(2):
        expected = spans_by_hand(logits, extras, text)
        best = list(zip(found["nbest.start"][text], found["nbest.end"][text], strict=True))
        assert best[: len(expected)] == [span for span, _ in expected]
        none = min(logits[w, 0].sum() for w in np.flatnonzero(extras["text"] == text))
        scores = np.array([none, *[score for _, score in expected]])
        np.testing.assert_allclose(found["no_answer"][text], (np.exp(scores) / np.exp(scores).sum())[0], rtol=1e-4)
        assert found["answer"][text].decode() == context[text][slice(*expected[0][0])]


def test_loss_is_the_mean_of_both_ends():
    logits = np.random.default_rng(0).normal(size=(1, 4, 2)).astype(np.float32)
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(log_probs[0, 1, 0] + log_probs[0, 3, 1]) / 2
    padded = np.concatenate([logits, np.full((1, 60, 2), 9.0, np.float32)], axis=1)
    for found in (logits, padded):  # what fills a row up is none of the tokens
        assert float(span_crossentropy(found, np.array([[1, 3, 4]]))[0]) == pytest.approx(expected, rel=1e-5)


def test_scores_follow_squad():
    found = qa.scored(["The Tower!", "in 1990", "", "x"], [["tower", "a"], ["1990"], [], []])
    assert found["exact_match"] == 0.5
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
    assert found["unanswerable_accuracy"] == 0.5 and found["answerable_f1"] == pytest.approx(5 / 6)


def test_the_threshold_is_the_best_one():
    none, answers, truths = [0.1, 0.3, 0.4, 0.8], ["a", "b", "c", "d"], [["a"], [], ["c"], []]
    best = qa.best_threshold(none, answers, truths)

    def f1_at(cut):
        kept = [answer if p <= cut else "" for p, answer in zip(none, answers, strict=True)]
        return qa.scored(kept, truths)["f1"]

    assert f1_at(best) == max(f1_at(cut) for cut in (0, 0.2, 0.35, 0.5, 1))
    assert qa.best_threshold([0.9], ["a"], [["a"]]) == 1.0
