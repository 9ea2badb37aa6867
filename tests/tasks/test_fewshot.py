import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

import kft
from kft.errors import DataError, RecipeError
from kft.losses import contrastive
from kft.models import heads, presets
from kft.tasks import fewshot
from kft.tasks.fewshot import FEWSHOT


@pytest.fixture(scope="module")
def parts(message_rows):
    """8 rows of each topic to learn from, and 30 to be scored by."""
    train = [row for topic in ("delivery", "billing", "product") for row in message_rows if row["topic"] == topic]
    train = [row for number, row in enumerate(train) if number % 20 < 8]
    return train, [row for row in message_rows if row not in train][:30]


@pytest.fixture(scope="module")
def knobs(quick):
    return {**quick, "task": "fewshot", "text": "text", "label": "topic", "validation": 0}


@pytest.fixture(scope="module")
def run(parts, knobs, tmp_path_factory):
    train, test = parts
    return kft.fit(train, test=test, epochs=40, out=str(tmp_path_factory.mktemp("runs") / "few"), **knobs)


@pytest.mark.slow
def test_few_rows_are_learnt_and_answered_as_classes(run):
    assert run.task is FEWSHOT
    assert run.metrics["test"]["accuracy"] > 0.9
    (answer,) = run.predict(["the lamp is late today"])
    assert answer["label"] == "product" and sum(answer["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert set(answer) == {"label", "score", "scores"}


@pytest.mark.slow
def test_the_head_is_the_logistic_regression_of_the_training_rows(run, parts):
    train, test = parts
    model = heads.open_task(str(run.path / "preset"))
    assert model.output.shape == (None, 3)
    network = fewshot.network(model, 1)

    def vectors(rows):
        store = run.fitted.encoder(1)([[row["text"] for row in rows]])
        mask = np.arange(store.features["token_ids"].shape[1]) < store.lengths[""][:, None]
        return np.asarray(network({**store.features, "padding_mask": mask.astype(np.int32)})["vectors"])

    fitted = LogisticRegression(max_iter=1000).fit(vectors(train), [row["topic"] for row in train])
    scores = [list(answer["scores"].values()) for answer in run.predict([row["text"] for row in test])]
    np.testing.assert_allclose(scores, fitted.predict_proba(vectors(test)), atol=0.01)


@pytest.mark.slow
def test_the_seed_decides_everything(parts, knobs, tmp_path):
    train, test = parts

    def scores(name, seed):
        run = kft.fit(train, test=test, epochs=2, seed=seed, out=str(tmp_path / name), **knobs)
        return np.array([list(answer["scores"].values()) for answer in run.predict([row["text"] for row in test])])

    first = scores("a", 1)
    np.testing.assert_allclose(scores("b", 1), first, atol=1e-5)
    assert np.abs(scores("c", 2) - first).max() > 1e-3


@pytest.mark.slow
def test_validation_rows_pick_the_epoch_by_the_fitted_head(parts, knobs, tmp_path):
    train, test = parts
    run = kft.fit(train, epochs=3, out=str(tmp_path / "run"), **{**knobs, "validation": test})
    assert run.metrics["validation"]["accuracy"] > 0.5


@pytest.mark.slow
def test_the_export_answers_the_same(run, tmp_path):
    version = run.export(tmp_path / "saved_models" / "few")
    served = tf.saved_model.load(str(version)).signatures
    assert "classify" in served
    found = served["serving_default"](text=tf.constant(["the lamp is late today"]))
    expected = run.predict("the lamp is late today")[0]
    assert found["label"].numpy()[0].decode() == expected["label"]
    assert found["score"].numpy()[0] == pytest.approx(expected["score"], abs=1e-5)


@pytest.mark.parametrize("is_graph", [False, True])
def test_loss_by_hand(is_graph):
    random = np.random.default_rng(0)
    vectors, ids = random.normal(size=(6, 5)).astype(np.float32), np.array([0, 1, 0, 0, 1, 1])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T / 0.1
    expected = 0.0
    for row in range(6):
        others = [i for i in range(6) if i != row]
        total = np.log(np.sum(np.exp(cosines[row, others])))
        expected += np.mean([total - cosines[row, i] for i in others if ids[i] == ids[row]])
    function = lambda y, x: contrastive.supervised_contrast(x, y, tf.ones(6, tf.bool))  # noqa: E731
    found = (tf.function(function) if is_graph else function)(tf.constant(ids), tf.constant(vectors))
    assert float(tf.reduce_sum(found)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ids", [[1], [1, 0]])
def test_a_row_alone_of_its_class_costs_nothing(ids):
    vectors = np.random.default_rng(0).normal(size=(len(ids), 7)).astype(np.float32)
    assert not np.any(contrastive.supervised_contrast(vectors, np.array(ids), np.ones(len(ids), bool)))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_head_is_set_and_does_not_train(tiny_preset, num_classes):
    problem = FEWSHOT.restore({"labels": ["a", "b", "c"][:num_classes], "pooling": "auto"}, kft.Recipe.of())
    model = problem.build.model(presets.find(tiny_preset), max_length=16, dtype="float32", seed=0)
    network = problem.build.network(model, 1)
    assert not [variable.path for variable in network.trainable_variables if "logits" in variable.path]
    random = np.random.default_rng(0)
    ids = np.arange(30) % num_classes
    vectors = random.normal(size=(30, 16)) + ids[:, None]
    problem.objective.in_closed_form(model, {"vectors": vectors}, {"label": ids})
    fitted = LogisticRegression(max_iter=1000).fit(vectors, ids)
    logits = vectors @ np.asarray(model.get_layer("logits").kernel) + np.asarray(model.get_layer("logits").bias)
    found = problem.predictor.answers({"logits": logits.astype(np.float32)}, {}, [])
    np.testing.assert_allclose(found["scores"], fitted.predict_proba(vectors), atol=1e-4)


def test_what_cannot_be_learnt_is_refused(message_rows, knobs):
    knobs = {name: value for name, value in knobs.items() if name != "quiet"}
    rows = [{"text": row["text"], "topic": row["topic"]} for row in message_rows]
    with pytest.raises(DataError, match=r"row 1: label 'other' of the test data is unknown in the training data"):
        kft.check(rows, test=[{"text": "a", "topic": "other"}], **knobs)
    notes = kft.check([*rows, {"text": "a", "topic": "other"}], **knobs).notes
    assert any("1 class with a single training row" in note for note in notes)
    with pytest.raises(RecipeError, match="transfer=features leaves nothing to train for task fewshot"):
        kft.check(rows, transfer="features", **knobs)
    with pytest.raises(RecipeError, match="label_smoothing is for task classify and relate, not for fewshot"):
        kft.check(rows, label_smoothing=0.1, **knobs)
    with pytest.raises(RecipeError, match="contrastive is for task embed, not for fewshot"):
        kft.check(rows, contrastive="cosine", **knobs)
