"""`prune_vocabulary`: the preset of a fit with the pieces of its vocabulary that the rows at hand need."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kft import row_tokens
from kft.data import tokenise
from kft.data.store import Store, sliced
from kft.dataset import Dataset
from kft.errors import PresetError, RecipeError, quoted
from kft.models import presets, pruning, seeding
from kft.models.presets import Preset
from kft.readers.lines import lines
from kft.recipe import Recipe
from kft.text import pieces
from kft.transfer import strategies

TOKEN_IDS = "token_ids"  # what the names of features of tokens end with
TEXTS_AT_ONCE = 1024


@dataclass(frozen=True)
class Pruned:
    """A preset with fewer pieces.

    Attributes:
        preset: It, with backbone and tokenizer in hand.
        order: For each of its tokens, the id that it had.
        before: The tokens of each part, by the whole vocabulary.
        note: What the user should know.
        num_parameters: Of the whole backbone, which the learning rate goes by: what was cut off does not compute.
    """

    preset: Preset
    order: np.ndarray
    before: Mapping[str, Store]
    note: str
    num_parameters: int

    def check(self, stores: Mapping[str, Store]) -> None:
        """Compares the tokens of all rows with those by the whole vocabulary.

        Args:
            stores: The tokens of each part by the preset with fewer pieces.

        Raises:
            PresetError: Some are others.
        """
        for part, store in stores.items():
            for name in _token_features(store):
                new, old = store.features[name], self.before[part].features[name]
                if len(new) != len(old) or any(
                    not np.array_equal(self.order[new[at : at + 2**20]], old[at : at + 2**20])
                    for at in range(0, len(new), 2**20)
                ):
                    raise PresetError(
                        f"prune_vocabulary: the {part} rows have other tokens with fewer pieces of preset "
                        f"{self.preset.name!r}; expected the same. Leave prune_vocabulary out."
                    )


def pruned(recipe: Recipe, data: Dataset, preset: Preset, dtype: str, earlier: Sequence[str] = ()) -> Pruned:
    """The preset with the pieces that all rows and the texts of `prune_vocabulary` need.

    Args:
        recipe: The knobs.
        data: The rows.
        preset: The whole preset.
        dtype: Precision policy.
        earlier: The names of earlier tasks that the run is to keep.

    Raises:
        RecipeError: A transfer whose runs hold a delta on the whole preset; earlier tasks, whose texts the pieces are
            not kept for; the file of texts cannot be read.
        PresetError: The vocabulary cannot be cut exactly.
    """
    if earlier:
        raise RecipeError(
            f"prune_vocabulary: found {recipe.prune_vocabulary!r} with earlier tasks, whose texts need pieces of their "
            f"own: {', '.join(earlier)}. Leave it out, or begin with the preset alone: that of a run is in its folder "
            "preset."
        )
    if strategies.is_small(recipe.transfer):
        raise RecipeError(
            f"prune_vocabulary: found {recipe.prune_vocabulary!r} with transfer={recipe.transfer}, whose runs hold "
            "what differs from the whole preset. Ask for another transfer, or begin with a run that has been pruned."
        )
    whole = replace(preset, ready=(preset.backbone(dtype), preset.tokenizer()))
    backbone, tokenizer = whole.backbone(), whole.tokenizer()
    model = data.problem.build.model(whole, max_length=tokenise.LONGEST, dtype=dtype, seed=recipe.seed)
    model.preprocessor.sequence_length = row_tokens.max_length(recipe, data, model)
    before, _ = row_tokens.stores(data, model)
    used: set[int] = set()
    for store in before.values():
        for name in _token_features(store):
            used.update(np.unique(np.asarray(store.features[name])).tolist())
    used |= _tokens_of_file(recipe.prune_vocabulary, tokenizer)

    def words() -> Iterator[str]:
        for table in data.training_rows.values():
            names = [name for name in data.text_columns if name in table.names()]
            for part in sliced([table.rows[name] for name in names], len(table)):
                for column in part:
                    for text in column:
                        yield from text.split()

    small, order = pruning.pruned_tokenizer(tokenizer, used, words)
    seeding.set_seed(recipe.seed)  # dropout draws from it, however often the model was built before
    cut = pruning.pruned_backbone(backbone, order)
    sizes = [presets.count_parameters(one) for one in (backbone, cut)]
    note = (
        f"prune_vocabulary: {len(order):,} of {tokenizer.vocabulary_size():,} pieces are kept, so the "
        f"backbone has {sizes[1]:,} parameters in place of {sizes[0]:,}. The rows of this fit have the same tokens; "
        "other texts may be cut into smaller pieces than by the whole vocabulary."
    )
    return Pruned(replace(preset, ready=(cut, small)), order, before, note, sizes[0])


def _token_features(store: Store) -> list[str]:
    return [name for name in store.features if name.endswith(TOKEN_IDS)]


def _tokens_of_file(asked: bool | str, tokenizer: Any) -> set[int]:
    """The tokens of the texts in a file, one a line; none where no file is named.

    Raises:
        RecipeError: It cannot be read.
    """
    if not isinstance(asked, str):
        return set()
    if not Path(asked).is_file():
        raise RecipeError(f"prune_vocabulary: found {quoted(asked)}, where no file is; expected true or a text file.")
    try:
        texts = (line.rstrip("\r\n") for line in lines(Path(asked), asked))
        return pieces.used(tokenizer, iter(lambda: list(itertools.islice(texts, TEXTS_AT_ONCE)), []))
    except OSError as error:
        raise RecipeError(f"prune_vocabulary: {asked} cannot be read ({error.strerror or error}).") from None
