"""The routes of TensorFlow Serving's REST API, answered from a store of loaded models."""

from collections.abc import Callable
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.contract import Refused, Signature, dump_document, parse_document, signature_name
from serve.examples import classify_results, parse_examples, regress_results
from serve.tensors import arrays_to_columns, arrays_to_rows, columns_to_arrays, rows_to_arrays
from serve.versions import ModelStore, Servable

Document = dict[str, Any]


def routes(store: ModelStore, *, max_body_bytes: int, num_threads: int) -> list[Route]:
    """Every route. Models run in `num_threads` threads; a body past `max_body_bytes` is answered with 413."""
    limiter = CapacityLimiter(num_threads)

    async def act(request: Request) -> Response:
        body = await _read_body(request, max_body_bytes)
        params = dict(request.path_params)
        answer = partial(_act, store, params.pop("action"), params.pop("model"), params, body)
        return _json(await to_thread.run_sync(answer, limiter=limiter))

    async def status(request: Request) -> Response:
        params = dict(request.path_params)
        return _json(dump_document(store.statuses(params.pop("model"), **params)))

    async def metadata(request: Request) -> Response:
        params = dict(request.path_params)
        return _json(dump_document(store.find(params.pop("model"), **params).metadata))

    listed = []
    for ending in ("", "/versions/{version:int}", "/labels/{label}"):
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
    return _json(dump_document({"error": f"{type(error).__name__}: {error}"}), 500)


def predict(servable: Servable, document: Document) -> Document:
    """Rows (`instances` to `predictions`) or columns (`inputs` to `outputs`)."""
    name = signature_name(document)
    inputs = _signature(servable, name).inputs
    if ("instances" in document) == ("inputs" in document):
        raise Refused(f"The body has the keys {sorted(document)}, expected either 'instances' or 'inputs'.")
    if "instances" in document:
        arrays = rows_to_arrays(document["instances"], inputs)
        return {"predictions": arrays_to_rows(servable.call(name, arrays))}
    arrays = columns_to_arrays(document["inputs"], inputs)
    return {"outputs": arrays_to_columns(servable.call(name, arrays))}


def infer(servable: Servable, document: Document, *, method: str, results: Callable[..., list[Any]]) -> Document:
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
    outputs = servable.call(name, {"inputs": servable.serialise(examples)})
    return {"results": results(outputs, len(examples))}


ACTIONS: dict[str, Callable[[Servable, Document], Document]] = {
    "predict": predict,
    "classify": partial(infer, method="classify", results=classify_results),
    "regress": partial(infer, method="regress", results=regress_results),
}


def _act(store: ModelStore, action: str, model: str, which: Document, body: bytes) -> bytes:
    if action not in ACTIONS:
        raise Refused(f"Malformed request: unknown action {action!r}, expected one of {sorted(ACTIONS)}.")
    servable = store.find(model, **which)
    return dump_document(ACTIONS[action](servable, parse_document(body)))


def _signature(servable: Servable, name: str) -> Signature:
    if name not in servable.signatures:
        known = sorted(servable.signatures)
        raise Refused(f'Serving signature name: "{name}" not found in signature def. The model has {known}.')
    return servable.signatures[name]


async def _read_body(request: Request, max_body_bytes: int) -> bytes:
    """The body, refused as soon as it is known to be too long: a long one is never held in memory."""
    announced = int(request.headers.get("content-length", 0))
    body = bytearray()
    if announced <= max_body_bytes:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                break
    if max(announced, len(body)) > max_body_bytes:
        raise Refused(f"The body is longer than {max_body_bytes} bytes. Send fewer rows in one request.", 413)
    return bytes(body)


async def _malformed(request: Request) -> Response:
    raise Refused(f"Malformed request: {request.method} {request.url.path}")


def _json(body: bytes, status_code: int = 200) -> Response:
    return Response(body, status_code, media_type="application/json")
