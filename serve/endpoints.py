"""The routes of TensorFlow Serving's REST API, answered from a store of loaded models."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from serve.bodies import Bodies
from serve.contract import Refused, Signature, dump_document, parse_document, signature_name
from serve.examples import classify_results, parse_examples, regress_results
from serve.folders import MAX_VERSION
from serve.limits import Limits
from serve.tensors import arrays_to_columns, arrays_to_rows, columns_to_arrays, rows_to_arrays
from serve.versions import ModelStore, Servable

Document = dict[str, Any]


def routes(store: ModelStore, *, limits: Limits, num_threads: int) -> list[Route]:
    """Every route. Models run in `num_threads` threads."""
    limiter, bodies = CapacityLimiter(num_threads), Bodies(limits)

    async def act(request: Request) -> Response:
        params = dict(request.path_params)
        action, model, which = params.pop("action"), params.pop("model"), _which(params)
        async with bodies.of(request) as body:
            answer = partial(_act, store, action, model, which, body, limits)
            return _json(await to_thread.run_sync(answer, limiter=limiter))

    async def status(request: Request) -> Response:
        params = dict(request.path_params)
        return _json(dump_document(store.statuses(params.pop("model"), **_which(params))))

    async def metadata(request: Request) -> Response:
        params = dict(request.path_params)
        return _json(dump_document(store.find(params.pop("model"), **_which(params)).metadata))

    listed = []
    for ending in ("", "/versions/{version}", "/labels/{label}"):
        which = "/v1/models/{model}" + ending
        listed.append(Route(which + ":{action}", act, methods=["POST"]))
        listed.append(Route(which + "/metadata", metadata, methods=["GET"]))
        listed.append(Route(which, status, methods=["GET"]))
    # Any other method or path below /v1 is malformed (400), where Starlette would say 405 or 404.
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return [*listed, Route("/v1/{path:path}", _malformed, methods=methods)]


async def refused(request: Request, error: Exception) -> Response:
    """The answer to a request that cannot be served: `{"error": …}` with its code."""
    if isinstance(error, Refused):
        return _json(dump_document({"error": str(error)}), error.http_status)
    if isinstance(error, HTTPException):
        return _json(dump_document({"error": f"{error.detail}: {request.url.path}"}), error.status_code)
    if isinstance(error, ClientDisconnect):
        return _json(b"", 400)  # nobody is there to read it
    return _json(dump_document({"error": "Internal error. The server's log says which."}), 500)


def predict(servable: Servable, document: Document, limits: Limits) -> Document:
    """Rows (`instances` to `predictions`) or columns (`inputs` to `outputs`)."""
    name = signature_name(document)
    inputs = _signature(servable, name).inputs
    if ("instances" in document) == ("inputs" in document):
        raise Refused(f"The body has the keys {sorted(document)}, expected either 'instances' or 'inputs'.")
    if "instances" in document:
        arrays = rows_to_arrays(document["instances"], inputs)
        limits.check(arrays)
        return {"predictions": arrays_to_rows(servable.call(name, arrays))}
    arrays = columns_to_arrays(document["inputs"], inputs)
    limits.check(arrays)
    return {"outputs": arrays_to_columns(servable.call(name, arrays))}


def infer(
    servable: Servable, document: Document, limits: Limits, *, method: str, results: Callable[..., list[Any]]
) -> Document:
    """Examples to `results`, by a signature whose method name is `tensorflow/serving/<method>`."""
    name = signature_name(document)
    signature = _signature(servable, name)
    expected = f"tensorflow/serving/{method}"
    if signature.method != expected or set(signature.inputs) != {"inputs"}:
        fitting = sorted(key for key, other in servable.signatures.items() if other.method == expected)
        raise Refused(
            f"Expected {method} signature method_name to be {expected} with the one input 'inputs'. Was: "
            f"{signature.method} with {sorted(signature.inputs)}. "
            f"Send one of these as 'signature_name': {fitting}."
        )
    examples = parse_examples(document)
    arrays = {"inputs": servable.serialise(examples)}
    limits.check(arrays)
    outputs = servable.call(name, arrays)
    return {"results": results(outputs, len(examples))}


ACTIONS: dict[str, Callable[[Servable, Document, Limits], Document]] = {
    "predict": predict,
    "classify": partial(infer, method="classify", results=classify_results),
    "regress": partial(infer, method="regress", results=regress_results),
}


def _act(store: ModelStore, action: str, model: str, which: Document, body: bytes, limits: Limits) -> bytes:
    if action not in ACTIONS:
        raise Refused(f"Malformed request: unknown action {action!r}, expected one of {sorted(ACTIONS)}.")
    servable = store.find(model, **which)
    try:
        return dump_document(ACTIONS[action](servable, parse_document(body), limits))
    except RecursionError:
        raise Refused("The body is nested too deeply. Send lists no deeper than the model's inputs.") from None
    except MemoryError:
        raise Refused("The server has too little memory for this request. Send fewer rows.", 503) from None


def _which(params: Document) -> Document:
    """The version or label of a path.

    Raises:
        Refused: If the version is no number that a version can have.
    """
    if "version" not in params:
        return params
    text = params["version"]
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) > MAX_VERSION:
        raise Refused(f"Malformed request: found version {text[:20]!r}, expected a whole number below 2^63.")
    return {"version": int(text)}


def _signature(servable: Servable, name: str) -> Signature:
    if name not in servable.signatures:
        known = sorted(servable.signatures)
        raise Refused(f'Serving signature name: "{name}" not found in signature def. The model has {known}.')
    return servable.signatures[name]


async def _malformed(request: Request) -> Response:
    raise Refused(f"Malformed request: {request.method} {request.url.path}")


def _json(body: bytes, status_code: int = 200) -> Response:
    return Response(body, status_code, media_type="application/json")
