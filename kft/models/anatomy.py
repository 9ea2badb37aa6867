"""The blocks of a model in order, from the embeddings to the head, read off its functional graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras

from kft.accelerate.internals import layers_of, nodes_of, sources_of

Role = Literal["embeddings", "block", "final norm", "pooler", "output embeddings", "head"]


@dataclass(frozen=True)
class Block:
    """One part of a model, and the variables that belong to it and to no other part.

    Attributes:
        name: `embeddings`, `block_1` (the lowest) to `block_N`, `final_norm`, `pooler`, `output_embeddings` or `head`;
            with `encoder_` or `decoder_` before it where a backbone has both, `shared_block_1` where the same layer is
            applied several times.
        role: What it is.
        stack: `encoder` or `decoder`; empty where there is one stack of blocks, and for what several stacks share.
        index: Its number within its stack, from 1; 0 for all that is no block.
        layers: Its Keras layers.
        variables: Its variables by path, those that never train included; tied ones are in the first block that has
            them. Where two variables of a model have one path, as in T5, the block's name stands before it.
        passes: How often it is applied: more than once where layers are shared, as in ALBERT.
        is_read: Whether the model's outputs depend on it: a masked language model does not read the pooler, nor a
            classifier on T5 the decoder.
    """

    name: str
    role: Role
    stack: str
    index: int
    layers: tuple[Any, ...]
    variables: Mapping[str, Any]
    passes: int = 1
    is_read: bool = True


@dataclass(frozen=True)
class _Stacks:
    """The layers that are blocks, by stack.

    Attributes:
        layers: Of each stack, from the lowest.
        owner: The number of the stack of each layer, by id.
        nearest: For each node by id, the blocks' nodes that it depends on with no block between, earliest first.
        feeds: For each operation by id, the stacks that depend on it with no block between.
        is_crossed: Whether the second stack reads the first one.
    """

    layers: list[list[Any]]
    owner: dict[int, int]
    nearest: dict[int, list[Any]]
    feeds: dict[int, set[int]]
    is_crossed: bool

    def names(self) -> list[str]:
        if len(self.layers) == 1:
            return [""]
        if len(self.layers) == 2 and self.is_crossed:
            return ["encoder", "decoder"]
        return [f"stack_{number}" for number in range(1, len(self.layers) + 1)]


def blocks(model: Any) -> tuple[Block, ...]:
    """The blocks of a KerasHub task, or of a backbone alone, from the lowest to the highest.

    A block is a layer made of further layers that gives what it takes: `(batch, tokens, width)`. What lies below the
    first is embeddings; what lies above the last is its final norm, or the pooler where it gives one vector a row;
    what stands outside the backbone is the head. Family names play no part in it.
    """
    backbone = getattr(model, "backbone", model)
    nodes = nodes_of(backbone)
    stacks = _stacks(nodes)
    names = stacks.names()
    parts: dict[tuple[Role, str, int], list[Any]] = {("embeddings", "", 0): []}
    for name in names:
        parts[("embeddings", name, 0)] = []
    for name, layers in zip(names, stacks.layers, strict=True):
        parts |= {("block", name, number): [layer] for number, layer in enumerate(layers, start=1)}
        parts[("final norm", name, 0)] = []
    for name in names:
        parts[("pooler", name, 0)] = []
    for layer in _distinct(node.operation for node in nodes):
        if getattr(layer, "variables", None) and id(layer) not in stacks.owner:
            parts[_place(layer, [node for node in nodes if node.operation is layer], stacks, names)].append(layer)
    reached, passes = _reached(model), [id(node.operation) for node in nodes]
    untied = {id(variable): layer for layer in backbone.layers if (variable := _untied(layer)) is not None}
    made, taken = [], set(untied)
    inside = {id(variable) for variable in backbone.variables}
    in_layers = {id(variable) for layers in parts.values() for layer in layers for variable in layer.variables}
    unplaced = [variable for variable in backbone.variables if id(variable) not in in_layers]  # no layer's of the graph
    for (role, stack, index), layers in parts.items():
        extra = unplaced if (role, stack) == ("embeddings", "") else []
        variables = _untaken([*extra, *(variable for layer in layers for variable in layer.variables)], taken)
        if variables:
            count = passes.count(id(layers[0])) if role == "block" else 1
            is_read = bool(extra) or any((id(layer), False) in reached for layer in layers)
            name = _name(role, stack, index, count)
            made.append(Block(name, role, stack, index, tuple(layers), _by_path(variables), count, is_read))
    if untied:
        layers = list(untied.values())
        variables = [variable for variable in backbone.variables if id(variable) in untied]
        is_read = any((id(layer), True) in reached for layer in layers)
        name = _name("output embeddings", "", 0, 1)
        made.append(Block(name, "output embeddings", "", 0, tuple(layers), _by_path(variables), 1, is_read))
    head = [variable for variable in model.variables if id(variable) not in inside]
    if head:
        own = {id(variable) for variable in head}
        layers = [layer for layer in model.layers if any(id(variable) in own for variable in layer.variables)]
        made.append(Block("head", "head", "", 0, tuple(layers), _by_path(head)))
    counts = Counter(variable.path for variable in model.variables)
    return tuple(
        replace(
            block, variables={f"{block.name}/{p}" if counts[v.path] > 1 else p: v for p, v in block.variables.items()}
        )
        for block in made
    )


def _by_path(variables: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable in variables:
        same = sum(path.partition("#")[0] == variable.path for path in found)
        found[f"{variable.path}#{same}" if same else variable.path] = variable
    return found


def _name(role: str, stack: str, index: int, passes: int) -> str:
    words = [stack, "shared" if passes > 1 else "", role.replace(" ", "_"), str(index) if index else ""]
    return "_".join(word for word in words if word)


def _stacks(nodes: Sequence[Any]) -> _Stacks:
    """The stacks of blocks in a graph, whose nodes come from the inputs on."""
    place = {id(node): number for number, node in enumerate(nodes)}
    sources = {id(tensor): node for node in nodes for tensor in node.output_tensors}
    block_nodes = {id(node) for node in nodes if _is_block(node)}
    layers: list[list[Any]] = []
    owner: dict[int, int] = {}
    nearest: dict[int, list[Any]] = {}
    is_crossed = False

    def blocks_above(node: Any) -> list[Any]:
        return [node] if id(node) in block_nodes else nearest[id(node)]

    for node in nodes:
        found = _distinct(above for parent in node.parent_nodes for above in blocks_above(parent))
        nearest[id(node)] = sorted(found, key=lambda above: place[id(above)])
        layer = node.operation
        if id(node) not in block_nodes or id(layer) in owner:
            continue
        carried = [blocks_above(sources[id(tensor)]) for tensor in _carried(node)]
        before = sorted((above for each in carried for above in each), key=lambda above: place[id(above)])
        same = [above for above in before if _kind(above.operation) == _kind(layer)]
        # A decoder's first block reads its embeddings beside the encoder, whose blocks are made otherwise.
        if not before or (not all(carried) and not same):
            owner[id(layer)] = len(layers)
            layers.append([layer])
        else:
            owner[id(layer)] = owner[id(before[-1].operation)]
            layers[owner[id(layer)]].append(layer)
        is_crossed |= any(owner[id(above.operation)] < owner[id(layer)] for above in nearest[id(node)])
    feeds: dict[int, set[int]] = {}
    for node in nodes:
        if id(node) not in block_nodes:
            continue
        ahead = list(node.parent_nodes)
        while ahead:
            parent = ahead.pop()
            reaches = feeds.setdefault(id(parent.operation), set())
            if id(parent) not in block_nodes:
                reaches.add(owner[id(node.operation)])
                ahead += parent.parent_nodes
    return _Stacks(layers, owner, nearest, feeds, is_crossed)


def _is_block(node: Any) -> bool:
    """Whether a layer with weights in layers of its own gives what it takes."""
    layer = node.operation
    if not isinstance(layer, keras.Layer) or isinstance(layer, keras.Model):
        return False
    return bool(_carried(node)) and any(part.weights for part in layers_of(layer)[1:])


def _carried(node: Any) -> list[Any]:
    """The `(batch, tokens, width)` inputs of a node that have the shape of its first output."""
    shape = tuple(node.output_tensors[0].shape)
    inputs = [tensor for tensor in node.input_tensors if tuple(tensor.shape) == shape and "float" in tensor.dtype]
    return inputs if len(shape) == 3 else []


def _kind(layer: Any) -> tuple[type, int]:
    return type(layer), len(layers_of(layer))


def _place(layer: Any, nodes: Sequence[Any], stacks: _Stacks, names: Sequence[str]) -> tuple[Role, str, int]:
    """The part that a layer belongs to which is no block itself."""
    below = [stacks.nearest[id(node)] for node in nodes]
    feeds = stacks.feeds.get(id(layer), set())
    if not all(below):
        return ("embeddings", names[next(iter(feeds))] if len(feeds) == 1 and layer.weights else "", 0)
    last = below[-1][-1].operation
    stack = stacks.owner[id(last)]
    if stack in feeds or not layer.weights:  # between two blocks, or a dropout, which has only its random state
        return ("block", names[stack], stacks.layers[stack].index(last) + 1)
    return ("pooler" if len(nodes[-1].output_tensors[0].shape) == 2 else "final norm", names[stack], 0)


def _reached(model: Any) -> set[tuple[int, bool]]:
    """Ids of all operations that the outputs of a model depend on, inside of models in the graph too.

    With each, whether it is asked for the reverse of what it does, as embeddings at the end of a language model are.
    """
    reached: set[tuple[int, bool]] = set()
    seen: set[int] = set()
    sources, ahead = sources_of(model), list(model.outputs)
    while ahead:
        tensor = ahead.pop()
        node = sources.get(id(tensor))
        if id(tensor) in seen or node is None:
            continue
        seen.add(id(tensor))
        operation = node.operation
        reached.add((id(operation), bool(node.arguments.kwargs.get("reverse", False))))
        ahead += node.input_tensors
        if isinstance(operation, keras.Function):
            ahead.append(operation.outputs[[id(output) for output in node.output_tensors].index(id(tensor))])
    return reached


def _untied(layer: Any) -> Any:
    """The variable of an embedding layer that turns vectors back to tokens, where it has one of its own."""
    return None if getattr(layer, "tie_weights", True) else getattr(layer, "reverse_embeddings", None)


def _untaken(variables: Iterable[Any], taken: set[int]) -> list[Any]:
    """Those variables that are not taken yet, which they are from then on."""
    found = [variable for variable in _distinct(variables) if id(variable) not in taken]
    taken |= {id(variable) for variable in found}
    return found


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({id(value): value for value in values}.values())
