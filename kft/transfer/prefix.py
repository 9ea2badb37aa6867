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

from kft.data.store import group_of
from kft.models.program import KERNEL, Call, Program, Value, model_of, program_of

if TYPE_CHECKING:
    from kft.models.anatomy import Block
    from kft.transfer.rules import Rules

KEPT = "prefix_"
"""What the names of kept tensors have, after the name of their group of features."""
WORTHWHILE = 0.05
"""The least share of the products of a forward pass that is worth keeping outputs for."""


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
        calls = leading_to(outputs.values(), self.frozen)
        return read_inputs(self.program, calls, outputs.values()), calls, outputs

    def lower_network(self) -> keras.Model:
        """From token features to the tensors that are kept."""
        return model_of(*self.lower())

    def network(self) -> keras.Model:
        """From token features and what is kept to the outputs, with the layers of the whole network.

        What is frozen computes in it as in inference.
        """
        calls = [*self.recomputed, *self.upper]
        read = read_inputs(self.program, calls, self.program.outputs.values())
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
    needed = leading_to([*crossing(upper, program)], [call for call in program.calls if call in frozen])
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
    ahead = list(crossing(cut.upper, cut.program))
    while ahead:
        value = ahead.pop()
        if value.source is None or value.source in again or value in kept:
            continue
        if costs(value, cut) and value not in lost and can_be_kept(value):
            kept.append(value)
        else:
            again.add(value.source)
            ahead += value.source.inputs.values()
    kept = [value for call in cut.frozen for value in call.outputs if value in kept]
    recomputed = [call for call in cut.frozen if call in again]
    every = sum(call.num_products for call in [*cut.frozen, *cut.upper])
    once = sum(call.num_products for call in leading_to(kept, cut.frozen))
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


def costs(value: Value, cut: Cut) -> int:
    """Products that lead to a frozen tensor."""
    return sum(call.num_products for call in leading_to([value], cut.frozen))


def can_be_kept(value: Value) -> bool:
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


# -- graphs ----------------------------------------------------------------------------------------------------------


def crossing(upper: Sequence[Call], program: Program) -> list[Value]:
    """What others than these calls give to them, and to the outputs; inputs too."""
    made = {value for call in upper for value in call.outputs}
    read = [*(value for call in upper for value in call.inputs.values()), *program.outputs.values()]
    return [value for value in dict.fromkeys(read) if value not in made]


def leading_to(values: Iterable[Value], calls: Sequence[Call]) -> list[Call]:
    """Those of some calls that these values depend on, in the same order."""
    wanted = set(values)
    found = []
    for call in reversed(calls):
        if any(value in wanted for value in call.outputs):
            found.append(call)
            wanted |= set(call.inputs.values())
    return found[::-1]


def read_inputs(program: Program, calls: Iterable[Call], outputs: Iterable[Value]) -> dict[str, Value]:
    """The inputs of a program that some calls read, or that are outputs themselves."""
    read = {*(value for call in calls for value in call.inputs.values()), *outputs}
    return {name: value for name, value in program.inputs.items() if value in read}
