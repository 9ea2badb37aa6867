import keras
import numpy as np
import pytest

import kft
from kft.errors import RecipeError
from kft.losses import row_losses
from kft.tasks import tag
from kft.tasks.classify import CLASSIFY
from kft.tasks.multilabel import MULTILABEL

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]], np.float32)
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_focal_loss_of_classes_is_the_papers(gamma, smoothing):
    shares = np.eye(3)[[0, 2]] * (1 - smoothing) + smoothing / 3
    expected = -(shares * (1 - PROBS) ** gamma * np.log(PROBS)).sum(axis=1)
    recipe = kft.Recipe.of(focal_gamma=gamma, label_smoothing=smoothing)
    (term,) = CLASSIFY.restore({"labels": ["a", "b", "c"]}, recipe).objective.terms
    losses = term.of_rows({"logits": LOGITS}, {"label": np.array([0, 2])}, np.ones(2))
    np.testing.assert_allclose(np.asarray(losses), expected, rtol=1e-5)


def test_focal_loss_of_labels_is_the_papers():
    sets = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    right = np.where(sets == 1, 1 / (1 + np.exp(-LOGITS)), 1 / (1 + np.exp(LOGITS)))
    recipe = kft.Recipe.of(task="multilabel", focal_gamma=2.0)
    labels = {"labels": ["a", "b", "c"], "thresholds": [0.5] * 3}
    (term,) = MULTILABEL.restore(labels, recipe).objective.terms
    losses = term.of_rows({"logits": LOGITS}, {"labels": sets}, np.ones(2))
    np.testing.assert_allclose(np.asarray(losses), -((1 - right) ** 2 * np.log(right)).sum(axis=1), rtol=1e-5)


def test_focal_loss_of_words_is_the_mean_of_those_that_have_a_tag():
    recipe = kft.Recipe.of(task="tag", focal_gamma=2.0)
    (term,) = tag.objective_of(recipe.focal_gamma).terms
    losses = term.of_rows({"logits": LOGITS[None].repeat(2, axis=0)}, {"tags": np.array([[0, 2], [-1, 2]])}, np.ones(2))
    each = [-((1 - PROBS[row, i]) ** 2) * np.log(PROBS[row, i]) for row, i in ((0, 0), (1, 2))]
    np.testing.assert_allclose(np.asarray(losses), [np.mean(each), each[1]], rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_gradient_of_focal_loss_is_finite_where_a_probability_is_one(gamma):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("reads gradients by TensorFlow")
    logits = tf.constant([[200.0, 0.0], [0.0, 200.0]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        classes = row_losses.crossentropy(logits, np.array([0, 0]), 0.1, gamma)
        labels = row_losses.binary_crossentropy(logits, np.eye(2), gamma)
    for losses in (classes, labels):
        assert np.isfinite(losses).all() and np.isfinite(tape.gradient(losses, logits)).all()


def test_focal_loss_is_refused_where_no_classes_are_told_apart():
    with pytest.raises(
        RecipeError, match="focal_gamma is for task classify, multilabel, relate and tag, not for regress"
    ):
        kft.check([{"text": "a", "label": 1.0}] * 9, task="regress", focal_gamma=2.0)
