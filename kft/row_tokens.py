"""The rows of a fit as tokens: how long they may be, and how many of them the tokenizer does not know."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from kft import disk
from kft.data import tokenise
from kft.data.store import Store, sliced
from kft.dataset import Dataset
from kft.errors import RecipeError
from kft.models import presets
from kft.recipe import Recipe
from kft.text import unknown
from kft.text.tokens import Encoder


def max_length(recipe: Recipe, data: Dataset, model: Any) -> int:
    """The asked length if the backbone has as many positions, or the one that covers the rows."""
    positions = presets.max_positions(model.backbone)
    if recipe.max_length == "auto":
        limit = min(tokenise.LONGEST, positions or tokenise.LONGEST)
        return tokenise.length_that_covers(
            data.training_rows["train"],
            data.text_columns,
            model.preprocessor,
            data.problem.examples.features,
            limit,
        )
    if positions and recipe.max_length > positions:
        raise RecipeError(
            f"max_length: found {recipe.max_length}, but {recipe.preset} has {positions} positions. "
            f"Ask for at most {positions}."
        )
    return recipe.max_length


def stores(data: Dataset, model: Any) -> tuple[dict[str, Store], tuple[str, ...]]:
    """The tokens of each part, in the rows that are trained on, and what the user should know of their cache."""
    encoder = Encoder(model.preprocessor, len(data.text_columns), data.problem.examples.features)
    key = tokenise.fingerprint(model.preprocessor)
    sources = {"train": data.parts["train"].source}  # other parts may be as short as they are
    advice = "Free some space, or set KFT_CACHE and TMPDIR to folders on a larger disk."
    notes: list[str] = []
    with disk.refusals(tokenise.cache_dir() or tempfile.gettempdir(), advice):
        found = {
            name: tokenise.tokenise(part, data.text_columns, encoder, key, notes.append)
            for name, part in data.training_rows.items()
        }
        pack = data.problem.examples.pack
        found = {name: pack(store, encoder.max_length, sources.get(name)) for name, store in found.items()}
    return found, tuple(dict.fromkeys(notes))


def unknown_tokens(data: Dataset, tokenizer: Any) -> float | None:
    """The share of unknown tokens in a sample of the training rows at even distances; None where there are none."""
    table = data.parts["train"]
    sample = table.take(np.arange(0, len(table), max(1, len(table) // tokenise.SAMPLE)))
    names = [name for name in data.text_columns if name in sample.names()]
    return unknown.share(tokenizer, sliced([sample.rows[name] for name in names], len(sample)))
