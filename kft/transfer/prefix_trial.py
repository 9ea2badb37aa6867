"""What of the tensors at the frontier can be kept, by a trial on a few rows.

No rule about a graph can tell whether a tensor depends on how far a batch is padded, or on the rows beside it.
"""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np

from kft.data.store import Store
from kft.models.program import Value, model_of
from kft.transfer import prefix
from kft.transfer.prefix import Cut

PROBED_ROWS, PROBED_TOKENS = 3, 24
TOLERANCES = {"float32": 1e-4, "float64": 1e-4}
COARSE = 0.05
"""Of 16 bits: how far the same numbers may lie apart, in shares of the largest, that batches of other shapes give."""


def kept_for(cut: Cut, network: keras.Model, store: Store) -> Cut | str:
    """A cut with all kept that can be, as a trial on a few rows shows; or why there is none.

    Args:
        cut: With nothing kept.
        network: What was cut.
        store: The rows.
    """
    if any(
        prefix.costs(value, cut) and not prefix.can_be_kept(value) for value in prefix.crossing(cut.upper, cut.program)
    ):
        cut = _bypassing(cut, store)
    lost: list[Value] = []
    while not isinstance(found := prefix.keeping(cut, list(store.offsets), lost), str) and (
        unfit := _unfit(found, store)
    ):
        lost += unfit
    if isinstance(found, str) or _is_same(found, network, store):
        return found
    return "what trains reads padding, which is not kept"


def _is_same(cut: Cut, network: keras.Model, store: Store) -> bool:
    """Whether the outputs come out of what is kept as they come out of the whole network: on a few rows."""
    features, lengths = _probe(store, list(network.input))
    expected = network(features, training=False)
    lower, upper = cut.lower_network(), cut.network()
    fed = dict(features)
    for name, value in lower({name: features[name] for name in lower.input}, training=False).items():
        values = keras.ops.convert_to_numpy(value)
        fed[name] = _real(values, lengths[store.group_of(name)]) if cut.kept[name].is_of_tokens else values
    found = upper({name: fed[name] for name in upper.input}, training=False)
    for name, value in expected.items():
        one, other = keras.ops.convert_to_numpy(value), keras.ops.convert_to_numpy(found[name])
        if one.ndim > 2 and one.shape == other.shape:
            has = [each for each in lengths.values() if int(each.max()) == one.shape[1]]
            real = np.min(has, axis=0) if has else np.full(len(one), one.shape[1])
            one, other = _real(one, real), _real(other, real)
        if not _alike(one, other):
            return False
    return True


def _real(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Values of tokens `(rows, tokens, …)` with 0 at padding."""
    is_real = np.arange(values.shape[1])[None, :] < lengths[:, None]
    return np.where(is_real.reshape(*is_real.shape, *[1] * (values.ndim - 2)), values, np.zeros((), values.dtype))


def _unfit(cut: Cut, store: Store) -> list[Value]:
    """The kept tensors that are others where rows are padded less, or have others beside them: on a few rows."""
    network = cut.lower_network()
    together, lengths = _probe(store, list(network.input))
    num_rows = len(next(iter(together.values())))
    some = np.arange(max(1, num_rows - 1))  # all but the longest: one more shape, for backends that compile each
    longest = {group: int(each[some].max()) for group, each in lengths.items()}
    apart = {
        name: array[some] if name in store.row_features else array[some, : longest[store.group_of(name)]]
        for name, array in together.items()
    }
    before, after = (network(features, training=False) for features in (together, apart))
    unfit = []
    for name, kept in cut.kept.items():
        one, other = (keras.ops.convert_to_numpy(each[name]) for each in (before, after))
        is_by_row = len(one) == num_rows and len(other) == len(some)
        has = lengths[store.group_of(name)] if kept.is_of_tokens else [None] * num_rows
        if not is_by_row or not all(_alike(one[row][: has[row]], other[row][: has[row]]) for row in some):
            unfit.append(kept.value)
    return unfit


def _bypassing(cut: Cut, store: Store) -> Cut:
    """A cut whose upper part reads what layers hand on unchanged where it comes from, as a trial on a few rows shows.

    T5's layers hand on the positions that the first of them computes, and which are of no row or token.
    """
    pairs = [
        (value, given)
        for call in cut.frozen
        for value in call.outputs
        for given in call.inputs.values()
        if value.shape == given.shape and "float" in value.dtype and not prefix.can_be_kept(value)
    ]
    if not pairs:
        return cut
    asked = {
        str(number): value for number, value in enumerate(dict.fromkeys(value for pair in pairs for value in pair))
    }
    names = {value: name for name, value in asked.items()}
    calls = prefix.leading_to(asked.values(), cut.frozen)
    network = model_of(prefix.read_inputs(cut.program, calls, asked.values()), calls, asked)
    features, _ = _probe(store, list(network.input))
    found = {name: keras.ops.convert_to_numpy(value) for name, value in network(features, training=False).items()}
    origins: dict[Value, Value] = {}
    for value, given in pairs:
        one, other = found[names[value]], found[names[given]]
        if one.shape == other.shape and (one == other).all() and len(np.unique(one.astype(np.float32))) > 2:
            origins[value] = origins.get(given, given)
    upper = [
        replace(call, inputs={place: origins.get(value, value) for place, value in call.inputs.items()})
        for call in cut.upper
    ]
    return replace(cut, upper=upper)


def _probe(store: Store, names: list[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The features of a few rows that are cut to different lengths, and those lengths by group.

    Rows of a network without a mask are as they are: all of one length.
    """
    order = np.argsort(store.lengths, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, PROBED_ROWS).astype(int)]
    shares = np.arange(1, len(rows) + 1) / len(rows)
    most = np.maximum(1, (PROBED_TOKENS * shares).astype(int)) if store.mask_names else np.iinfo(np.int32).max
    lengths = {group: np.minimum(np.diff(offsets)[rows], most) for group, offsets in store.offsets.items()}
    features = {}
    for name, array in store.batch(rows, int(store.lengths[rows].max()), names).items():
        if name not in store.row_features:
            has = lengths[store.group_of(name)]
            array = array[:, : int(has.max())]
            is_real = np.arange(array.shape[1])[None, :] < has[:, None]
            is_real = is_real.reshape(*is_real.shape, *[1] * (array.ndim - 2))
            array = np.where(is_real, array, store.pad_values.get(name, 0)).astype(array.dtype)
        features[name] = array
    return features, lengths


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    kind = one.dtype.name
    if "float" not in kind:
        return bool((one == other).all())
    one, other = one.astype(np.float64), other.astype(np.float64)
    largest = max(1e-6, float(np.abs(one).max(initial=0)))
    return bool(np.abs(one - other).max(initial=0) <= TOLERANCES.get(kind, COARSE) * largest)
