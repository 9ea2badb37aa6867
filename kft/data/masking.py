"""Tokens hidden for masked language models, and sentences that are moved: another choice in each epoch.

Each row's choice is a pure function of seed, epoch and row, so that a fit that goes on meets the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kft.data.batches import Batch
from kft.data.store import Store
from kft.data.streams import Features

MASKED, RANDOM = 0.8, 0.1  # of the chosen tokens; the rest stays (Devlin et al., 2019, sec. 3.1)
MEASURED = 2**31  # in place of the seed for rows that are only measured
IGNORED = -1


@dataclass(frozen=True)
class Masking:
    """A `Collator` for models that take `mask_positions`.

    Attributes:
        mask_id: The mask token.
        ordinary: The ids that a token may be exchanged for: `(ids,)`.
        rate: The share of the tokens that are hidden.
        whole_words: Whether all tokens of a word are hidden, or none.
        seed: Decides, with epoch and row.
    """

    mask_id: int
    ordinary: np.ndarray
    rate: float
    whole_words: bool
    seed: int

    def __call__(
        self, store: Store, batch: Batch, features: Features, targets: Features, epoch: int | None
    ) -> tuple[Features, Features]:
        """The features with `mask_positions`, and `tokens`, those that stood there: `(batch, masks)`, -1 to fill up."""
        randoms = [random(self.seed, epoch, row) for row in batch.rows]
        features, tokens = self.hide(features, randoms)
        return features, {**targets, "tokens": tokens}

    def hide(self, features: Features, randoms: list[np.random.Generator]) -> tuple[Features, np.ndarray]:
        """As above, with a source of random numbers for each row."""
        ids, words = features["token_ids"].copy(), features["word"]
        num_masks = max(1, int(num_hidden(np.array([ids.shape[1]]), self.rate)[0]))
        positions = np.zeros((len(ids), num_masks), np.int32)
        truth = np.full((len(ids), num_masks), IGNORED, np.int32)
        for row, random_of_row in enumerate(randoms):
            chosen = choose(words[row], self.rate, self.whole_words, random_of_row)
            positions[row, : len(chosen)], truth[row, : len(chosen)] = chosen, ids[row, chosen]
            draws = random_of_row.random(len(chosen))
            others = random_of_row.choice(self.ordinary, len(chosen))
            exchanged = np.where(draws < MASKED + RANDOM, others, ids[row, chosen])
            ids[row, chosen] = np.where(draws < MASKED, self.mask_id, exchanged)
        return {**features, "token_ids": ids, "mask_positions": positions}, truth


def random(seed: int, epoch: int | None, row: int) -> np.random.Generator:
    """The random numbers of one row in one epoch; those of rows that are only measured never change."""
    return np.random.default_rng([MEASURED, 0, int(row)] if epoch is None else [seed, epoch, int(row)])


def num_hidden(num_tokens: np.ndarray, rate: float) -> np.ndarray:
    """How many of a row's tokens are hidden: the rate, but one at least of those that have any.

    >>> num_hidden(np.array([0, 2, 100]), 0.15).tolist()
    [0, 1, 15]
    """
    return np.where(num_tokens > 0, np.maximum(1, np.rint(num_tokens * rate)), 0).astype(np.int64)


def choose(words: np.ndarray, rate: float, whole_words: bool, random: np.random.Generator) -> np.ndarray:
    """The positions to hide in a row, ascending.

    Whole words are drawn until no further one fits into the number of tokens; words that do not fit are passed over. If
    none fits, the first one drawn is hidden as far as it does.

    Args:
        words: `(tokens,)` the number of each token's word, -1 for tokens that must not be hidden.
        rate: The share to hide.
        whole_words: All tokens of a word, or none.
        random: Where chance comes from.
    """
    free = np.flatnonzero(words >= 0)
    wanted = int(num_hidden(np.array([len(free)]), rate)[0])
    if not whole_words:
        return np.sort(random.permutation(free)[:wanted])
    parts = np.split(free, np.flatnonzero(np.diff(words[free])) + 1) if len(free) else []
    order = random.permutation(len(parts))
    chosen: list[np.ndarray] = []
    left = wanted
    for number in order:
        if left and len(parts[number]) <= left:
            chosen.append(parts[number])
            left -= len(parts[number])
    if not chosen:
        chosen = [parts[number][:wanted] for number in order[:1]]
    return np.sort(np.concatenate([*chosen, np.zeros(0, np.int64)])).astype(np.int64)


@dataclass(frozen=True)
class Pairing:
    """A `Collator` that moves the second sentence of about half of the rows, and then hides tokens.

    Attributes:
        masking: What hides tokens.
        kind: `"nsp"`: it becomes one of another row. `"sop"`: the two change places.
        num_special: Tokens before the first sentence, between the two, and after the second.
    """

    masking: Masking
    kind: Literal["nsp", "sop"]
    num_special: tuple[int, int, int]

    def __call__(
        self, store: Store, batch: Batch, features: Features, targets: Features, epoch: int | None
    ) -> tuple[Features, Features]:
        """The features; `pair`, 0 if the sentences of a row stand as in the text, 1 if not, -1 if it has one alone.

        `(batch,)` int32, beside the hidden `tokens`.
        """
        moved = {name: values.copy() for name, values in features.items()}
        truth = np.full(len(batch.rows), IGNORED, np.int32)
        randoms = [random(self.masking.seed, epoch, row) for row in batch.rows]
        for i, (row, random_of_row) in enumerate(zip(batch.rows, randoms, strict=True)):
            second = self._second({name: values[i] for name, values in features.items()})
            if second is None:
                continue
            is_moved = random_of_row.random() < 0.5
            other = None
            if is_moved and self.kind == "nsp":
                other = self._other(store, int(row), random_of_row)
                is_moved = other is not None
            truth[i] = int(is_moved)
            if is_moved:
                self._move({name: values[i] for name, values in moved.items()}, second, other)
        read, hidden = self.masking.hide(moved, randoms)
        return read, {**targets, "pair": truth, "tokens": hidden}

    def _second(self, row: dict[str, np.ndarray]) -> slice | None:
        """Where the second sentence of a row stands; None where it has one alone."""
        inside = np.flatnonzero(row["segment_ids"] == 1)
        return slice(int(inside[0]), int(inside[-1]) + 1 - self.num_special[2]) if len(inside) else None

    def _other(self, store: Store, row: int, random: np.random.Generator) -> dict[str, np.ndarray] | None:
        """The second sentence, or the only one, of a row of another text."""
        others = len(store) - 1
        if not others:
            return None
        drawn = np.array([(row + 1 + random.integers(others)) % len(store)])
        if store.texts[drawn[0]] == store.texts[row]:
            return None
        found = {name: values[0] for name, values in store.batch(drawn, int(store.lengths[drawn[0]])).items()}
        words = np.flatnonzero(found["word"] >= 0)
        if not len(words):
            return None
        second = self._second(found) or slice(int(words[0]), int(words[-1]) + 1)
        return {name: found[name][second] for name in ("token_ids", "word")}

    def _move(self, row: dict[str, np.ndarray], second: slice, other: dict[str, np.ndarray] | None) -> None:
        """Writes the moved sentences into a row; that of another row as far as its own second one reached."""
        before, between, after = self.num_special
        first = slice(before, second.start - between)
        length = len(row["token_ids"])
        room = second.stop - second.start  # not what the batch is padded to, which depends on the rows beside it
        parts = {}
        for name in ("token_ids", "word"):
            values = row[name]
            head, tail = values[:before], values[second.stop : second.stop + after]
            gap = values[first.stop : second.start]
            one, two = (values[second], values[first]) if other is None else (values[first], other[name][:room])
            parts[name] = np.concatenate([head, one, gap, two, tail])
            start_of_two = before + len(one) + between
        # What fills a row up stands after its end, if anything does.
        end = second.stop + after
        fills = {"token_ids": row["token_ids"][end] if end < length else 0, "word": IGNORED}
        size = len(parts["token_ids"])
        for name, values in parts.items():
            row[name][:size], row[name][size:] = values, fills[name]
        places = np.arange(length)
        row["segment_ids"][:] = (places >= start_of_two) & (places < size)
        if "padding_mask" in row:
            row["padding_mask"][:] = places < size
