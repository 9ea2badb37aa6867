import json

import pytest
import tensorflow as tf

import kft
from kft import job
from kft.data import store
from kft.data.records import records
from kft.errors import DataError
from kft.evaluation import entities
from kft.models import heads, presets
from kft.readers import formats
from kft.run import Run
from kft.tasks import tag
from kft.tasks.tag import TAG
from kft.text import tag_sequences
from kft.text import tagging as graph
from kft.text.tokens import Encoder

CLASSES = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def with_spans(row):
    """The noun is an entity of its topic."""
    noun = row["text"].split()[1]
    return {"text": row["text"], "spans": [{"start": 4, "end": 4 + len(noun), "label": row["topic"]}]}


@pytest.fixture(scope="module")
def run(message_rows, quick, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "entities"
    shares = {"validation": 0, "test": 0.2}
    return kft.fit([with_spans(row) for row in message_rows], epochs=25, out=str(out), **shares, **quick)


def test_entities_are_found_where_they_are(run):
    assert run.task.name == "tag"  # by the columns
    assert run.metrics["test"]["entity_f1"] > 0.9
    (answer,) = run.predict(["the  Invoice was\tlost today"])
    ((kind, text, start, end, score),) = [tuple(entity.values()) for entity in answer["entities"]]
    assert (kind, text, start, end) == ("billing", "Invoice", 5, 12) and 0 < score <= 1
    assert answer["tags"] == ["O", "B-billing", "O", "O", "O"]


@pytest.mark.parametrize(
    "text", ["", "\ufeffMy \U0001f600 parcel,\u00a0caf\u00e9", "the parcel is late when you can " * 30]
)
def test_words_and_entities_are_parts_of_the_text(run, text):
    (answer,) = run.predict([text])
    assert len(answer["tags"]) == len(answer["words"])
    assert "".join(word["text"] for word in answer["words"]) == "".join(text.replace("\ufeff", "").split())
    for part in [*answer["words"], *answer["entities"]]:
        assert text[part["start"] : part["end"]] == part["text"]


@pytest.mark.slow
def test_words_with_plain_tags_are_learnt_and_scored_by_the_given_words(message_rows, quick, tmp_path):
    kinds = {"the": "DET", "parcel": "NOUN", "courier": "NOUN", "invoice": "NOUN", "refund": "NOUN", "lamp": "NOUN"}
    rows = [
        {"words": row["text"].split(), "tags": [kinds.get(word, "X") for word in row["text"].split()]}
        for row in message_rows
    ]
    run = kft.fit(rows, validation=0, test=0.2, epochs=4, out=str(tmp_path / "run"), **quick)
    assert run.labels["scheme"] == "plain"
    assert run.metrics["test"]["token_accuracy"] > 0.95
    assert set(run.metrics["test"]["per_class"]) == {"DET", "NOUN", "X"}
    (answer,) = run.predict([{"words": ["the", "lamp"]}])
    assert answer["words"] == [{"text": "the", "start": 0, "end": 3}, {"text": "lamp", "start": 4, "end": 8}]
    assert answer["tags"] == ["DET", "NOUN"] and "entities" not in answer


@pytest.mark.slow
def test_the_export_answers_the_same(run, tmp_path):
    version = run.export(tmp_path / "saved_models" / "entities")
    contract = json.loads((version / "assets.extra" / "kft.json").read_text())
    assert contract["task"] == "tag" and contract["largest_difference"] <= 1e-5
    signatures = tf.saved_model.load(str(version)).signatures
    assert sorted(signatures) == ["serving_default"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": ["a", "b"], "tags": ["O"]}, "row 2 has 2 words and 1 tag"),
        ({"words": ["a"], "tags": ["B-new"]}, "'new' is unknown"),
    ],
)
def test_tags_that_cannot_be_learnt_are_refused_by_row(row, message, quick):
    rows = [{"words": ["tea", "is", "good"], "tags": ["B-drink", "O", "O"]}] * 4
    bad = {"validation": [rows[0], row]} if "new" in message else {}
    train = rows if bad else [rows[0], row, *rows]
    with pytest.raises(DataError, match=message):
        kft.check(train, task="tag", **bad)


def test_overlapping_spans_are_refused_by_row():
    spans = [{"start": 0, "end": 5, "label": "a"}, {"start": 4, "end": 7, "label": "b"}]
    with pytest.raises(DataError, match="row 1"):
        kft.check([{"text": "the tea", "spans": spans}], validation=0)


def test_an_odd_sequence_is_noted_and_read_as_an_entity():
    rows = [{"words": ["old", "tea"], "tags": ["O", "I-drink"]}, {"words": ["new", "cup"], "tags": ["O", "O"]}]
    data = kft.check(rows, validation=0)
    assert any("I-drink" in note for note in data.notes)
    assert data.labels["labels"] == ["O", "B-drink", "I-drink"]


def _on_spans(notes):
    """The notes but those on tokens that the preset does not know."""
    return [note for note in notes if "unknown" not in note]


def spanned(text, *parts):
    """A row whose spans are where these parts first are in the text."""
    starts = [text.index(part) for part in parts]
    return {
        "text": text,
        "spans": [{"start": s, "end": s + len(p), "label": "X"} for s, p in zip(starts, parts, strict=True)],
    }


def best_f1(rows):
    """The F1 of a tagger that makes no mistake, and what the rows' check says."""
    data = kft.check(rows, task="tag", validation=0)
    table = data.parts["train"]
    truth, best = [], []
    places = tag._found_words(table, data.labels["words"])
    for text, gold, words in zip(table.texts("text"), tag._gold(table), places, strict=True):
        answered = [
            (words[a][0], words[b][1], kind) for kind, a, b in entities.entities(entities.at_words(gold, words))
        ]
        truth.append(entities.of_spans(gold, len(text)))
        best.append(entities.of_spans(answered, len(text)))
    return entities.scored(truth, best, is_plain=False)["entity_f1"], data


@pytest.mark.parametrize("part", [" Anna", "Anna\n", "\u00a0Anna \u200b"])
def test_spaces_at_the_edges_of_spans_are_left_out_and_counted(part):
    found, data = best_f1([spanned(f"{n} see{part}here", part if n % 2 else "Anna") for n in range(10)])
    assert found == 1
    assert "row 2: the span" in data.notes[0] and "(5 of 10 spans have some)" in data.notes[0]


@pytest.mark.parametrize(
    ("text", "parts", "rule"),
    [
        ("see Anna here", ["Anna"], "words/2"),
        ("the Anna-based plan", ["Anna"], "words/2"),
        ("see 5kg here", ["5", "kg"], "words/2"),
        ("K팝에서", ["K"], "words/2"),
        ("ฉันอยู่ที่กรุงเทพมหานคร", ["กรุงเทพ"], "words/2"),
        ("das EUweite Gesetz", ["EU"], "characters/1"),
        ("see Portos here", ["Porto"], "characters/1"),
        ("رأيت آنا فيبورتو", ["بورتو"], "characters/1"),
        ("서울에서 왔다", ["서울"], "characters/1"),
    ],
)
def test_a_tagger_that_makes_no_mistake_can_answer_every_span(text, parts, rule):
    found, data = best_f1([spanned(f"({letter}) {text}", *parts) for letter in "abcdefghij"])
    assert (found, data.labels["words"]) == (1, rule)
    assert [note for note in data.notes if "by the character" in note] == _on_spans(data.notes) * (
        rule == "characters/1"
    )


def test_a_few_spans_inside_words_are_counted_and_change_no_rule():
    rows = [spanned(f"see Anna {n} here", "Anna") for n in range(99)] + [spanned("das EUweite Gesetz", "EU")]
    found, data = best_f1(rows)
    assert data.labels["words"] == "words/2" and 0.98 < found < 1
    note = "<list>, row 100: the span 'EU' in 'EUweite' begins or ends inside a word; 1 of 100 spans of train (1%) do,"
    assert _on_spans(data.notes)[-1].startswith(note)


def model_with_pieces(tiny_bert, tmp_path, *pieces):
    preset = presets.find(tiny_bert(tmp_path / "preset", *pieces))
    return heads.token_model(preset, len(CLASSES), max_length=32, dtype="float32", seed=0)


def answered(model, text, classes_of_tokens, rule):
    """The answer where the network is sure of these classes, token by token."""
    features = graph.encode(model.preprocessor, [tf.constant([text])], rule)
    length = features["token_ids"].shape[1]
    ids = [CLASSES.index(name) for name in ["O", *classes_of_tokens]] + [0] * (length - 1 - len(classes_of_tokens))
    found = tag_sequences.answers(
        tf.one_hot([ids], len(CLASSES)) * 9, CLASSES, "bio", 0, features, [tf.constant([text])], rule
    )
    (answer,) = records({name: value.numpy() for name, value in found.items()})
    return answer


def test_words_that_share_a_token_are_parts_of_one_entity(tiny_bert, tmp_path):
    model = model_with_pieces(tiny_bert, tmp_path, "กรุงเทพ", "##มหานคร", "5kg")
    text = "กรุงเทพมหานคร 5kg lamp"
    answer = answered(model, text, ["B-LOC", "O", "B-PER", "I-PER"], "words/2")
    assert [(one["type"], one["text"]) for one in answer["entities"]] == [("LOC", "กรุงเทพ"), ("PER", "5kg lamp")]
    assert [w["text"] for w in answer["words"]][-3:] == ["5", "kg", "lamp"]
    assert answer["tags"][-3:] == ["B-PER", "I-PER", "I-PER"]
    first = answered(model, text, ["B-LOC", "O", "B-PER", "I-PER"], "words/1")
    assert [one["text"] for one in first["entities"]] == ["กรุงเทพมหานคร", "5kg lamp"]


def test_characters_that_share_a_token_are_parts_of_one_entity(tiny_bert, tmp_path):
    model = model_with_pieces(tiny_bert, tmp_path, "eu", "##weite")
    answer = answered(model, "the EUweite", ["O", "B-LOC", "O"], "characters/1")
    assert [(one["text"], one["start"], one["end"]) for one in answer["entities"]] == [("EU", 4, 6)]


@pytest.mark.slow
def test_entities_that_no_tokens_stand_for_are_counted(tiny_bert, tmp_path):
    rows = [spanned(f"the {word} is late {n}", "5") for n in range(4) for word in ("5kg", "5 kg")]
    knobs = {"preset": tiny_bert(tmp_path / "preset", "5kg", "5", "kg"), "validation": 0, "task": "tag"}
    ready = job.prepare(kft.Recipe.of(**knobs), {"train": rows, "validation": 0, "test": None})
    assert _on_spans(ready.data.notes)[-1].startswith(
        "<list>, row 1 and others: 4 of 8 entities of train (50%) begin or end inside a token"
    )


@pytest.mark.slow
def test_a_run_that_names_no_rule_keeps_the_first(run):
    older = {name: value for name, value in run.labels.items() if name != "words"}
    text = "the lamp5 is late"
    for labels, expected in ((older, ["the", "lamp5"]), (run.labels, ["the", "lamp", "5"])):
        opened = Run(run.path, TAG.restore(labels, run.recipe), run.manifest)
        (answer,) = opened.predict([text])
        assert [word["text"] for word in answer["words"]][: len(expected)] == expected


def prepared(rows):
    return tag.prepare(formats.read(rows, role="train"))


def test_ideographs_touch_when_words_become_a_text():
    table = prepared([{"words": ["我", "爱", "New", "York", "市"]}])
    assert table.texts("text") == ["我爱 New York 市"]
    assert table.texts("marks") == ["BB BII BIII B"]


def test_a_given_word_is_learnt_at_its_first_token_only(tiny_preset):
    words = ["lamp's", "was", "a.b.c"]
    table = prepared([{"words": words, "tags": ["I-LOC", "O", "B-PER"]}])
    labels = {"labels": CLASSES, "scheme": "bio", "missing": 0}
    model = heads.token_model(presets.find(tiny_preset), 2, max_length=32, dtype="float32", seed=0)
    encoder = Encoder(model.preprocessor, 2, graph.encode)
    tokens = store.in_memory(encoder([table.texts("text"), table.texts("marks")]), encoder)
    ids = [model.preprocessor.tokenizer.id_to_token(number) for number in tokens.features["token_ids"]]
    learnt = zip(ids, tag.word_classes(labels, table, tokens).values, strict=True)
    assert [(token, CLASSES[number]) for token, number in learnt if number >= 0] == [
        ("lamp", "B-LOC"),
        ("was", "O"),
        ("a", "B-PER"),
    ]


def test_scores_are_those_of_whole_entities():
    truth = [["B-LOC", "I-LOC", "O"], ["B-PER", "O", "B-LOC"]]
    answered = [["B-LOC", "O", "O"], ["B-PER", "O", "B-LOC"]]
    found = entities.scored(truth, answered, is_plain=False)
    assert found["entity_precision"] == found["entity_recall"] == pytest.approx(2 / 3)
    assert found["token_accuracy"] == pytest.approx(5 / 6)
    assert found["per_class"]["PER"]["f1"] == 1 and found["per_class"]["LOC"]["support"] == 2
    assert set(entities.metric_names(CLASSES, is_plain=False)) == {k for k, v in found.items() if isinstance(v, float)}


def test_two_ways_to_write_the_same_tags_score_as_equal():
    found = entities.scored([["U-LOC", "B-PER", "L-PER"]], [["S-LOC", "B-PER", "E-PER"]], is_plain=False)
    assert found["token_accuracy"] == found["entity_f1"] == 1


def test_given_words_get_one_tag_each_and_are_scored_by_it(run):
    words = ["the", "lamp's", "U.S.", "New York", "today"]
    table = prepared([{"words": words, "tags": ["O", "S-product", "O", "O", "O"]}])
    for scheme, prefix in (("bio", "B"), ("bioes", "S")):
        given = {**run.labels, "scheme": scheme}
        found = Run(run.path, TAG.restore(given, run.recipe), run.manifest).answers(table)
        (answer,) = records(found)
        assert [word["text"] for word in answer["words"]] == words
        assert answer["tags"] == ["O", f"{prefix}-product", "O", "O", "O"]
        assert answer["entities"][0]["text"] == "lamp's"
        assert tag.scored(given, found, table)["entity_f1"] == 1
