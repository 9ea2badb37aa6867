"""The demo data is what its README says: fields, labels, offsets, counts."""

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from kft.demo import MESSAGES

README = Path(MESSAGES).with_name("README.md").read_text(encoding="utf-8")
FIELDS = ["id", "language", "text", "topic", "sentiment", "urgency", "spans", "question", "answers", "summary"]
ALLOWED = {
    "language": {"en", "zh"},
    "topic": {"account", "billing", "delivery", "product", "returns", "technical"},
    "sentiment": {"negative", "neutral", "positive"},
    "urgency": {1, 2, 3, 4, 5},
}
CHINESE = r"[\u4e00-\u9fff]"


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in MESSAGES.read_text(encoding="utf-8").splitlines()]


def test_every_row_has_the_documented_fields_in_order(rows):
    assert all(list(row) == FIELDS for row in rows)
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
    assert re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE) == FIELDS


@pytest.mark.parametrize("field", ALLOWED)
def test_each_label_is_allowed_and_each_allowed_one_occurs(rows, field):
    assert {row[field] for row in rows} == ALLOWED[field]


def test_topics_are_balanced_in_both_languages(rows):
    counts = Counter((row["language"], row["topic"]) for row in rows)
    for language in ALLOWED["language"]:
        of_language = [counts[language, topic] for topic in ALLOWED["topic"]]
        assert max(of_language) - min(of_language) <= 2, of_language


def test_no_two_texts_are_equal_but_for_case_and_white_space(rows):
    repeated = Counter(" ".join(row["text"].casefold().split()) for row in rows).most_common(1)
    assert repeated[0][1] == 1, repeated


def test_text_question_and_summary_are_in_the_language_of_the_row(rows):
    for row in rows:
        for field in ("text", "question", "summary"):
            assert row[field] == row[field].strip() != "", row
            assert bool(re.search(CHINESE, row[field])) == (row["language"] == "zh"), row


def test_spans_stand_where_they_say_in_order_and_apart(rows):
    for row in rows:
        for span in row["spans"]:
            assert list(span) == ["type", "start", "end", "text"]
            assert span["type"] in {"product", "place", "date"}
            assert row["text"][span["start"] : span["end"]] == span["text"] == span["text"].strip() != "", row
        assert all(first["end"] <= second["start"] for first, second in pairwise(row["spans"])), row


def test_each_question_has_an_answer_that_is_a_substring_of_the_text(rows):
    for row in rows:
        (answer,) = row["answers"]
        assert list(answer) == ["text", "start"]
        assert answer["text"] and row["text"].startswith(answer["text"], answer["start"]), row


def test_urgency_is_linked_to_sentiment_as_the_limits_say(rows):
    most_common = {
        urgency: Counter(row["sentiment"] for row in rows if row["urgency"] == urgency).most_common(1)[0][0]
        for urgency in (1, 5)
    }
    assert most_common == {1: "positive", 5: "negative"}


def test_the_readme_prints_the_counts_it_shows():
    (program,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```text\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=MESSAGES.parents[2])
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown
