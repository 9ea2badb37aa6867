"""Baselines: what a model must beat to be worth its weight. Importing this costs scikit-learn's second."""

from kft.evaluation.baselines.by_task import Baselines, of
from kft.evaluation.baselines.linear import bag_of_words, bag_of_words_regression, majority, mean
from kft.evaluation.baselines.rows import Tokens

__all__ = ["Baselines", "Tokens", "bag_of_words", "bag_of_words_regression", "majority", "mean", "of"]
