"""Values of predict requests: JSON rows or columns to NumPy arrays, and arrays back to JSON.

Reference:
    https://www.tensorflow.org/tfx/serving/api_rest#request_format_2
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from serve.contract import Refused, TensorSpec, shown

NUMPY_TYPES: dict[str, Any] = {
    "DT_STRING": np.object_,
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_INT8": np.int8,
    "DT_INT16": np.int16,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_UINT8": np.uint8,
    "DT_UINT16": np.uint16,
    "DT_UINT32": np.uint32,
    "DT_UINT64": np.uint64,
    "DT_BOOL": np.bool_,
}

MAX_RANK = 32  # NumPy holds 64


def rows_to_arrays(rows: Any, inputs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    """Arrays `(rows, …)` by input name from `instances`: bare values of the one input, or objects.

    Raises:
        Refused: If a row lacks an input, has one too many, or differs in shape or type from the rest.

    >>> rows_to_arrays(["good", "bad"], {"text": TensorSpec("DT_STRING", (None,))})
    {'text': array([b'good', b'bad'], dtype=object)}
    """
    if not isinstance(rows, list) or not rows:
        raise Refused(f"'instances' is {shown(rows)}, expected a list with at least one row.")
    if not _is_object(rows[0]):
        name = _only_name(inputs, "'instances' holds bare values")
        return {name: to_array(rows, inputs[name], "instances")}
    for index, row in enumerate(rows):
        if not _is_object(row) or set(row) != set(inputs):
            raise Refused(f"instances[{index}] is {shown(row)}, expected an object with the keys {sorted(inputs)}.")
    return {name: to_array([row[name] for row in rows], spec, f"instances.{name}") for name, spec in inputs.items()}


def columns_to_arrays(columns: Any, inputs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    """Arrays by input name from `inputs`: the one input's values, or an object of them.

    A name that the signature lacks is refused, where TF Serving drops it unseen.

    Raises:
        Refused: If an input is missing, unknown, or has the wrong shape or type, or columns differ in length.

    >>> columns_to_arrays({"x": [[1, 2]]}, {"x": TensorSpec("DT_INT32", (None, 2))})
    {'x': array([[1, 2]], dtype=int32)}
    """
    if not _is_object(columns):
        name = _only_name(inputs, "'inputs' holds bare values")
        return {name: to_array(columns, inputs[name], "inputs")}
    if set(columns) != set(inputs):
        raise Refused(f"'inputs' has the keys {sorted(columns)}, expected {sorted(inputs)}.")
    arrays = {name: to_array(columns[name], spec, f"inputs.{name}") for name, spec in inputs.items()}
    sizes = {name: len(arrays[name]) for name, spec in inputs.items() if spec.shape and spec.shape[0] is None}
    if len(set(sizes.values())) > 1:
        raise Refused(f"'inputs' has columns of different lengths: {sizes}. Expected a value of each for every row.")
    return arrays


def to_array(value: Any, spec: TensorSpec, where: str) -> np.ndarray:
    """A dense array from nested lists; strings become UTF-8 bytes and `{"b64": …}` the bytes it encodes.

    Raises:
        Refused: If the lists are ragged, or a value or the shape is not what `spec` says.

    >>> to_array([{"b64": "aGk="}], TensorSpec("DT_STRING", (None,)), "inputs")
    array([b'hi'], dtype=object)
    """
    if spec.dtype not in NUMPY_TYPES:
        raise Refused(f"{where}: JSON cannot be converted to {spec.dtype}. Use gRPC for this input.", 501)
    shape = _first_shape(value)
    if not _fits(shape, spec.shape):
        raise Refused(f"{where} has shape {list(shape)[:MAX_RANK]}, expected {_shape_text(spec.shape)}.")
    leaves = [_leaf(leaf, spec.dtype, place) for leaf, place in _leaves(value, shape, where)]
    return np.array(leaves, dtype=NUMPY_TYPES[spec.dtype]).reshape(shape)


def arrays_to_rows(outputs: Mapping[str, np.ndarray]) -> list[Any]:
    """`predictions`: bare values of a single output, else one object per row.

    Raises:
        Refused: If the outputs disagree about the number of rows.

    >>> arrays_to_rows({"label": np.array([b"good"], object), "score": np.array([0.2], np.float32)})
    [{'label': 'good', 'score': 0.2}]
    """
    sizes = {name: array.shape[:1] for name, array in sorted(outputs.items())}
    if () in sizes.values() or len(set(sizes.values())) != 1:
        raise Refused(f"Outputs have the batch sizes {sizes}, expected one size. Ask with 'inputs' instead.")
    columns = {name: to_lists(outputs[name], name) for name in sizes}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def arrays_to_columns(outputs: Mapping[str, np.ndarray]) -> Any:
    """`outputs`: the value of a single output, else an object of them.

    >>> arrays_to_columns({"value": np.array([1, 2])})
    [1, 2]
    """
    columns = {name: to_lists(array, name) for name, array in sorted(outputs.items())}
    return next(iter(columns.values())) if len(columns) == 1 else columns


def to_lists(array: np.ndarray, name: str) -> Any:
    """Nested lists of JSON values; strings of an output named `*_bytes` become `{"b64": …}`.

    Other strings are read as UTF-8, a broken byte as U+FFFD: what a reader of TF Serving's raw bytes sees.

    Raises:
        Refused: If JSON has no form for the array's type.

    >>> to_lists(np.array([b"hi"], object), "image_bytes")
    [{'b64': 'aGk='}]
    """
    if array.dtype == np.object_:
        texts = np.empty(array.size, dtype=np.object_)
        texts[:] = [_text(item, name) for item in array.ravel()]
        return texts.reshape(array.shape).tolist()
    if array.dtype in (np.float16, np.float32):
        # Through text, because 0.2 in float32 is 0.200000003 in the float64 that JSON is written from.
        return array.astype(str).astype(np.float64).tolist()
    if array.dtype.kind not in "fiub":
        raise Refused(f"Output {name!r} has type {array.dtype}, which JSON cannot hold. Cast it to float32.")
    return array.tolist()


def _only_name(inputs: Mapping[str, TensorSpec], what: str) -> str:
    if len(inputs) != 1:
        raise Refused(f"{what}, but the signature has the inputs {sorted(inputs)}. Send objects with these keys.")
    return next(iter(inputs))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not (set(value) == {"b64"} and isinstance(value["b64"], str))


def _first_shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _leaves(value: Any, shape: tuple[int, ...], where: str) -> Iterator[tuple[Any, str]]:
    if not shape and not isinstance(value, list):
        yield value, where
        return
    if not shape or not isinstance(value, list) or len(value) != shape[0]:
        expected = f"a list of {shape[0]}" if shape else "a single value"
        raise Refused(f"{where} is {shown(value)}, expected {expected} as in the first row.")
    for index, item in enumerate(value):
        yield from _leaves(item, shape[1:], f"{where}[{index}]")


def _leaf(value: Any, dtype: str, where: str) -> Any:
    kind = np.dtype(NUMPY_TYPES[dtype]).kind
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "O" and isinstance(value, str | dict):
        return to_bytes(value, where)
    if kind == "b" and isinstance(value, bool):
        return value
    if kind == "f" and number:
        return check_decimal(value, NUMPY_TYPES[dtype], where)
    if kind in "iu" and number and isinstance(value, int):
        limits = np.iinfo(NUMPY_TYPES[dtype])
        if limits.min <= value <= limits.max:
            return value
    raise Refused(f"{where} is {shown(value)}, expected a value of type {dtype}.")


def to_bytes(value: str | dict[str, Any], where: str) -> bytes:
    """The bytes of a JSON string, or those that a `{"b64": …}` object encodes (padding may be left off).

    Raises:
        Refused: If the string is not valid Unicode or the object not base64.

    >>> to_bytes({"b64": "aGk"}, "inputs")
    b'hi'
    """
    try:
        if isinstance(value, str):
            return value.encode("utf-8")
        if not _is_object(value):
            return base64.b64decode(value["b64"] + "=" * (-len(value["b64"]) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise Refused(f"{where} is {shown(value)}, expected Unicode text or base64: {error}.") from error
    raise Refused(f'{where} is {shown(value)}, expected a string or {{"b64": "…"}}.')


def check_decimal(value: float, dtype: Any, where: str) -> float:
    """`value`, if `dtype` holds it: no overflow, and a whole number within the mantissa.

    Raises:
        Refused: If it does not.
    """
    limits = np.finfo(dtype)
    too_fine = isinstance(value, int) and abs(value) >= 2 ** (limits.nmant + 1)
    if too_fine or (np.isfinite(value) and abs(value) > float(limits.max)):
        raise Refused(f"{where} is {shown(value)}, which {np.dtype(dtype)} cannot hold without loss.")
    return value


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...] | None) -> bool:
    if expected is None:
        return len(shape) <= MAX_RANK
    return len(shape) == len(expected) and all(want in (None, size) for size, want in zip(shape, expected, strict=True))


def _shape_text(shape: tuple[int | None, ...] | None) -> str:
    return (
        f"at most {MAX_RANK} dimensions"
        if shape is None
        else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
    )


def _text(item: bytes, name: str) -> Any:
    if name.endswith("_bytes"):
        return {"b64": base64.b64encode(item).decode("ascii")}
    return item.decode("utf-8", errors="replace")
