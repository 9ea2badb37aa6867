import numpy as np
import pytest

import kft
from kft.tasks.joint import JointCrossentropy


def test_loss_is_that_of_the_intent_and_the_mean_over_the_words():
    logits = np.random.default_rng(0).normal(size=(1, 3, 5)).astype(np.float32)  # 3 slots, 2 intents

    def log_prob(values, index):
        return values[index] - np.log(np.exp(values).sum())

    # Intent 1, the slots of the tokens: none, 2, 0.
    targets = np.array([[1 * 4 + 0, 1 * 4 + 3, 1 * 4 + 1]])
    words = -(log_prob(logits[0, 1, :3], 2) + log_prob(logits[0, 2, :3], 0)) / 2
    expected = words - log_prob(logits[0, 0, 3:], 1)
    assert float(JointCrossentropy(3)(targets, logits)) == pytest.approx(expected, rel=1e-5)


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
