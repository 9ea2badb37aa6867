"""Classification from few rows: the encoder learns which of them are of one class, then a linear head is fitted.

From each batch all pairs of rows are made, so that a few rows are many examples. Columns, answers and metrics are those
of `classify`.

References:
    Tunstall et al., 2022, https://arxiv.org/abs/2209.11055, with the loss of Khosla et al., 2020,
    https://arxiv.org/abs/2004.11362
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from kft.data import clean
from kft.data.table import Table
from kft.losses import contrastive
from kft.models import encoders
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.classify import CLASSIFY
from kft.tasks.embed import refuse_frozen
from kft.tasks.task import Vocabulary
from kft.text import decode


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
    """The class names of train, and the pooling."""
    refuse_frozen(recipe, "fewshot")
    names = clean.label_names(parts["train"])
    clean.check_labels(parts["train"], {name: part for name, part in parts.items() if name != "train"}, names)
    return {"labels": names, "pooling": recipe.pooling}


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """A classifier of pooled vectors whose last layer does not train."""
    model = encoders.vector_classifier(preset, len(vocabulary["labels"]), vocabulary["pooling"], **settings)
    model.get_layer("logits").trainable = False
    return model


def network(model: Any, num_texts: int) -> keras.Model:
    """The classifier with the vector that its logits are computed from before them: `(batch, width + classes)`."""
    vectors = model.get_layer("pool").output
    return keras.Model(model.input, keras.layers.Concatenate(dtype="float32")([vectors, model.output]))


def loss(recipe: Recipe, vocabulary: Vocabulary) -> contrastive.InBatchLoss:
    """The cosines of the rows of a batch against whether they are of one class."""
    return contrastive.class_loss(len(vocabulary["labels"]))


def finish(model: Any, outputs: np.ndarray, ids: np.ndarray) -> None:
    """Fits the last layer to the vectors of the training rows by logistic regression."""
    from sklearn.linear_model import LogisticRegression

    logits = model.get_layer("logits")
    fitted = LogisticRegression(max_iter=1000).fit(outputs[:, : -logits.units].astype(np.float64), ids)
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:  # of two classes it gives the second one's log odds alone
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    logits.kernel.assign(weights.T)
    logits.bias.assign(bias)


def answers(outputs: Any, vocabulary: Vocabulary, extras: Any, texts: Any) -> dict[str, Any]:
    """`label`, `score` and `scores` of each row."""
    labels = vocabulary["labels"]
    return decode.classes(outputs[:, -len(labels) :], labels)


FEWSHOT = replace(
    CLASSIFY,
    name="fewshot",
    vocabulary=vocabulary,
    head=head,
    network=network,
    loss=loss,
    finish=finish,
    answers=answers,
    weights=None,
)
