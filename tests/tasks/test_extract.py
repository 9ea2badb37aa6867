import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kft
from kft.data.records import records
from kft.errors import DataError
from kft.tasks import extract
from kft.text import events

TEXT = "We ordered two lamps in Oslo"
EVENT = {
    "type": "order",
    "trigger": {"start": 3, "end": 10},
    "arguments": [{"role": "item", "start": 15, "end": 20}, {"role": "place", "start": 24, "end": 28}],
}


def checked(*rows):
    return kft.check([*rows], task="extract", validation=0)


def test_a_row_teaches_its_triggers_and_the_arguments_of_each():
    other = {"type": "stay", "trigger": {"start": 21, "end": 23}, "arguments": [EVENT["arguments"][1]]}
    data = checked({"text": TEXT, "events": [other, EVENT]}, {"text": "Thank you", "events": []})
    rows = data.training_rows["train"]
    cut = [
        [(text[span["start"] : span["end"]], span["label"]) for span in spans]
        for text, spans in zip(rows.texts("text"), rows.texts("spans"), strict=True)
    ]
    assert rows.texts("text") == [
        TEXT,
        "We @ order * ordered @ two lamps in Oslo",
        "We ordered two lamps @ stay * in @ Oslo",
        "Thank you",
    ]
    assert cut == [
        [("ordered", "trigger:order"), ("in", "trigger:stay")],
        [("lamps", "role:item"), ("Oslo", "role:place")],
        [("Oslo", "role:place")],
        [],
    ]


def test_triggers_and_arguments_lose_the_spaces_at_their_edges_and_may_be_parts_of_words():
    text = "We preordered two lamps"
    wide = {
        "type": "order",
        "trigger": {"start": 6, "end": 14},
        "arguments": [{"role": "item", "start": 17, "end": 23}, {"role": "who", "start": 0, "end": 3}],
    }
    data = checked(*({"text": f"{text} {n}", "events": [wide]} for n in range(4)))
    [event] = data.parts["train"].texts("events")[0]
    assert (event["start"], event["end"]) == (6, 13)
    assert [(one["start"], one["end"]) for one in event["arguments"]] == [(0, 2), (18, 23)]
    assert "(12 of 12 spans have some)" in data.notes[0]
    assert data.labels["words"] == "characters/1"
    assert "the span 'ordered' in 'preordered' is part of a word; 4 of 12 spans of train" in data.notes[1]


PIECE = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.lists(PIECE, min_size=5, max_size=5), st.sampled_from(["order", "购买", "a b"]))
def test_what_is_found_in_a_marked_text_is_placed_in_the_text_as_it_is(pieces, kind):
    before, trigger, between, argument, after = pieces
    trigger, argument = trigger + "t", argument + "a"
    text = before + trigger + between + argument + after
    start = len(before)
    place = (start, start + len(trigger))
    first = place[1] + len(between)
    wanted = [place, (first, first + len(argument))]
    marked = events.marked(text, *place, kind)
    in_marked = [events.moved(span, *place, kind) for span in wanted]
    assert [marked[s:e] for s, e in in_marked] == [text[s:e] for s, e in wanted]

    def tagger(strings, sort):
        found = [[(kind, place)], []] if sort == "trigger" else [[("one", span) for span in in_marked], []]
        assert [s.decode() for s in strings.numpy()] == ([text, ""] if sort == "trigger" else [marked, ""])
        width = max(map(len, found))
        rows = [[*row, *[("", (0, 0))] * (width - len(row))] for row in found]
        kinds, starts, ends = (
            tf.constant([[get(one) for one in row] for row in rows])
            for get in (lambda one: one[0], lambda one: one[1][0], lambda one: one[1][1])
        )
        found = {"type": kinds, "text": kinds, "start": starts, "end": ends, "score": tf.cast(starts, tf.float32)}
        return {f"entities.{name}": values for name, values in found.items()}

    found = {name: value.numpy() for name, value in events.extract(tagger, tf.constant([text, ""])).items()}
    full, empty = records(found)
    (event,) = full["events"]
    assert (event["type"], event["start"], event["end"]) == (kind, *place)
    assert [(one["role"], one["start"], one["end"], one["text"]) for one in event["arguments"]] == [
        ("one", s, e, text[s:e]) for s, e in wanted
    ]
    assert empty == {"events": []}


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"type": "order"}, r"row 1: column 'events': event 1 is .*; expected \{\"type\""),
        ({**EVENT, "type": ""}, "row 1: column 'events': event 1 has no type"),
        ({**EVENT, "trigger": {"start": 3, "end": 99}}, r"row 1: the span \(order, 3 to 99\) ends past the text"),
        (
            {**EVENT, "trigger": {"start": 3, "end": 3}},
            r"event 1 \(order\): span 1 goes from 3 to 3",
        ),
        ({**EVENT, "arguments": [{"start": 0, "end": 2}]}, r"event 1 \(order\): span 1, from 0 to 2, has no label"),
        ({**EVENT, "arguments": [{**EVENT["arguments"][0], "text": "lump"}]}, "has the text 'lump', but from 15 to 20"),
        ({**EVENT, "arguments": EVENT["arguments"][:1] * 2}, "row 1: the spans 'lamps' .* overlap"),
    ],
)
def test_an_event_that_cannot_be_is_refused_by_row(event, message):
    with pytest.raises(DataError, match=message):
        checked({"text": TEXT, "events": [event]})


def test_rows_without_any_event_or_with_an_unknown_role_are_refused():
    with pytest.raises(DataError, match="no row has an event"):
        checked({"text": TEXT, "events": []})
    train = [{"text": TEXT, "events": [EVENT]}]
    other = [{"text": f"{TEXT}!", "events": [{**EVENT, "arguments": [{"role": "itme", "start": 15, "end": 20}]}]}]
    with pytest.raises(DataError, match="row 1: the role 'itme' is unknown .*Did you mean 'item'"):
        kft.check(train, task="extract", validation=other)


def test_triggers_count_with_their_type_and_arguments_with_role_and_type():
    table = checked({"text": TEXT, "events": [EVENT]}, {"text": "Thank you", "events": []}).parts["train"]
    columns = {
        "events.type": [[b"order"], [b"stay"]],
        "events.start": [[3], [0]],
        "events.end": [[10], [5]],
        "events.arguments.role": [[[b"item", b"item"]], [[b"", b""]]],
        "events.arguments.start": [[[15, 24]], [[0, 0]]],
        "events.arguments.end": [[[20, 28]], [[0, 0]]],
    }
    found = {name: np.array(values) for name, values in columns.items()}
    scores = extract.scored(found, table)
    assert (scores["trigger_precision"], scores["trigger_recall"]) == (0.5, 1.0)
    assert (scores["argument_precision"], scores["argument_recall"]) == (0.5, 0.5)
    _, worst = extract.view(found, table)
    assert [row["why"] for row in worst] == ["1 missed, 1 made up", "0 missed, 1 made up"]


def span(text, part, **named):
    start = text.rindex(part)
    return {**named, "start": start, "end": start + len(part)}


def story(nouns, trouble, when, other):
    """A message with an event or two: what happened to a thing and when, and that another is bad."""
    text = f"the {nouns[0]} was {trouble} {when}"
    parts = [span(text, nouns[0], role="thing"), span(text, when, role="time")]
    events = [{"type": "trouble", "trigger": span(text, trouble), "arguments": parts}]
    if other:
        text = f"{text}, my {nouns[1]} is bad"
        thing = span(text, nouns[1], role="thing")
        events.append({"type": "verdict", "trigger": span(text, "bad"), "arguments": [thing]})
    return {"text": text, "events": events}


STORIES = [
    story(*parts)
    for parts in itertools.product(
        itertools.permutations(["parcel", "invoice", "lamp", "chair"], 2),
        ["lost", "late", "wrong"],
        ["today", "now"],
        [True, False],
    )
]


def without_scores(value):
    if isinstance(value, list):
        return [without_scores(one) for one in value]
    if isinstance(value, dict):
        return {name: without_scores(one) for name, one in value.items() if name != "score"}
    return value


@pytest.mark.slow
def test_events_are_learnt_and_an_export_says_the_same(quick, tmp_path):
    out = str(tmp_path / "run")
    run = kft.fit(STORIES, task="extract", validation=0, test=0.2, epochs=20, out=out, **quick)
    scores = run.metrics["test"]
    assert scores["trigger_f1"] > 0.9
    assert scores["argument_f1"] > 0.8
    row = STORIES[0]
    (answer,) = run.predict([row["text"]])
    assert [event["type"] for event in answer["events"]] == ["trouble", "verdict"]
    for event in answer["events"]:
        for part in (event, *event["arguments"]):
            assert row["text"][part["start"] : part["end"]] == part["text"]
    exported = tf.saved_model.load(str(run.export(tmp_path / "model")))
    texts = [one["text"] for one in STORIES[:12]] + [""]
    found = exported.signatures["serving_default"](text=tf.constant(texts))
    served = records({name: values.numpy() for name, values in found.items()})
    assert without_scores(served) == without_scores(run.predict(texts))
