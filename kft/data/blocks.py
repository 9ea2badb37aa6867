"""A corpus as one long line of tokens, cut into blocks of equal length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kft.data.store import Aligned, Store
from kft.errors import DataError


def cut(store: Store, length: int, source: str | None) -> Store:
    """The tokens of all texts, one text after the other, in blocks; only the last one may be shorter.

    A block's tokens are read, and each predicts the one after it, so the very last token is only predicted: every token
    but the first is predicted once. Texts are parted by their end tokens alone and seen across them.

    Args:
        store: Of `token_ids`, with an end token after each text.
        length: Tokens in a block.
        source: What messages call the texts; None where fewer tokens than a block will do.

    Raises:
        DataError: There are fewer tokens than a block has.
        ValueError: The store has features of rows, which blocks cannot have.
    """
    if store.row_features:
        raise ValueError(f"found features of rows ({', '.join(store.row_features)}), which blocks cannot have.")
    total = len(store.features["token_ids"]) - 1
    if source is not None and total < length:
        raise DataError(
            f"{source}: the training texts have {total + 1:,} tokens together, fewer than one block of max_length="
            f"{length} and the token after it. Add text, or ask for a max_length below {max(total + 1, 8)}."
        )
    (offsets,) = store.offsets.values()
    begins = np.append(np.arange(0, total, length, dtype=np.int64), total)
    row = np.searchsorted(offsets, begins[:-1], side="right") - 1
    return replace(store, offsets=dict.fromkeys(store.offsets, begins), texts=store.texts[row])


def following(store: Store) -> Aligned:
    """The token after each of the tokens of a store that `cut` gave."""
    return Aligned(store.features["token_ids"][1:])
