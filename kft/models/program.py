"""A functional network as one line of calls, with those of the models nested in it in their place."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kft.accelerate.internals import is_functional, nodes_of

KERNEL = "kernel"
"""What the paths of the weights end with that inputs are multiplied by; others, such as embeddings, cost little."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that an operation gives, or an input.

    Attributes:
        shape: As of the symbolic tensor: None where a dimension is open.
        dtype: Its name.
        source: What gives it; None for an input.
    """

    shape: tuple[int | None, ...]
    dtype: str
    source: Call | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """An operation that is called once in a network.

    Attributes:
        operation: A layer, or an operation without weights.
        inputs: The values that it is given, by the `id` of the symbolic tensor that stands for each.
        outputs: The values that it gives.
        node: Keras's record of the call.
    """

    operation: Any
    inputs: Mapping[int, Value]
    outputs: list[Value]
    node: Any

    @property
    def variables(self) -> Sequence[Any]:
        """All that the operation has."""
        return getattr(self.operation, "variables", [])

    @property
    def num_products(self) -> int:
        """Multiplications a token or row: the numbers in the kernels that it is multiplied by."""
        return sum(math.prod(v.shape) for v in self.variables if v.path.rsplit("/", 1)[-1] == KERNEL)

    def signature(self, names: Mapping[int, str]) -> list[Any]:
        """What is computed but for the weights, as JSON has it.

        Args:
            names: Of values, by `id`.
        """

        def written(argument: Any) -> str:
            value = self.inputs.get(id(argument))
            return repr(argument) if value is None else names[id(value)]

        kind, arguments = type(self.operation), self.node.arguments
        try:
            config = json.loads(json.dumps(self.operation.get_config(), default=repr))
        except (AttributeError, NotImplementedError):  # as of KerasHub's Llama: what is said of the model has to do
            config = {}
        given = keras.tree.map_structure(written, [list(arguments.args), dict(arguments.kwargs)])
        return [f"{kind.__module__}.{kind.__qualname__}", without_names(config), repr(given)]


@dataclass(frozen=True)
class Program:
    """The calls of a network.

    Attributes:
        inputs: Its inputs by name.
        calls: In an order in which each follows what it reads.
        outputs: Its outputs by name.
    """

    inputs: Mapping[str, Value]
    calls: Sequence[Call]
    outputs: Mapping[str, Value]


def program_of(network: keras.Model) -> Program | None:
    """The calls of a network with named inputs and outputs; None where it computes in a way of its own.

    A nested model that does so is one call.
    """
    if not is_functional(network) or not isinstance(network.input, dict) or not isinstance(network.output, dict):
        return None
    calls: list[Call] = []
    inputs = {name: _value(tensor, None) for name, tensor in network.input.items()}
    known = {id(tensor): inputs[name] for name, tensor in network.input.items()}
    _unfold(network, known, calls)
    return Program(inputs, calls, {name: known[id(tensor)] for name, tensor in network.output.items()})


class InInference(keras.layers.Layer):
    """A layer that computes as in inference, whatever the network around it does.

    Call arguments:
        tensors: Those that the layer is given, in the order of Keras's record of the call.

    Args:
        call: Which layer, and how it is called.
    """

    def __init__(self, call: Call):
        super().__init__(autocast=False)
        self.operation = call.operation
        self.arguments = call.node.arguments
        self.built = True  # the layer is

    def call(self, tensors: list[Any]) -> Any:
        args, kwargs = self._given(tensors)
        return self.operation(*args, **{**kwargs, "training": False})

    def compute_output_spec(self, tensors: list[Any]) -> Any:
        args, kwargs = self._given(tensors)
        return self.operation.compute_output_spec(*args, **{n: each for n, each in kwargs.items() if n != "training"})

    def _given(self, tensors: list[Any]) -> Any:
        places = self.arguments.keras_tensors
        return self.arguments.fill_in({id(place): tensor for place, tensor in zip(places, tensors, strict=True)})


def model_of(
    inputs: Mapping[str, Value],
    calls: Iterable[Call],
    outputs: Mapping[str, Value],
    in_inference: Collection[Call] = (),
) -> keras.Model:
    """A functional model of some calls of a program: the same layers, called once more.

    Args:
        inputs: The values that it is given, by name.
        calls: In the order of the program.
        outputs: The values that it gives, by name.
        in_inference: Those of the calls that are as in inference, in training too.

    Raises:
        ValueError: Two of its layers have one name.
    """
    given = {n: keras.Input(value.shape[1:], dtype=value.dtype, name=n) for n, value in inputs.items()}
    tensors: dict[int, Any] = {id(value): given[name] for name, value in inputs.items()}
    for call in calls:
        arguments = {place: tensors[id(value)] for place, value in call.inputs.items()}
        if call in in_inference and isinstance(call.operation, keras.layers.Layer):
            found = InInference(call)([arguments[id(place)] for place in call.node.arguments.keras_tensors])
        else:
            args, kwargs = call.node.arguments.fill_in(arguments)
            found = call.operation(*args, **kwargs)
        tensors |= {id(value): tensor for value, tensor in zip(call.outputs, keras.tree.flatten(found), strict=True)}
    return keras.Model(given, {name: tensors[id(value)] for name, value in outputs.items()})


def _unfold(model: keras.Model, known: dict[int, Value], calls: list[Call]) -> None:
    """Adds the calls of a model to those of a program.

    Args:
        model: Functional.
        known: The value of each symbolic tensor by `id`; those of the model's inputs are in it, others are added.
        calls: Those so far.
    """
    for node in nodes_of(model):
        if node.is_input or all(id(tensor) in known for tensor in node.output_tensors):
            continue
        given = _given(node)
        if given is None:
            call = Call(node.operation, {id(t): known[id(t)] for t in node.input_tensors}, [], node)
            call.outputs.extend(_value(tensor, call) for tensor in node.output_tensors)
            known |= {id(tensor): value for tensor, value in zip(node.output_tensors, call.outputs, strict=True)}
            calls.append(call)
        else:
            inside = {id(tensor): known[id(argument)] for tensor, argument in given}
            _unfold(node.operation, inside, calls)
            outer = zip(node.output_tensors, node.operation.outputs, strict=True)
            known |= {id(tensor): inside[id(inner)] for tensor, inner in outer}


def _given(node: Any) -> list[tuple[Any, Any]] | None:
    """The inputs of a nested model, each with what it is given; None for any other operation."""
    arguments, model = node.arguments, node.operation
    # Keras records masks of None, and that symbolic calls are not training: either is decided anew in each call.
    further = {name: value for name, value in arguments.kwargs.items() if name != "training" or value}
    is_plain = len(arguments.args) == 1 and all(value is None for value in keras.tree.flatten(further))
    if not is_functional(model) or not is_plain:
        return None
    wanted, found = model.input, arguments.args[0]
    if isinstance(wanted, dict) and isinstance(found, dict):
        found = {name: found.get(name) for name in wanted}
    pairs = list(zip(keras.tree.flatten(wanted), keras.tree.flatten(found), strict=False))
    is_whole = len(pairs) == len(model.inputs) and all(keras.backend.is_keras_tensor(value) for _, value in pairs)
    return pairs if is_whole else None


def _value(tensor: Any, source: Call | None) -> Value:
    return Value(tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype), source)


def without_names(config: Any) -> Any:
    """A config without names, which count up from layer to layer in a process, and without what trains."""
    if isinstance(config, dict):
        return {key: without_names(value) for key, value in config.items() if key not in ("name", "trainable")}
    return [without_names(value) for value in config] if isinstance(config, list) else config
