"""What a fit learns, writes, keeps and answers."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import kft
from kft.tasks.classify import CLASSIFY

NOTHING_TAKEN = {"validation": 0, "text": "text"}


def history(run, kind):
    lines = (run.path / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def rows_of(table):
    names = table.names()
    return [dict(zip(names, row, strict=True)) for row in zip(*map(table.texts, names), strict=True)]


# -- rows in ---------------------------------------------------------------------------------------------------------


def test_every_source_gives_the_same_rows(message_rows, tmp_path):
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(message_rows[0]))
        writer.writeheader()
        writer.writerows(message_rows)
    lines = "".join(json.dumps(row) + "\n" for row in message_rows)
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    sources = [message_rows, pd.DataFrame(message_rows), tmp_path / "rows.csv", str(tmp_path / "rows.jsonl")]
    for label in ("topic", "urgency"):
        found = [kft.check(source, label=label, test=0.2) for source in sources]
        assert len({json.dumps(each.fingerprints()) for each in found}) == 1
        assert {name: len(part) for name, part in found[0].parts.items()} == {"train": 42, "validation": 6, "test": 12}


@pytest.mark.parametrize(
    ("labels", "task", "why"),
    [
        (["a", "b"] * 15, "classify", "holds text"),
        (["1", "0"] * 15, "classify", "2 different whole numbers"),
        ([1.5, 2, 2.5] * 10, "regress", "fractions"),
        (["1e-3", "2.25", "3"] * 10, "regress", "fractions"),
        (list(range(30)), "regress", "30 different numbers"),
        ([True, False] * 15, "classify", "holds bool"),
    ],
)
def test_the_task_is_read_off_the_labels(labels, task, why):
    found = kft.check([{"text": f"row {i}", "label": label} for i, label in enumerate(labels)], **NOTHING_TAKEN)
    assert found.task.name == task
    assert any(note.startswith(f"task: {task}") and why in note for note in found.notes)


# -- learning --------------------------------------------------------------------------------------------------------


def test_topics_are_learnt(topic_run, message_rows):
    losses = [record["loss"] for record in history(topic_run, "epoch")]
    assert losses[-1] < losses[0] / 2
    assert topic_run.evaluate(message_rows)["accuracy"] > 0.9


@pytest.mark.slow
def test_topics_are_learnt_in_16_bits_and_kept_in_32(message_rows, quick, tmp_path):
    asked = {**quick, "precision": "mixed_bfloat16", "epochs": 10, "validation": 0.2, "text": "text", "label": "topic"}
    run = kft.fit(message_rows, out=str(tmp_path / "run"), **asked)
    assert run.evaluate(message_rows)["accuracy"] > 0.9
    plain = keras_hub.models.TextClassifier.from_preset(str(run.path / "preset"), compile=False)
    assert {layer.compute_dtype for layer in (plain, plain.backbone)} == {"float32"}
    assert {weight.dtype for weight in plain.get_weights()} == {np.dtype("float32")}


def test_urgency_is_learnt_in_its_own_unit(urgency_run, message_rows):
    losses = [record["loss"] for record in history(urgency_run, "epoch")]
    assert losses[-1] < losses[0] / 2
    found = urgency_run.evaluate(message_rows)
    assert found["pearson"] > 0.9 and found["mae"] < 0.8


def test_weights_are_those_of_the_best_epoch_and_training_stops_early(message_rows, quick, tmp_path):
    topics = ["delivery", "billing", "product", "delivery"]
    misled = [{**row, "topic": topics[topics.index(row["topic"]) + 1]} for row in message_rows[40:]]
    asked = {"epochs": 6, "save_best_by": "log_loss", "early_stopping_patience": 1, "out": str(tmp_path / "run")}
    run = kft.fit(message_rows[:40], text="text", label="topic", validation=misled, **asked, **quick)
    epochs = history(run, "epoch")
    losses = [record["val_log_loss"] for record in epochs]
    assert losses[-1] > losses[-2] == min(losses) and len(losses) < 6
    assert run.metrics["validation"]["log_loss"] == pytest.approx(losses[-2], abs=1e-5)
    notes = " ".join(run.manifest["notes"])
    assert f"stopped early after epoch {len(losses)}" in notes
    assert f"kept the weights of step {epochs[-2]['step']}" in notes


def test_without_validation_rows_the_last_weights_are_kept(urgency_run):
    assert set(urgency_run.metrics) == {"test", "baselines", "train_s", "examples_per_s", "peak_memory_mb"}
    assert all(set(record) == {"kind", "epoch", "step", "loss"} for record in history(urgency_run, "epoch"))
    assert not any("kept the weights" in note for note in urgency_run.manifest["notes"])


@pytest.fixture(scope="module")
def features_runs(message_rows, quick, tmp_path_factory):
    """Short fits of the head alone: two with seed 0 and one with seed 1."""
    folder = tmp_path_factory.mktemp("features")
    asked = {"text": "text", "label": "topic", "transfer": "features", "max_steps": 3, "validation": 0, **quick}
    return [
        kft.fit(message_rows, out=str(folder / name), seed=seed, **asked)
        for name, seed in (("one", 0), ("again", 0), ("other", 1))
    ]


def test_a_frozen_backbone_stays_as_it_was_to_the_bit(features_runs, tiny_preset, topic_run):
    pretrained = keras_hub.models.Backbone.from_preset(tiny_preset).get_weights()
    for found, before in zip(features_runs[0].model.backbone.get_weights(), pretrained, strict=True):
        np.testing.assert_array_equal(found, before)
    moved = [(a != b).any() for a, b in zip(topic_run.model.backbone.get_weights(), pretrained, strict=True)]
    assert np.mean(moved) > 0.9


def test_a_fit_follows_its_seed(features_runs):
    one, again, other = [history(run, "step") for run in features_runs]
    assert one == again != other and len(one) == 3
    weights = [run.model.get_weights() for run in features_runs]
    assert all((a == b).all() for a, b in zip(weights[0], weights[1], strict=True))
    assert any((a != b).any() for a, b in zip(weights[0], weights[2], strict=True))


def test_fewer_batches_than_make_an_update_are_learnt_from(message_rows, quick, tiny_preset, tmp_path):
    asked = {"max_steps": 1, "gradient_accumulation_steps": 2, "validation": 0, "class_weights": "balanced"}
    rows = [row for i, row in enumerate(message_rows) if i % 4 or row["topic"] != "billing"]
    run = kft.fit(rows, text="text", label="topic", out=str(tmp_path / "run"), **asked, **quick)
    pretrained = keras_hub.models.Backbone.from_preset(tiny_preset).get_weights()
    moved = [np.abs(a - b).max() for a, b in zip(run.model.backbone.get_weights(), pretrained, strict=True)]
    assert max(moved) == pytest.approx(5e-3, rel=0.01)  # the learning rate, as the first update of Adam
    counts = {label: sum(row["topic"] == label for row in rows) for label in ("billing", "delivery", "product")}
    assert run.labels["class_weights"] == [len(rows) / (3 * count) for count in counts.values()]


def test_smoothing_and_class_weights_shape_the_loss():
    logits, ids = np.array([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]], np.float32), np.array([0, 2])
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    recipe = kft.Recipe.of(label_smoothing=0.3)
    smoothed = [0.7 * log_probs[row, i] + 0.3 * log_probs[row].mean() for row, i in enumerate(ids)]
    labels = {"labels": ["a", "b", "c"], "class_weights": [3.0, 1.0, 1.0]}
    outputs, targets = {"logits": logits}, {"label": ids}
    (term,) = CLASSIFY.restore(labels, recipe).objective.terms
    assert float(term.of_batch(outputs, targets, np.ones(2))) == pytest.approx(-np.sum(smoothed), abs=1e-6)
    problem = CLASSIFY.restore(labels, kft.Recipe.of())
    weights = problem.objective.terms[0].row_weights(targets, ids)
    weighted = problem.objective.terms[0].of_batch(outputs, targets, weights / weights.sum())
    assert float(weighted) == pytest.approx(-(3 * log_probs[0, 0] + log_probs[1, 2]) / 4, abs=1e-6)


def test_minilm_trains_and_answers(tmp_path):
    rows = [{"text": f"{word} arrived", "label": word} for word in ("tea", "soup") for _ in range(2)]
    asked = {"max_steps": 2, "batch_size": 2, "max_length": 16, "validation": 0, "transfer": "features"}
    run = kft.fit(rows, preset="minilm", out=str(tmp_path / "run"), quiet=True, **asked)
    assert len(history(run, "step")) == 2
    assert run.predict("tea arrived")[0]["label"] in ("tea", "soup")


# -- the run directory -----------------------------------------------------------------------------------------------


def test_a_run_directory_holds_what_it_promises(topic_run):
    names = {path.name for path in topic_run.path.iterdir()}
    files = {"recipe.json", "labels.json", "history.jsonl", "metrics.json", "report.html", "manifest.json"}
    assert names == {*files, "preset", "tensorboard", ".lock"}
    assert topic_run.recipe.epochs == 20 and topic_run.vocabulary == topic_run.labels == {
        "labels": ["billing", "delivery", "product"]
    }
    parts = {"validation", "test", "baselines"}
    assert set(topic_run.metrics) == {*parts, "train_s", "examples_per_s", "peak_memory_mb"}
    assert len(history(topic_run, "step")) == 20 * 5 and len(history(topic_run, "epoch")) == 20
    manifest = topic_run.manifest
    assert manifest["finished"] and manifest["seed"] == 0 and set(manifest["data"]) == {"train", "validation", "test"}
    assert {"recipe.json", "labels.json", "preset/model.weights.h5", "report.html"} <= set(manifest["sha256"])
    report = (topic_run.path / "report.html").read_text(encoding="utf-8")
    assert "http://" not in report.replace("http://www.w3.org", "") and "macro_f1" in report.lower().replace(" ", "_")
    board = EventAccumulator(str(topic_run.path / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("step/loss")] == list(range(1, 101))


def test_a_run_knows_what_simpler_models_reach_on_its_test_rows(topic_run, urgency_run):
    simpler = topic_run.metrics["baselines"]
    assert set(simpler) == {"majority", "bag of words"}
    assert simpler["majority"]["num_rows"] == topic_run.metrics["test"]["num_rows"]
    page = (topic_run.path / "report.html").read_text(encoding="utf-8")
    assert "Against simpler models" in page and "baseline: bag of words" in page
    assert set(urgency_run.metrics["baselines"]) == {"mean", "bag of words"}


def test_the_preset_opens_with_plain_keras_hub(topic_run, message_rows):
    plain = keras_hub.models.TextClassifier.from_preset(str(topic_run.path / "preset"), compile=False)
    texts = [row["text"] for row in message_rows[:9]]
    logits = plain.predict(texts, verbose=0)
    scores = np.array([list(answer["scores"].values()) for answer in topic_run.predict(texts)])
    np.testing.assert_allclose(keras.ops.softmax(logits), scores, atol=1e-6)


def test_evaluate_gives_the_test_metrics_again(topic_run, urgency_run, message_rows):
    for run, label in ((topic_run, "topic"), (urgency_run, "urgency")):
        recipe = run.recipe
        asked = {"text": "text", "label": label, "validation": recipe.validation, "test": recipe.test}
        test = rows_of(kft.check(message_rows, **asked).parts["test"])
        found = kft.load(run.path).evaluate([{"text": row["text"], label: row["label"]} for row in test])
        assert found == pytest.approx(run.metrics["test"]) if label == "urgency" else found == run.metrics["test"]


# -- answers out -----------------------------------------------------------------------------------------------------


def test_every_kind_of_rows_gets_the_same_answers(topic_run):
    texts = ["the lamp is wrong today", "the refund was lost today"]
    expected = topic_run.predict(texts)
    assert [set(answer) for answer in expected] == [{"label", "score", "scores"}] * 2
    assert expected[0]["score"] == max(expected[0]["scores"].values()) == expected[0]["scores"][expected[0]["label"]]
    assert sum(expected[0]["scores"].values()) == pytest.approx(1)
    assert topic_run.predict(texts[0])[0]["label"] == expected[0]["label"] == "product"
    dicts = [{"text": text} for text in texts]
    for rows in (dicts, [(text,) for text in texts], pd.DataFrame(dicts), [{**row, "topic": "x"} for row in dicts]):
        assert topic_run.predict(rows) == expected
    assert topic_run.predict([]) == []


def test_answers_keep_the_order_of_rows(topic_run, urgency_run):
    texts = ["lamp " * (i * 7 % 30 + 1) + "refund " * (i % 4) for i in range(40)]
    for run, key in ((topic_run, "score"), (urgency_run, "value")):
        alone = [run.predict(text)[0][key] for text in texts[:8]]
        together = [answer[key] for answer in run.predict(texts, batch_size=16)]
        assert together[:8] == pytest.approx(alone, abs=1e-5) and len(together) == 40
        assert [answer[key] for answer in run.predict(texts[::-1])][::-1] == pytest.approx(together, abs=1e-5)


def test_a_run_of_two_texts_reads_both(pair_run):
    assert pair_run.text_columns == ["text", "text_pair"]
    first, second = "the lamp is late today", "my chair was lost today"
    one, turned = pair_run.predict([(first, second), (second, first)])
    assert set(one["scores"]) == {"same", "other"} and one["scores"] != turned["scores"]
    assert pair_run.predict([{"text": first, "text_pair": second}])[0]["score"] == pytest.approx(one["score"], abs=1e-6)


def test_importing_kft_leaves_the_backend_alone():
    script = "import os, sys, kft; kft.Recipe.of(); print(os.environ.get('KERAS_BACKEND'), 'tensorflow' in sys.modules)"
    root = str(Path(kft.__file__).parents[1])
    environment = {**{k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}, "PYTHONPATH": root}
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["None", "False"]


# -- labels as train has them ----------------------------------------------------------------------------------------


def test_a_run_reads_labels_as_its_training_rows_had_them(topic_run, message_rows):
    assert topic_run.manifest["readings"] == {"label": {"numbers": False}}
    rows = [{"text": row["text"], "label": row["topic"]} for row in message_rows]
    before = {name: value for name, value in topic_run.manifest.items() if name != "readings"}
    older = kft.run.Run(topic_run.path, topic_run.problem, before)
    assert older.evaluate(rows) == topic_run.evaluate(rows)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "fewshot"])
def test_classes_with_a_single_row_are_fitted(message_rows, quick, tmp_path, task):
    rare = [{"text": f"was {letter}", "topic": f"rare {letter}"} for letter in "abcdefghijklmnopqrstuvw"]
    rows = [{"text": row["text"], "topic": row["topic"]} for row in message_rows] + rare
    run = kft.fit(rows, task=task, label="topic", test=0.1, epochs=1, out=str(tmp_path / "run"), **quick)
    assert len(run.labels["labels"]) == 26
    assert any("23 classes with a single training row" in note for note in run.manifest["notes"])
    assert set(run.predict("the lamp is late")[0]["scores"]) == {*run.labels["labels"]}
