import numpy as np
import pytest

import kft
from kft.recipe import Recipe
from kft.tasks import joint


def test_loss_is_that_of_the_intent_and_the_mean_over_the_words():
    random = np.random.default_rng(0)
    slots = random.normal(size=(1, 3, 3)).astype(np.float32)
    intents = random.normal(size=(1, 2)).astype(np.float32)

    def log_prob(values, index):
        return values[index] - np.log(np.exp(values).sum())

    labels = {"labels": ["a", "b"], "slots": {"labels": ["O", "B-x", "I-x"], "scheme": "bio", "missing": 0}}
    terms = joint.restore(labels, Recipe.of()).objective.terms
    outputs, targets = {"intent": intents, "slots": slots}, {"intent": np.array([1]), "slots": np.array([[-1, 2, 0]])}
    words = -(log_prob(slots[0, 1], 2) + log_prob(slots[0, 2], 0)) / 2
    expected = {"intent": -log_prob(intents[0], 1), "slots": words}
    for term in terms:
        assert float(term.of_batch(outputs, targets, np.ones(1))) == pytest.approx(expected[term.name], rel=1e-5)


@pytest.mark.slow
def test_intent_and_slots_are_learnt_together_and_exported(message_rows, quick, tmp_path):
    rows = []
    for row in message_rows:
        words = row["text"].split()
        tags = ["B-thing" if number == 1 else "O" for number in range(len(words))]
        rows.append({"words": words, "tags": tags, "intent": row["topic"]})
    run = kft.fit(rows, task="joint", validation=0.2, test=0.2, epochs=30, out=str(tmp_path / "run"), **quick)
    assert run.task.name == "joint"
    found = run.metrics["test"]
    assert found["intent_accuracy"] > 0.5 and found["entity_f1"] > 0.9  # chance is a third
    assert 0 <= found["exact_match"] <= found["intent_accuracy"]
    (answer,) = run.predict(["the lamp was lost today"])
    assert [entity["text"] for entity in answer["entities"]] == ["lamp"]
    assert set(answer["scores"]) == {"billing", "delivery", "product"}
    (given,) = run.predict([{"words": ["the", "lamp"]}])
    assert given["tags"] == ["O", "B-thing"]
    assert run.export(tmp_path / "saved_models" / "joint").is_dir()
