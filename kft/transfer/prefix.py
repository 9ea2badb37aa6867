"""A network cut at the frontier between what is frozen and what trains.

What no trained variable has a part in is the same in every epoch, so it can be computed once per text. The frontier is
found from the graph, whatever a family hands on: the tensors that cross it are kept, each for a token or for a row.
What cannot be kept, as it depends on how far a batch is padded, is computed anew, and so is what costs next to nothing:
masks, embeddings. The frozen part computes as in inference, without dropout, whether its outputs are kept or not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kft.data.store import Store, group_of
from kft.models.program import KERNEL, Call, Program, Value, model_of, program_of

if TYPE_CHECKING:
    from kft.models.anatomy import Block
    from kft.transfer.rules import Rules

KEPT = "prefix_"
"""What the names of kept tensors have, after the name of their group of features."""
WORTHWHILE = 0.05
"""The least share of the products of a forward pass that is worth keeping outputs for."""
PROBED_ROWS, PROBED_TOKENS = 3, 24
TOLERANCES = {"float32": 1e-4, "float64": 1e-4}
COARSE = 0.05
"""Of 16 bits: how far the same numbers may lie apart, in shares of the largest, that batches of other shapes give."""


@dataclass(frozen=True)
class Kept:
    """A tensor that crosses the frontier and is kept.

    Attributes:
        value: It.
        is_of_tokens: Whether there is one for each token, `(rows, tokens, …)`, or one for the row, `(rows, …)`.
    """

    value: Value
    is_of_tokens: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one token or row."""
        return tuple(int(size or 0) for size in self.value.shape[2 if self.is_of_tokens else 1 :])


@dataclass(frozen=True)
class Cut:
    """A network in parts.

    Attributes:
        program: The whole of it.
        frozen: The calls that no trained variable has a part in.
        upper: The others, in which dropout is as ever.
        kept: The tensors that are kept, by the names of the features that they become.
        recomputed: Of the frozen calls, those that are computed in every step all the same.
        saved: Which share of the products of a forward pass need not be computed anew.
    """

    program: Program
    frozen: Sequence[Call]
    upper: Sequence[Call]
    kept: Mapping[str, Kept] = field(default_factory=dict)
    recomputed: Sequence[Call] = ()
    saved: float = 0.0

    def lower(self) -> tuple[dict[str, Value], list[Call], dict[str, Value]]:
        """Inputs, calls and outputs of what is computed once."""
        outputs = {name: kept.value for name, kept in self.kept.items()}
        calls = _leading_to(outputs.values(), self.frozen)
        return _read_inputs(self.program, calls, outputs.values()), calls, outputs

    def lower_network(self) -> keras.Model:
        """From token features to the tensors that are kept."""
        return model_of(*self.lower())

    def network(self) -> keras.Model:
        """From token features and what is kept to the outputs, with the layers of the whole network.

        What is frozen computes in it as in inference.
        """
        calls = [*self.recomputed, *self.upper]
        read = _read_inputs(self.program, calls, self.program.outputs.values())
        kept = {name: one.value for name, one in self.kept.items()}
        return model_of({**read, **kept}, calls, self.program.outputs, in_inference=set(self.recomputed))


def trained_in(blocks: Iterable[Block], rules: Rules) -> Callable[[Any], bool]:
    """Whether a variable trains, by the rules; one that is in no block does if it can."""
    listed = {
        id(v): path in rules and not rules[path].frozen for block in blocks for path, v in block.variables.items()
    }
    return lambda variable: listed.get(id(variable), variable.trainable)


def cut_of(network: keras.Model, is_trained: Callable[[Any], bool]) -> Cut | str:
    """Where a network can be cut, with nothing kept yet; or why it cannot be.

    Args:
        network: Token features to named outputs.
        is_trained: Whether a variable trains.
    """
    program = program_of(network)
    if program is None:
        return "the network computes in a way of its own"
    names = [call.operation.name for call in {id(c.operation): c for c in program.calls}.values()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return f"two of its layers are called {twice[0]}"
    frozen = _frozen(program, is_trained)
    upper = [call for call in program.calls if call not in frozen]
    needed = _leading_to([*_crossing(upper, program)], [call for call in program.calls if call in frozen])
    if not sum(call.num_products for call in needed):
        return "no layer that costs much is below all that train"
    return Cut(program, needed, upper, recomputed=needed)


def is_any_frozen(network: keras.Model, is_trained: Callable[[Any], bool]) -> bool:
    """Whether a layer that costs much does not train, of those that the outputs depend on where that is known."""
    program = program_of(network)
    variables = network.variables if program is None else [v for call in program.calls for v in call.variables]
    return any(variable.path.rsplit("/", 1)[-1] == KERNEL and not is_trained(variable) for variable in variables)


def _frozen(program: Program, is_trained: Callable[[Any], bool]) -> set[Call]:
    """The calls that no trained variable has a part in, but for dropout right below what trains."""
    frozen: set[Call] = set()
    for call in program.calls:
        is_above = any(value.source is not None and value.source not in frozen for value in call.inputs.values())
        if not is_above and not any(is_trained(variable) for variable in call.variables):
            frozen.add(call)
    for call in reversed(program.calls):
        readers = [other for other in program.calls if any(v in call.outputs for v in other.inputs.values())]
        is_read_above = readers and all(reader not in frozen for reader in readers)
        if call in frozen and isinstance(call.operation, keras.layers.Dropout) and is_read_above:
            frozen.remove(call)
    return frozen


def keeping(cut: Cut, groups: Collection[str] = ("",), lost: Collection[Value] = ()) -> Cut | str:
    """A cut with the tensors kept that can be; or why that would save nothing.

    Args:
        cut: With nothing kept.
        groups: What the names of the features begin with that have lengths of their own.
        lost: Tensors that cannot be kept.
    """
    kept: list[Value] = []
    again: set[Call] = set()
    ahead = list(_crossing(cut.upper, cut.program))
    while ahead:
        value = ahead.pop()
        if value.source is None or value.source in again or value in kept:
            continue
        if _costs(value, cut) and value not in lost and _can_be_kept(value):
            kept.append(value)
        else:
            again.add(value.source)
            ahead += value.source.inputs.values()
    kept = [value for call in cut.frozen for value in call.outputs if value in kept]
    recomputed = [call for call in cut.frozen if call in again]
    every = sum(call.num_products for call in [*cut.frozen, *cut.upper])
    once = sum(call.num_products for call in _leading_to(kept, cut.frozen))
    anew = sum(call.num_products for call in recomputed)
    saved = (once - anew) / every if every else 0.0
    if not kept:
        return "what the frozen layers give depends on how far a batch is padded, or on the batch"
    if saved < WORTHWHILE:
        return f"it would spare {max(0.0, saved):.0%} of the products of a forward pass"
    names: dict[str, Kept] = {}
    for value in kept:
        is_of_tokens = len(value.shape) > 1 and value.shape[1] is None
        start = f"{_group_of(value, cut, groups) if is_of_tokens else ''}{KEPT}"
        names[f"{start}{sum(name.startswith(start) for name in names)}"] = Kept(value, is_of_tokens)
    return replace(cut, kept=names, recomputed=recomputed, saved=saved)


def _costs(value: Value, cut: Cut) -> int:
    """Products that lead to a frozen tensor."""
    return sum(call.num_products for call in _leading_to([value], cut.frozen))


def _can_be_kept(value: Value) -> bool:
    """Whether there is one for each row, or for each token, and its size is known."""
    shape = value.shape
    is_of_rows = bool(shape) and shape[0] is None
    return is_of_rows and all(size is not None for size in shape[2:])


def _group_of(value: Value, cut: Cut, groups: Collection[str]) -> str:
    """The group of features whose tokens a tensor has, by symbolic lengths that tell them apart."""
    if len(groups) < 2:
        return ""
    inputs, calls, outputs = replace(cut, kept={"one": Kept(value, True)}).lower()
    lengths = {group: 5 + 2 * number for number, group in enumerate(groups)}
    given = {}
    for name, tensor in inputs.items():
        length = lengths[group_of(name, groups)]
        sizes = [3, length, *tensor.shape[2:]][: len(tensor.shape)]
        given[name] = keras.KerasTensor(sizes, dtype=tensor.dtype)
    found = model_of(inputs, calls, outputs).compute_output_spec(given)["one"].shape[1]
    return next((group for group, length in lengths.items() if length == found), "")


def kept_for(cut: Cut, network: keras.Model, store: Store) -> Cut | str:
    """A cut with all kept that can be, as a trial on a few rows shows; or why there is none.

    Args:
        cut: With nothing kept.
        network: What was cut.
        store: The rows.
    """
    if any(_costs(value, cut) and not _can_be_kept(value) for value in _crossing(cut.upper, cut.program)):
        cut = _bypassing(cut, store)
    lost: list[Value] = []
    while not isinstance(found := keeping(cut, list(store.offsets), lost), str) and (unfit := _unfit(found, store)):
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
        if value.shape == given.shape and "float" in value.dtype and not _can_be_kept(value)
    ]
    if not pairs:
        return cut
    asked = {
        str(number): value for number, value in enumerate(dict.fromkeys(value for pair in pairs for value in pair))
    }
    names = {value: name for name, value in asked.items()}
    calls = _leading_to(asked.values(), cut.frozen)
    network = model_of(_read_inputs(cut.program, calls, asked.values()), calls, asked)
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


# -- graphs ----------------------------------------------------------------------------------------------------------


def _crossing(upper: Sequence[Call], program: Program) -> list[Value]:
    """What others than these calls give to them, and to the outputs; inputs too."""
    made = {value for call in upper for value in call.outputs}
    read = [*(value for call in upper for value in call.inputs.values()), *program.outputs.values()]
    return [value for value in dict.fromkeys(read) if value not in made]


def _leading_to(values: Iterable[Value], calls: Sequence[Call]) -> list[Call]:
    """Those of some calls that these values depend on, in the same order."""
    wanted = set(values)
    found = []
    for call in reversed(calls):
        if any(value in wanted for value in call.outputs):
            found.append(call)
            wanted |= set(call.inputs.values())
    return found[::-1]


def _read_inputs(program: Program, calls: Iterable[Call], outputs: Iterable[Value]) -> dict[str, Value]:
    """The inputs of a program that some calls read, or that are outputs themselves."""
    read = {*(value for call in calls for value in call.inputs.values()), *outputs}
    return {name: value for name, value in program.inputs.items() if value in read}
