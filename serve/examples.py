"""Values of classify and regress requests: JSON examples to typed features, and arrays to `results`.

Reference:
    https://www.tensorflow.org/tfx/serving/api_rest#classify_and_regress_api
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve.contract import Refused, shown
from serve.tensors import check_decimal, to_bytes, to_lists


@dataclass(frozen=True)
class Feature:
    """One feature of a tf.Example: `kind` is "bytes", "float", "int64", or None when it has no values."""

    kind: str | None
    values: tuple[Any, ...]


def parse_examples(document: Mapping[str, Any]) -> list[dict[str, Feature]]:
    """The features of each example; those of `context` stand in every example that lacks them.

    Raises:
        Refused: If there are no examples, or a feature holds something that a tf.Example cannot.

    >>> parse_examples({"context": {"n": 1}, "examples": [{"text": "good"}]})
    [{'n': Feature(kind='int64', values=(1,)), 'text': Feature(kind='bytes', values=(b'good',))}]
    """
    examples = document.get("examples")
    if not isinstance(examples, list) or not examples:
        raise Refused(f"'examples' is {shown(examples)}, expected a list with at least one object.")
    context = _features(document.get("context", {}), "context")
    return [{**context, **_features(example, f"examples[{i}]")} for i, example in enumerate(examples)]


def classify_results(outputs: Mapping[str, np.ndarray], num_examples: int) -> list[list[list[Any]]]:
    """`results` of classify: per example its `[label, score]` pairs.

    A signature without `classes` has empty labels, one without `scores` has scores of 0.

    Raises:
        Refused: If an output is not `(examples, classes)`.

    >>> classify_results({"classes": np.array([[b"bad"]], object), "scores": np.array([[0.5]])}, 1)
    [[['bad', 0.5]]]
    """
    given = {name: outputs[name] for name in ("classes", "scores") if name in outputs}
    shapes = {name: array.shape for name, array in given.items()}
    shape = next(iter(shapes.values()), ())
    if len(shape) != 2 or shape[0] != num_examples or len(set(shapes.values())) != 1:
        raise Refused(f"The model answered with {shapes}, expected 'classes' and 'scores' ({num_examples}, classes).")
    labels = to_lists(given["classes"], "classes") if "classes" in given else np.full(shape, "").tolist()
    scores = to_lists(given["scores"], "scores") if "scores" in given else np.zeros(shape).tolist()
    return [[[label, score] for label, score in zip(*pair, strict=True)] for pair in zip(labels, scores, strict=True)]


def regress_results(outputs: Mapping[str, np.ndarray], num_examples: int) -> list[float]:
    """`results` of regress: one number per example.

    Raises:
        Refused: If the output is not `outputs` of shape `(examples,)` or `(examples, 1)`.

    >>> regress_results({"outputs": np.array([[2.5]])}, 1)
    [2.5]
    """
    shapes = {name: array.shape for name, array in outputs.items()}
    if shapes.get("outputs") not in ((num_examples,), (num_examples, 1)):
        raise Refused(f"The model answered with {shapes}, expected 'outputs' ({num_examples},) or ({num_examples}, 1).")
    return to_lists(outputs["outputs"].reshape(num_examples), "outputs")


def _features(example: Any, where: str) -> dict[str, Feature]:
    if not isinstance(example, dict):
        raise Refused(f"{where} is {shown(example)}, expected an object of features.")
    for name in example:
        to_bytes(name, f"a name in {where}")
    return {name: _feature(value, f"{where}.{name}") for name, value in example.items()}


def _feature(value: Any, where: str) -> Feature:
    pairs = [_typed(item, where) for item in (value if isinstance(value, list) else [value])]
    kinds = {kind for kind, _ in pairs}
    if len(kinds) > 1:
        raise Refused(f"{where} is {shown(value)}, which mixes {sorted(kinds)}. Expected values of one type.")
    return Feature(next(iter(kinds), None), tuple(item for _, item in pairs))


def _typed(value: Any, where: str) -> tuple[str, Any]:
    if isinstance(value, str | dict):
        return "bytes", to_bytes(value, where)
    if isinstance(value, bool):
        return "int64", int(value)
    if isinstance(value, float):
        return "float", check_decimal(value, np.float32, where)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "int64", value
    raise Refused(f"{where} is {shown(value)}, expected text, a number, true, false or base64.")
