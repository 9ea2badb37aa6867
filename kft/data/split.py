"""Training, validation and test rows that share no text."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kft.data.hashes import normalised, row_hashes
from kft.data.table import Table
from kft.errors import DataError, RecipeError

MASK = 2**64 - 1


@dataclass(frozen=True)
class Parts:
    """The rows of a fit. `validation` and `test` are None where there is none."""

    train: Table
    validation: Table | None
    test: Table | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Groups:
    """Rows that must stay together, because their normalised texts are equal.

    Attributes:
        order: `(rows,)` row indices, group after group.
        starts: `(groups + 1,)` where each group begins in `order`.
        classes: `(rows,)` int class of each row, in the order of the table.
        priority: `(groups,)` uint64, the seeded order in which groups leave the training rows.
    """

    order: np.ndarray
    starts: np.ndarray
    classes: np.ndarray
    priority: np.ndarray

    def rows(self, group: int) -> np.ndarray:
        """The row indices of a group."""
        return self.order[self.starts[group] : self.starts[group + 1]]


def split(
    train: Table,
    validation: Table | float | None,
    test: Table | float | None,
    *,
    text_columns: Sequence[str],
    label_column: str | None,
    stratify: bool,
    seed: int,
    allow_leaks: bool = False,
) -> Parts:
    """Takes validation and test rows out of the training rows, or checks the ones given.

    Rows whose texts are equal but for case and white space stay on one side. Which rows leave depends
    only on their texts, the labels and the seed. Each class keeps at least one training row. A group of equal
    texts that is larger than what is left of a part stays in training. Rows keep their order.

    Args:
        train: Cleaned rows.
        validation: Cleaned rows, or a fraction of the rows of `train` in [0, 1); 0 and None mean none.
        test: Likewise.
        text_columns: The columns that together make a row's text.
        label_column: The class of each row, as text; None where there are no classes.
        stratify: Whether each class gives the same fraction.
        seed: Any integer.
        allow_leaks: Whether training texts may appear in a test table that was given.

    Raises:
        DataError: If a part would have fewer than two rows, or the test table holds training texts.
        RecipeError: If a fraction is not in [0, 1), both reach 1 together, or `stratify` lacks labels.
    """
    fractions = {"test": _fraction(test, "test"), "validation": _fraction(validation, "validation")}
    _check(fractions, label_column, stratify)
    hashes = row_hashes(train, text_columns, normalised)
    groups = _groups(train, hashes, label_column, seed)
    taken = _assign(groups, fractions, stratify)
    for role, fraction in fractions.items():
        _check_size(role, fraction, taken[role], len(train))
    parts: dict[str, Table | None] = {role: train.take(rows) for role, rows in taken.items() if fractions[role]}
    parts |= {role: t for role, t in (("validation", validation), ("test", test)) if isinstance(t, Table)}
    notes = [*_short_notes(fractions, taken, len(train))]
    if isinstance(validation, Table):
        notes += _leak_notes(train, hashes, validation, row_hashes(validation, text_columns, normalised))
    if isinstance(test, Table):
        leaks = _leak_notes(train, hashes, test, row_hashes(test, text_columns, normalised))
        if leaks and not allow_leaks:
            raise DataError(
                f"{leaks[0]} A score on these rows would be too good: remove them from one side, or pass "
                "allow_leaks=True (--allow-leaks) to go on."
            )
        notes += leaks
    left = np.ones(len(train), bool)
    left[np.concatenate(list(taken.values()))] = False
    remaining = train if left.all() else train.take(np.flatnonzero(left))
    return Parts(remaining, parts.get("validation"), parts.get("test"), tuple(notes))


def _fraction(part: Table | float | None, role: str) -> float:
    if part is None or isinstance(part, Table):
        return 0.0
    if isinstance(part, bool) or not isinstance(part, int | float) or not 0 <= part < 1:
        raise RecipeError(f"{role}={part!r}; expected rows, or a fraction of the training rows in [0, 1).")
    return float(part)


def _check(fractions: dict[str, float], label_column: str | None, stratify: bool) -> None:
    if sum(fractions.values()) >= 1:
        raise RecipeError(
            f"validation={fractions['validation']} and test={fractions['test']} leave no training rows; "
            "choose fractions that add up to less than 1."
        )
    if stratify and label_column is None:
        raise RecipeError("stratify=True needs a label column; there is none. Pass stratify=False.")


def _groups(train: Table, hashes: np.ndarray, label_column: str | None, seed: int) -> Groups:
    keys, group_of = np.unique(hashes, return_inverse=True)
    order = np.argsort(group_of, kind="stable")
    starts = np.searchsorted(group_of[order], np.arange(len(keys) + 1))
    classes = np.zeros(len(train), np.int64)
    if label_column is not None:
        encoded = train.rows[label_column].combine_chunks().dictionary_encode()
        # Class ids follow the names, not the first rows met, so that the order of rows does not matter.
        rank = np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist(), object)))
        classes = rank[encoded.indices.to_numpy()]
    return Groups(order, starts, classes, _mix(keys, seed))


def _mix(keys: np.ndarray, seed: int) -> np.ndarray:
    """Keys scattered by a seed with the finalizer of SplitMix64 (Steele et al., 2014)."""
    mixed = keys + np.uint64(((seed + 1) * 0x9E3779B97F4A7C15) & MASK)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _assign(groups: Groups, fractions: dict[str, float], stratify: bool) -> dict[str, np.ndarray]:
    """The sorted row indices of each part; what no part takes stays in training."""
    keeps = np.bincount(groups.classes).tolist()
    counts = keeps if stratify else [len(groups.order)]
    quotas = {role: _quotas(np.array(counts), fraction).tolist() for role, fraction in fractions.items()}
    taken: dict[str, list[np.ndarray]] = {role: [] for role in fractions}
    missing = sum(map(sum, quotas.values()))
    for group in np.argsort(groups.priority, kind="stable"):
        if not missing:
            break
        rows = groups.rows(group)
        loses = Counter(groups.classes[rows].tolist())
        if any(count >= keeps[label] for label, count in loses.items()):
            continue
        needs = loses if stratify else {0: len(rows)}
        for role, quota in quotas.items():
            if all(count <= quota[stratum] for stratum, count in needs.items()):
                for stratum, count in needs.items():
                    quota[stratum] -= count
                for label, count in loses.items():
                    keeps[label] -= count
                taken[role].append(rows)
                missing -= len(rows)
                break
    empty = np.empty(0, np.int64)
    return {role: np.sort(np.concatenate([empty, *rows])) for role, rows in taken.items()}


def _quotas(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Rows that each stratum gives, by largest remainder; they add up to the fraction of all rows.

    >>> _quotas(np.array([5, 5, 10]), 0.25).tolist()
    [1, 1, 3]
    """
    shares = counts * fraction
    quotas = np.floor(shares).astype(np.int64)
    missing = math.floor(counts.sum() * fraction + 0.5) - int(quotas.sum())
    quotas[np.argsort(quotas - shares, kind="stable")[:missing]] += 1
    return quotas


def _check_size(role: str, fraction: float, rows: np.ndarray, total: int) -> None:
    if fraction and len(rows) < 2:
        raise DataError(
            f"{role}={fraction} of {total:,} rows gives {len(rows)}; expected at least 2. Choose a "
            f"larger fraction, add rows whose texts differ, pass rows of your own, or {role}=0 for none."
        )


def _short_notes(fractions: dict[str, float], taken: dict[str, np.ndarray], total: int) -> Iterator[str]:
    for role, rows in taken.items():
        asked = math.floor(total * fractions[role] + 0.5)
        if len(rows) < asked:
            yield (
                f"{role} has {len(rows):,} rows, not the {asked:,} asked for: equal texts stay together and "
                "each class keeps a training row."
            )


def _leak_notes(train: Table, hashes: np.ndarray, other: Table, other_hashes: np.ndarray) -> list[str]:
    leaked = np.flatnonzero(np.isin(other_hashes, hashes))
    if not len(leaked):
        return []
    twin = int(np.flatnonzero(hashes == other_hashes[leaked[0]])[0])
    return [
        f"{other.where(leaked[0])}: has the text of {train.where(twin)}; {len(leaked):,} of {len(other):,} "
        f"rows of {other.source} are also in the training data."
    ]
