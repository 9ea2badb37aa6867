"""Training, validation and test rows that share no text."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from kft.data.groups import Groups, group_hashes, groups_of, linked
from kft.data.hashes import normalised, row_hashes
from kft.data.table import GROUP, Table
from kft.errors import DataError, RecipeError

SPLIT_BY = " Name a column to split by, if there is one: split_by=… (--split-by COLUMN)."


@dataclass(frozen=True)
class Parts:
    """The rows of a fit. `validation` and `test` are None where there is none."""

    train: Table
    validation: Table | None
    test: Table | None
    notes: tuple[str, ...]


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
    together: Sequence[str] = (),
    noted: Sequence[str] = (),
    split_by: str | None = None,
    further_classes: Sequence[str] = (),
) -> Parts:
    """Takes validation and test rows out of the training rows, or checks the ones given.

    Rows whose texts are equal but for case and white space stay on one side, and so do rows that share a value of
    `split_by`, or else a text of a column of `together`. Which rows leave depends only on their texts, the labels and
    the seed. Each class keeps at least one training row. A group of rows that is larger than what is left of a part
    stays in training. Rows keep their order.

    Args:
        train: Cleaned rows.
        validation: Cleaned rows, or a fraction of the rows of `train` in [0, 1); 0 and None mean none.
        test: Likewise.
        text_columns: The columns that together make a row's text.
        label_column: The class of each row, as text; None where there are no classes.
        stratify: Whether each class gives the same fraction.
        seed: Any integer.
        allow_leaks: Whether training texts may appear in a test table that was given.
        together: Text columns that rows are kept together by, where that leaves parts of about the size asked for; else
            a note says that it does not.
        noted: Further text columns of which a note says how many rows share a text with the training rows.
        split_by: What users call the values in `GROUP`, which rows are kept together by whatever that leaves; null
            stands for a group of its own.
        further_classes: Further columns of classes, of each of which a training row is kept too.

    Raises:
        DataError: If a part would have fewer than two rows, or the test table holds training texts or groups.
        RecipeError: If a fraction is not in [0, 1), both reach 1 together, or `stratify` lacks labels.
    """
    fractions = {"test": _fraction(test, "test"), "validation": _fraction(validation, "validation")}
    _check(fractions, label_column, stratify)
    hashes = row_hashes(train, text_columns, normalised)
    classes = _classes(train, label_column)
    further = [_classes(train, name) for name in further_classes]
    shared = [] if split_by else [row_hashes(train, [name], normalised) for name in together]
    keys = linked(hashes, [group_hashes(train)] if split_by else shared)
    groups = groups_of(keys, classes, seed, further)
    taken = _assign(groups, fractions, stratify)
    notes: list[str] = []
    if any(fractions.values()) and (keys != hashes).any():
        by_text = groups_of(hashes, classes, seed, further)
        without = _assign(by_text, fractions, stratify)
        if not split_by and any(2 * len(taken[role]) < len(rows) for role, rows in without.items()):
            notes.append(_apart_note(train, together, groups))
            groups, taken = by_text, without
        else:
            notes.append(_together_note(train, [split_by] if split_by else together, groups))
    for role, fraction in fractions.items():
        _check_size(role, fraction, taken[role], groups, split_by)
    parts: dict[str, Table | None] = {role: train.take(rows) for role, rows in taken.items() if fractions[role]}
    parts |= {role: t for role, t in (("validation", validation), ("test", test)) if isinstance(t, Table)}
    notes += _short_notes(fractions, taken, len(train))
    left = np.ones(len(train), bool)
    left[np.concatenate(list(taken.values()))] = False
    remaining = train if left.all() else train.take(np.flatnonzero(left))
    if isinstance(validation, Table):
        notes += _leak_notes(train, hashes, validation, row_hashes(validation, text_columns, normalised), "text")
        notes += _group_leaks(train, validation, split_by)
    if isinstance(test, Table):
        leaks = _leak_notes(train, hashes, test, row_hashes(test, text_columns, normalised), "text")
        leaks += _group_leaks(train, test, split_by)
        if leaks and not allow_leaks:
            raise DataError(
                f"{leaks[0]} A score on these rows would be too good: remove them from one side, or pass "
                "allow_leaks=True (--allow-leaks) to go on."
            )
        notes += leaks
    if len(text_columns) > 1:
        others = {role: part for role, part in parts.items() if part is not None}
        is_helped = any(fractions.values()) and split_by is None
        notes += _shared_notes(remaining, others, [*together, *noted], SPLIT_BY if is_helped else "")
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


def _classes(train: Table, label_column: str | None) -> np.ndarray:
    """The class of each row as a whole number; all 0 where there are none."""
    if label_column is None:
        return np.zeros(len(train), np.int64)
    encoded = train.rows[label_column].combine_chunks().dictionary_encode()
    # Class ids follow the names, not the first rows met, so that the order of rows does not matter.
    rank = np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist(), object)))
    return rank[encoded.indices.to_numpy()]


def _assign(groups: Groups, fractions: dict[str, float], stratify: bool) -> dict[str, np.ndarray]:
    """The sorted row indices of each part; what no part takes stays in training."""
    keeps = np.bincount(groups.classes).tolist()
    left = [np.bincount(classes).tolist() for classes in groups.further]
    counts = np.array(keeps if stratify else [len(groups.order)])
    quotas: dict[str, list[int]] = {}
    given = np.zeros_like(counts)
    for role, fraction in fractions.items():
        asked = _quotas(counts, fraction, given)
        given = given + asked
        quotas[role] = asked.tolist()
    taken: dict[str, list[np.ndarray]] = {role: [] for role in fractions}
    missing = sum(map(sum, quotas.values()))
    for group in np.argsort(groups.priority, kind="stable"):
        if not missing:
            break
        rows = groups.rows(group)
        loses = Counter(groups.classes[rows].tolist())
        if any(count >= keeps[label] for label, count in loses.items()):
            continue
        also_loses = [Counter(classes[rows].tolist()) for classes in groups.further]
        if any(n >= rest[label] for rest, lost in zip(left, also_loses, strict=True) for label, n in lost.items()):
            continue
        needs = loses if stratify else {0: len(rows)}
        for role, quota in quotas.items():
            if all(count <= quota[stratum] for stratum, count in needs.items()):
                for stratum, count in needs.items():
                    quota[stratum] -= count
                for label, count in loses.items():
                    keeps[label] -= count
                for rest, lost in zip(left, also_loses, strict=True):
                    for label, count in lost.items():
                        rest[label] -= count
                taken[role].append(rows)
                missing -= len(rows)
                break
    empty = np.empty(0, np.int64)
    return {role: np.sort(np.concatenate([empty, *rows])) for role, rows in taken.items()}


def _quotas(counts: np.ndarray, fraction: float, given: np.ndarray) -> np.ndarray:
    """Rows that each stratum gives, by largest remainder; they add up to the fraction of all rows.

    Of equal remainders those strata come first that have `given` fewer rows to other parts.

    >>> _quotas(np.array([5, 5, 10]), 0.25, np.array([0, 0, 0])).tolist()
    [1, 1, 3]
    """
    shares = counts * fraction
    quotas = np.floor(shares).astype(np.int64)
    missing = math.floor(counts.sum() * fraction + 0.5) - int(quotas.sum())
    quotas[np.lexsort((given, quotas - shares))[:missing]] += 1
    return quotas


def _check_size(role: str, fraction: float, rows: np.ndarray, groups: Groups, split_by: str | None) -> None:
    if not fraction or len(rows) >= 2:
        return
    total = len(groups.order)
    num_single = int((np.bincount(groups.classes) == 1).sum())
    why = ""
    if math.floor(total * fraction + 0.5) >= 2:
        largest = int(groups.sizes().max())
        by = f"rows with one {split_by}" if split_by else "rows with equal texts"
        if num_single > 1:
            why = f" {num_single:,} classes have a single row, which stays in training."
        elif largest > 1:
            why = f" Rows that belong together stay on one side, and the largest group of {by} has {largest:,}."
        else:
            why = " Each class keeps a training row."
    raise DataError(
        f"{role}={fraction} of {total:,} rows gives {len(rows)}; expected at least 2.{why} Choose a "
        f"larger fraction, add rows whose texts differ, pass rows of your own, or {role}=0 for none."
    )


def _short_notes(fractions: dict[str, float], taken: dict[str, np.ndarray], total: int) -> Iterator[str]:
    for role, rows in taken.items():
        asked = math.floor(total * fractions[role] + 0.5)
        if len(rows) < asked:
            yield (
                f"{role} has {len(rows):,} rows, not the {asked:,} asked for: rows that belong together stay together "
                "and each class keeps a training row."
            )


def _together_note(train: Table, names: Sequence[str | None], groups: Groups) -> str:
    sizes = groups.sizes()
    return (
        f"{train.source}: {int(sizes[sizes > 1].sum()):,} of {len(train):,} rows share their "
        f"{' or '.join(map(str, names))} with another; such rows stay on one side of the split."
    )


def _apart_note(train: Table, names: Sequence[str], groups: Groups) -> str:
    largest = int(groups.sizes().max())
    return (
        f"{train.source}: rows that share their {' or '.join(names)} cannot stay on one side of the split, since "
        f"{largest:,} of {len(train):,} rows would be one group; parts share them, so their scores may be too good."
        f"{SPLIT_BY}"
    )


def _group_leaks(train: Table, other: Table, split_by: str | None) -> list[str]:
    if split_by is None:
        return []
    values = [table.rows[GROUP].combine_chunks() for table in (train, other)]
    leaked = np.flatnonzero(pc.is_in(values[1], value_set=values[0].drop_null()).to_numpy(zero_copy_only=False))
    return _leaks(train, other, leaked, group_hashes(train), group_hashes(other), split_by)


def _leak_notes(train: Table, hashes: np.ndarray, other: Table, other_hashes: np.ndarray, what: str) -> list[str]:
    return _leaks(train, other, np.flatnonzero(np.isin(other_hashes, hashes)), hashes, other_hashes, what)


def _leaks(
    train: Table, other: Table, leaked: np.ndarray, hashes: np.ndarray, other_hashes: np.ndarray, what: str
) -> list[str]:
    if not len(leaked):
        return []
    twin = int(np.flatnonzero(hashes == other_hashes[leaked[0]])[0])
    return [
        f"{other.where(leaked[0])}: has the {what} of {train.where(twin)}; {len(leaked):,} of {len(other):,} "
        f"rows of {other.source} are also in the training data."
    ]


def _shared_notes(train: Table, others: Mapping[str, Table], columns: Sequence[str], advice: str) -> Iterator[str]:
    """How many rows of each part share a text of a column with the training rows."""
    for name in columns:
        hashes = row_hashes(train, [name], normalised)
        for role, part in others.items():
            count = int(np.isin(row_hashes(part, [name], normalised), hashes).sum())
            if count:
                yield f"{role}: {count:,} of {len(part):,} rows have a {name} that train has too.{advice}"
