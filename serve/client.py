"""A client of TensorFlow Serving's REST API, for the local server and the real one; needs no TensorFlow.

From a shell: `python -m serve.client http://127.0.0.1:8501 mood "a fine day" "a long queue"`
"""

import argparse
import base64
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from kft.errors import ServeError
from serve.contract import Refused, dump_document, model_path

CONNECT_RETRIES = 3


class Client:
    """Asks the models behind one address. Close it, or use it in a `with`.

    A connection that cannot be made is tried again 3 times; a request that was sent is not sent twice.
    Every method raises a ServeError if no answer comes, and a `Refused` with the server's message and
    `http_status` if the answer is an error.
    """

    def __init__(self, url: str = "http://127.0.0.1:8501", *, timeout_s: float = 60.0):
        self._url = url.rstrip("/")
        transport = httpx.HTTPTransport(retries=CONNECT_RETRIES)
        self._http = httpx.Client(transport=transport, timeout=timeout_s)

    def predict(
        self,
        model: str,
        rows: Sequence[Any],
        *,
        version: int | None = None,
        label: str | None = None,
        signature_name: str | None = None,
    ) -> list[Any]:
        """One prediction per row: a dict of the model's outputs, or the bare value of a single output.

        Args:
            model: Its name.
            rows: The value of the one input (a string, number, list or bytes), or dicts by input name.
            version: The newest one by default.
            label: A version by its label in `models.config`.
            signature_name: `serving_default` by default.
        """
        document = {"instances": list(rows), **_named(signature_name)}
        path = model_path(model, version=version, label=label, ending=":predict")
        return self._ask("POST", path, "predictions", document)

    def classify(
        self,
        model: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        version: int | None = None,
        label: str | None = None,
        signature_name: str | None = "classify",
    ) -> list[list[list[Any]]]:
        """The `[label, score]` pairs of each example, a dict of features; `context` is joined to each."""
        path = model_path(model, version=version, label=label, ending=":classify")
        return self._ask("POST", path, "results", _examples(examples, context, signature_name))

    def regress(
        self,
        model: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        version: int | None = None,
        label: str | None = None,
        signature_name: str | None = "regress",
    ) -> list[float]:
        """One number per example, a dict of features; `context` is joined to each."""
        path = model_path(model, version=version, label=label, ending=":regress")
        return self._ask("POST", path, "results", _examples(examples, context, signature_name))

    def status(self, model: str, *, version: int | None = None, label: str | None = None) -> list[dict]:
        """The state of each version: `{"version": "1", "state": "AVAILABLE", "status": {…}}`."""
        return self._ask("GET", model_path(model, version=version, label=label), "model_version_status")

    def metadata(self, model: str, *, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """The signatures of a model by name, each with `inputs`, `outputs` and `method_name`."""
        path = model_path(model, version=version, label=label, ending="/metadata")
        return self._ask("GET", path, "metadata")["signature_def"]["signature_def"]

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, key: str, document: Mapping[str, Any] | None = None) -> Any:
        body = None if document is None else _body(document)
        headers = {"Content-Type": "application/json"}
        try:
            response = self._http.request(method, self._url + path, content=body, headers=headers)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServeError(
                f"No answer from {self._url}: {error or type(error).__name__}. Is the server running there?"
            ) from error
        return _answer(response, key)


def _answer(response: httpx.Response, key: str) -> Any:
    """What stands under `key` in an answer."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and response.is_success and key in document:
        return document[key]
    if isinstance(document, dict) and "error" in document:
        raise Refused(f"{response.url}: {document['error']}", response.status_code)
    raise ServeError(
        f"{response.url} answered {response.status_code} with {response.text[:80]!r}, "
        f"expected JSON with {key!r}. Is it TensorFlow Serving's REST port?"
    )


def _examples(
    examples: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None, signature_name: str | None
) -> dict[str, Any]:
    joined = {} if context is None else {"context": context}
    return {"examples": list(examples), **joined, **_named(signature_name)}


def _named(signature_name: str | None) -> dict[str, str]:
    return {} if signature_name is None else {"signature_name": signature_name}


def _body(document: Mapping[str, Any]) -> bytes:
    try:
        return dump_document(_encoded(document))
    except (TypeError, ValueError) as error:
        raise ServeError(f"The request cannot be sent as JSON: {error}. Send text, numbers, lists or bytes.") from error


def _encoded(value: Any) -> Any:
    """The value with bytes as `{"b64": …}`, because JSON has no bytes."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one JSON line per text; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serve.client", description="Ask a served model.")
    parser.add_argument("url", help="for example http://127.0.0.1:8501")
    parser.add_argument("model", help="the model's name")
    parser.add_argument("texts", nargs="+", metavar="text")
    parser.add_argument("--version", type=int, help="the newest one by default")
    parser.add_argument("--signature-name", help="serving_default by default")
    given = parser.parse_args(arguments)
    try:
        with Client(given.url) as client:
            predictions = client.predict(
                given.model, given.texts, version=given.version, signature_name=given.signature_name
            )
    except ServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for prediction in predictions:
        print(json.dumps(prediction, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
