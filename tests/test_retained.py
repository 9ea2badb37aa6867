"""Fits that begin with an earlier run: its head is kept, and its task scored before and after."""

import json
import shutil

import keras
import keras_hub
import numpy as np
import pytest

import kft
from kft import retained
from kft.errors import PresetError, RecipeError, RunError
from kft.recipe import Recipe
from kft.text import vocabularies


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def topic_rows(message_rows, tmp_path_factory):
    return written(tmp_path_factory.mktemp("rows") / "topics.jsonl", message_rows[:30])


@pytest.fixture(scope="module")
def second(topic_run, topic_rows, message_rows, quick, tmp_path_factory):
    """A fit of the urgency that begins with the run of the topics."""
    out = tmp_path_factory.mktemp("runs") / "second"
    asked = {**quick, "preset": str(topic_run.path), "label": "urgency", "validation": 0.2, "epochs": 2}
    return kft.fit(message_rows, retain=topic_rows, out=str(out), **asked)


def as_arrays(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.backbone.weights]


def test_an_earlier_task_is_scored_by_its_head_before_and_after(second, topic_run, topic_rows):
    (name,) = second.heads
    told = second.metrics["retained"]["tasks"][name]
    assert name == topic_run.path.name and told["metric"] == "accuracy"
    own = topic_run.evaluate(topic_rows)
    assert told["learnt"] == told["before"]
    np.testing.assert_allclose(told["learnt"]["accuracy"], own["accuracy"])
    np.testing.assert_allclose(told["learnt"]["log_loss"], own["log_loss"], rtol=1e-4)

    # By hand: the first run's model with the second's backbone in place of its own.
    model = kft.load(topic_run.path)
    model.model.backbone.set_weights(as_arrays(second.model))
    by_hand = model.evaluate(topic_rows)
    np.testing.assert_allclose(told["after"]["log_loss"], by_hand["log_loss"], rtol=1e-4)
    assert abs(told["after"]["log_loss"] - told["before"]["log_loss"]) > 1e-3
    lost = own["accuracy"] - by_hand["accuracy"]
    np.testing.assert_allclose([told["forgetting"], told["backward_transfer"]], [lost, -lost])
    assert second.metrics["retained"]["backward_transfer"] == {"accuracy": told["backward_transfer"]}
    assert "when learnt" in (second.path / "report.html").read_text()


def test_the_kept_head_answers_and_becomes_a_run_of_its_own(second, topic_run, topic_rows, message_rows, tmp_path):
    (name,) = second.heads
    texts = [row["text"] for row in message_rows[:8]]
    head = kft.load(second.path).head(name)
    answers = head.predict(texts)
    assert {answer["label"] for answer in answers} <= set(topic_run.labels["labels"])
    told = second.metrics["retained"]["tasks"][name]["after"]["accuracy"]
    np.testing.assert_allclose(head.evaluate(topic_rows)["accuracy"], told)
    assert all("value" in answer for answer in second.predict(texts))

    alone = head.save(tmp_path / "alone")
    for one, other in zip(kft.load(alone.path).predict(texts), answers, strict=True):
        assert one["label"] == other["label"]
        np.testing.assert_allclose(one["score"], other["score"], atol=1e-5)
    with pytest.raises(RunError, match=f"no head 'other' of an earlier task is kept here.* Heads: {name}"):
        second.head("other")
    with pytest.raises(RunError, match="is a kept head. Write it as a run of its own"):
        head.export()


def test_a_third_fit_keeps_both_heads_and_judges_the_first_by_when_it_was_learnt(
    second, topic_run, topic_rows, message_rows, quick, tmp_path
):
    asked = {**quick, "preset": str(second.path), "label": "topic", "validation": 0, "max_steps": 2}
    earlier = {"data": topic_rows, "run": str(topic_run.path), "name": "first"}
    run = kft.fit(message_rows, retain=[earlier], out=str(tmp_path / "third"), **asked)
    assert run.heads == ["first", "second"]
    told = run.metrics["retained"]["tasks"]["first"]
    before = second.metrics["retained"]["tasks"][topic_run.path.name]
    assert told["learnt"] == before["learnt"]
    np.testing.assert_allclose(told["before"]["log_loss"], before["after"]["log_loss"], rtol=1e-5)
    assert "value" in run.head("second").predict(["the lamp is late today"])[0]


def test_a_head_is_kept_beside_adapters_that_are_merged_where_it_is_written(
    topic_run, topic_rows, message_rows, quick, tmp_path
):
    asked = {**quick, "preset": str(topic_run.path), "label": "urgency", "validation": 0, "max_steps": 4}
    run = kft.fit(message_rows, retain=topic_rows, transfer="lora:2", out=str(tmp_path / "lora"), **asked)
    (name,) = run.heads
    told = run.metrics["retained"]["tasks"][name]
    assert abs(told["after"]["log_loss"] - told["before"]["log_loss"]) > 1e-5
    alone = kft.load(run.path).head(name).save(tmp_path / "alone")
    np.testing.assert_allclose(alone.evaluate(topic_rows)["log_loss"], told["after"]["log_loss"], rtol=1e-4)
    with pytest.raises(PresetError, match="is a run without a whole model.*kft merge"):
        kft.fit(message_rows, **{**asked, "preset": str(run.path)})


@pytest.mark.slow
def test_the_loss_of_masked_tokens_is_retained_by_the_head_of_pretraining(corpus, message_rows, quick, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(corpus[:20]), encoding="utf-8")
    asked = {**quick, "validation": 0, "max_steps": 3}
    first = kft.fit([{"text": text} for text in corpus], task="pretrain", out=str(tmp_path / "mlm"), **asked)
    asked |= {"preset": str(first.path), "label": "topic"}
    told = kft.fit(message_rows, retain=str(texts), out=str(tmp_path / "run"), **asked).metrics["retained"]
    (task,) = told["tasks"].values()
    assert task["metric"] == "perplexity"
    np.testing.assert_allclose(task["learnt"]["perplexity"], first.evaluate(texts)["perplexity"], rtol=1e-4)
    assert task["forgetting"] == pytest.approx(task["after"]["perplexity"] - task["learnt"]["perplexity"])


@pytest.mark.slow
def test_a_decoder_needs_no_run_to_be_scored_as_a_language_model(corpus, message_rows, quick, tmp_path):
    tokenizer = vocabularies.byte_pair(corpus, 300)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        **{"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32, "max_sequence_length": 64},
    )
    preset, texts = str(tmp_path / "gpt"), written(tmp_path / "texts.jsonl", [{"text": text} for text in corpus[:20]])
    backbone.save_to_preset(preset)
    tokenizer.save_to_preset(preset)
    asked = {**quick, "preset": preset, "label": "topic", "validation": 0, "max_steps": 3}
    run = kft.fit(message_rows, retain=texts, out=str(tmp_path / "run"), **asked)
    told = run.metrics["retained"]["tasks"]["language"]
    assert told["learnt"] == told["before"] and told["before"]["perplexity"] == pytest.approx(300, rel=0.2)
    head = run.head("language")
    assert head.evaluate(texts)["perplexity"] == pytest.approx(told["after"]["perplexity"], rel=1e-4)
    assert head.predict(corpus[:2])[0]["perplexity"] > 1


def test_forgetting_is_the_loss_since_it_was_learnt_whichever_way_is_better():
    (line,) = retained.facts({"tasks": {"a": {
        "metric": "accuracy", "learnt": {"accuracy": 0.9}, "before": {"accuracy": 0.8}, "after": {"accuracy": 0.6},
        "forgetting": 0.3, "backward_transfer": -0.3}}})  # fmt: skip
    assert line == (
        "retained a",
        "accuracy 0.9000 when learnt, 0.8000 before, 0.6000 after: forgetting 0.3000, backward transfer -0.3000",
    )


def test_what_cannot_be_retained_is_refused(topic_run, topic_rows, message_rows, quick, tiny_bert, tmp_path):
    asked = {**quick, "label": "urgency", "validation": 0, "max_steps": 1, "out": str(tmp_path / "run")}
    with pytest.raises(RecipeError, match="nothing answers these rows: .* is a BertBackbone without a head"):
        kft.fit(message_rows, retain=topic_rows, **asked)
    with pytest.raises(RecipeError, match="retain: run: found '.*', expected the directory of a finished run"):
        kft.fit(message_rows, retain={"data": topic_rows, "run": str(tmp_path)}, **asked)
    other = tiny_bert(tmp_path / "other", "further")
    with pytest.raises(RunError, match="was trained with another tokenizer than this model has"):
        kft.fit(message_rows, retain={"data": topic_rows, "run": str(topic_run.path)}, **{**asked, "preset": other})
    twice = [{"data": topic_rows, "name": "a"}, {"data": topic_rows, "name": "a"}]
    with pytest.raises(RecipeError, match="two earlier tasks are called 'a'"):
        kft.fit(message_rows, retain=twice, **{**asked, "preset": str(topic_run.path)})
    with pytest.raises(RecipeError, match="retain is not used with preset=scratch:bert"):
        Recipe.of(retain=topic_rows, preset="scratch:bert")
    assert not (tmp_path / "run").exists()


def test_a_damaged_head_is_named(second, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(second.path, copied)
    (name,) = second.heads
    with (copied / "heads" / name / "head.safetensors").open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"xyz")
    with pytest.raises(RunError, match=r"head.safetensors: its sha256 is not the recorded one"):
        kft.load(copied)
