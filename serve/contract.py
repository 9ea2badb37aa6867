"""What server and client share of TensorFlow Serving's REST API: paths, documents, signatures, refusals.

No TensorFlow here, nor in `tensors` and `examples`, which turn the documents into arrays and back.

Reference:
    https://www.tensorflow.org/tfx/serving/api_rest
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kft.errors import ServeError

MAX_SHOWN_CHARS = 80


class Refused(ServeError):
    """A request that is answered with an error. `http_status` is the code of that answer."""

    def __init__(self, message: str, http_status: int = 400):
        super().__init__(message)
        self.http_status = http_status


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its `DT_…` name and its shape, None for an open size or an unknown rank."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """One callable of a SavedModel: its method name (`tensorflow/serving/…`) and its tensors by name."""

    method: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


def model_path(model: str, *, version: int | None = None, label: str | None = None, ending: str = "") -> str:
    """The URL path of a model.

    Raises:
        ServeError: If both a version and a label are given.

    >>> model_path("mood", version=3, ending=":predict")
    '/v1/models/mood/versions/3:predict'
    """
    if version is not None and label is not None:
        raise ServeError(f"Both version {version} and label {label!r} were given. Give one of them.")
    path = f"/v1/models/{quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{version}"
    if label is not None:
        path += f"/labels/{quote(label, safe='')}"
    return path + ending


def parse_document(body: bytes) -> dict[str, Any]:
    """The JSON object of a request body. NaN, Infinity and -Infinity are numbers, as in TF Serving.

    Raises:
        Refused: If the body is not a JSON object in UTF-8.

    >>> parse_document(b'{"instances": [NaN]}')
    {'instances': [nan]}
    """
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"JSON Parse error: {error}. Expected a JSON object in UTF-8.") from error
    if not isinstance(document, dict):
        raise Refused(f"The body is {shown(document)}, expected a JSON object.")
    return document


def dump_document(document: Mapping[str, Any]) -> bytes:
    """The bytes of an answer. Numbers that are not finite become NaN, Infinity and -Infinity.

    Half of a surrogate pair, which UTF-8 cannot hold and an error may quote, becomes a question mark.

    >>> dump_document({"predictions": [float("inf")]})
    b'{"predictions": [Infinity]}'
    """
    return json.dumps(document, ensure_ascii=False).encode("utf-8", errors="replace")


def signature_name(document: Mapping[str, Any], default: str = "serving_default") -> str:
    """The signature a request asks for.

    Raises:
        Refused: If it is not a string.
    """
    name = document.get("signature_name", default)
    if not isinstance(name, str):
        raise Refused(f"'signature_name' is {shown(name)}, expected a string.")
    return name or default


def shown(value: Any) -> str:
    """A JSON value as an error message quotes it: cut after 80 characters.

    >>> shown({"text": "good"})
    '{"text": "good"}'
    """
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"
