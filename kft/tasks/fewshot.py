"""Classification from few rows: the encoder learns which of them are of one class, then a linear head is fitted.

From each batch all pairs of rows are made, so that a few rows are many examples. Columns, answers and metrics are those
of `classify`.

References:
    Tunstall et al., 2022, https://arxiv.org/abs/2209.11055, with the loss of Khosla et al., 2020,
    https://arxiv.org/abs/2004.11362
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kft.data.table import Table
from kft.losses import contrastive
from kft.losses.objective import IS_REAL, Objective, Term
from kft.models import encoders
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks import classify
from kft.tasks.embed import refuse_frozen
from kft.tasks.task import Build, Examples, Labels, Problem, Task
from kft.text import tokens


def learn(parts: Mapping[str, Table], recipe: Recipe) -> Labels:
    """The class names of train, and the pooling."""
    refuse_frozen(recipe, "fewshot")
    return {"labels": classify.class_names(parts), "pooling": recipe.pooling}


def build_of(num_classes: int, pooling: str) -> Build:
    """A classifier of pooled vectors whose last layer does not train."""

    def model(preset: Preset, **settings: Any) -> Any:
        made = encoders.vector_classifier(preset, num_classes, pooling, **settings)
        made.get_layer("logits").trainable = False
        return made

    return Build(model, network, {"logits": num_classes})


def network(model: Any, num_texts: int) -> keras.Model:
    """The classifier with the `vectors` that its `logits` are computed from."""
    return keras.Model(model.input, {"vectors": model.get_layer("pool").output, "logits": model.output})


def loss(outputs: Any, targets: Any) -> Any:
    """The cosines of the rows of a batch against whether they are of one class."""
    return contrastive.supervised_contrast(outputs["vectors"], targets["label"], targets[IS_REAL])


def fit_logits(model: Any, outputs: Mapping[str, np.ndarray], targets: Mapping[str, Any]) -> None:
    """Fits the last layer to the vectors of the training rows by logistic regression."""
    from sklearn.linear_model import LogisticRegression

    logits = model.get_layer("logits")
    fitted = LogisticRegression(max_iter=1000).fit(outputs["vectors"].astype(np.float64), targets["label"])
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:  # of two classes it gives the second one's log odds alone
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    logits.kernel.assign(weights.T)
    logits.bias.assign(bias)


def restore(labels: Labels, recipe: Recipe) -> Problem:
    """The problem of telling these classes apart by vectors."""
    names = labels["labels"]
    return Problem(
        labels,
        classify.SCHEMA,
        Examples(tokens.encode, classify.targets_of(names)),
        build_of(len(names), labels["pooling"]),
        Objective((Term("contrast", loss, compares_rows=True),), in_closed_form=fit_logits),
        classify.predictor_of(names),
        classify.evaluator_of(names),
    )


FEWSHOT = Task("fewshot", classify.SCHEMA, learn, restore)
