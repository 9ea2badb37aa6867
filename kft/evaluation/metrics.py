"""The metrics of each kind of answers under one name, as the tasks call them."""

from kft.evaluation.classification import MOST_LABELS, most_confused
from kft.evaluation.classification import scored as classification
from kft.evaluation.extraction import of_sets
from kft.evaluation.kinds import direction
from kft.evaluation.label_sets import best_threshold
from kft.evaluation.label_sets import scored as multilabel
from kft.evaluation.metric import scalars
from kft.evaluation.ordinal_classes import scored as ordinal
from kft.evaluation.perplexity import of_loss as perplexity
from kft.evaluation.regression import scored as regression

__all__ = [
    "MOST_LABELS",
    "best_threshold",
    "classification",
    "direction",
    "most_confused",
    "multilabel",
    "of_sets",
    "ordinal",
    "perplexity",
    "regression",
    "scalars",
]
