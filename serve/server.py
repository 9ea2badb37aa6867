"""A local server of exports over TensorFlow Serving's REST API: `serve("saved_models")`.

For trying and testing exports on one machine; the same folder runs in TensorFlow Serving unchanged.

Reference:
    https://www.tensorflow.org/tfx/serving/api_rest
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

# Loading a SavedModel looks its ops up by name, and this import is what registers those of tokenizers.
import tensorflow_text  # noqa: F401
import uvicorn
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from kft.errors import ServeError
from serve import connections, manifest, slices
from serve.address import address_error, bound_socket, url_of
from serve.contract import Refused, Signature, TensorSpec
from serve.endpoints import refused, routes
from serve.examples import Feature
from serve.limits import Limits
from serve.versions import ModelStore, Servable, watch

LIMITS = Limits()
POLL_S = 1.0
STOP_TIMEOUT_S = 30
# TensorFlow computes one call with all cores; more calls at once take more memory and no less time.
MAX_THREADS = 8
WARMUP_PATH = "assets.extra/tf_serving_warmup_requests"
# What TensorFlow raises for a SavedModel that is damaged, half copied or made by a newer version.
LOAD_ERRORS = (
    tf.errors.OpError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    DecodeError,
)
# The HTTP codes of TensorFlow Serving for errors that a model raises while it runs; any other is a 500.
HTTP_STATUS = {
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.OUT_OF_RANGE: 400,
    tf.errors.NOT_FOUND: 404,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.UNIMPLEMENTED: 501,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.DEADLINE_EXCEEDED: 504,
}


def serve(
    saved_models: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    limits: Limits = LIMITS,
    poll_s: float = POLL_S,
    any_saved_model: bool = False,
) -> None:
    """Answers until SIGINT or SIGTERM, then finishes the requests that are running and returns.

    Prints one line with the address once it accepts connections.

    Args:
        saved_models: The folder of `<name>/<version>/saved_model.pb`.
        host: The address to listen on; only this machine by default. There is no access control.
        port: 0 picks a free one.
        limits: What it takes on of a request, of all requests and of slow clients.
        poll_s: Seconds between two looks for new versions.
        any_saved_model: Whether SavedModels that no export of kft has written are loaded, too. Such a model is a
            program that can read and write files.

    Raises:
        ServeError: If the address is taken, or nothing in the folder can be served.
    """
    with bound_socket(host, port) as listener:
        app = create_app(saved_models, limits=limits, poll_s=poll_s, any_saved_model=any_saved_model)
        backlog = connections.backlog(connections.open_files_share(limits.connections))
        try:
            listener.listen(backlog)
        except OSError as error:
            raise address_error(host, port, error) from error
        num_models = len(app.state.store.names())
        print(f"serving {num_models} model{'s' * (num_models != 1)} on {url_of(listener)}", flush=True)
        config = uvicorn.Config(
            app,
            http=connections.protocol(limits),
            ws="none",
            backlog=backlog,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
        )
        connections.quieten()
        if threading.current_thread() is threading.main_thread():
            # uvicorn finishes the running requests and then raises the signal again, for this handler.
            signal.signal(signal.SIGTERM, _end)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _end(signal_number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


def create_app(
    saved_models: Path, *, limits: Limits = LIMITS, poll_s: float = POLL_S, any_saved_model: bool = False
) -> Starlette:
    """The ASGI app, with the models loaded and warmed up; `app.state.store` holds them.

    What cannot be served is said on standard error.

    Raises:
        ServeError: If nothing can be served.
    """
    store = ModelStore(Path(saved_models), partial(load_version, any_saved_model=any_saved_model))
    store.refresh()
    problems = store.problems()
    if not store.names():
        missing = f"{saved_models} holds no export. Expected <name>/<version>/saved_model.pb inside it."
        raise ServeError(" ".join(problems[:1]) or missing)
    for problem in problems:
        print(problem, file=sys.stderr, flush=True)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        watcher = asyncio.create_task(watch(store, poll_s))
        yield
        watcher.cancel()

    app = Starlette(
        routes=routes(store, limits=limits, num_threads=min(MAX_THREADS, os.cpu_count() or 1)),
        exception_handlers=dict.fromkeys((Refused, HTTPException, ClientDisconnect, Exception), refused),
        lifespan=lifespan,
    )
    app.state.store = store
    return app


def load_version(model: str, version: int, folder: Path, *, any_saved_model: bool = False) -> Servable:
    """A version that is loaded and has answered its own warmup requests.

    An export of kft answers each row by itself, so its requests are answered in slices; any other model is given
    each request as a whole.

    Raises:
        ServeError: If it is no whole export of kft, does not load or does not answer them.
    """
    try:
        if not any_saved_model:
            manifest.verify(folder)
        # The signatures die with the root object, so the closures below hold it.
        root = tf.saved_model.load(str(folder), tags=["serve"])
        definitions = _signature_definitions(folder)
    except LOAD_ERRORS as error:
        raise ServeError(f"{folder} does not load: {error}. Export it again or remove the folder.") from error
    spec = {"name": model, "signature_name": "", "version": str(version)}
    shown = MessageToDict(
        SignatureDefMap(signature_def=definitions),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    servable = Servable(
        model=model,
        version=version,
        signatures={name: _signature(definition) for name, definition in definitions.items()},
        metadata={"model_spec": spec, "metadata": {"signature_def": shown}},
        call=_called(root, in_slices=manifest.is_ours(folder)),
        serialise=_serialise,
    )
    _replay_warmup(servable, folder / WARMUP_PATH)
    return servable


def _signature_definitions(folder: Path) -> dict[str, SignatureDef]:
    saved_model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    meta_graph = next(graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags)
    # The initialiser of tables is listed among the signatures but is none.
    return {k: v for k, v in meta_graph.signature_def.items() if not k.startswith("__saved_model")}


def _signature(definition: SignatureDef) -> Signature:
    def specs(tensors: Mapping) -> dict[str, TensorSpec]:
        return {name: _tensor_spec(info.dtype, info.tensor_shape) for name, info in sorted(tensors.items())}

    return Signature(definition.method_name, specs(definition.inputs), specs(definition.outputs))


def _tensor_spec(dtype: int, shape: TensorShapeProto) -> TensorSpec:
    sizes = None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    return TensorSpec(DataType.Name(dtype), sizes)


def _called(root: Any, *, in_slices: bool) -> Callable[[str, Mapping[str, np.ndarray]], Any]:
    """The function that calls a signature of a loaded model by its name."""
    if not in_slices:
        return partial(_call, root)
    return lambda name, arrays: slices.call(partial(_call, root, name), arrays)


def _call(root: Any, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    function = root.signatures[name]
    dtypes = {key: spec.dtype for key, spec in function.structured_input_signature[1].items()}
    try:
        outputs = function(**{key: tf.constant(array, dtypes[key]) for key, array in arrays.items()})
    except tf.errors.OpError as error:
        raise Refused(_reason(error), HTTP_STATUS.get(error.error_code, 500)) from error
    return {
        key: np.asarray(value.numpy(), dtype=np.object_ if value.dtype == tf.string else None)
        for key, value in outputs.items()
    }


def _reason(error: tf.errors.OpError) -> str:
    """The message of an op in one line, without the empty Python stack that TensorFlow puts before it."""
    return " ".join(error.message.rpartition("<stack traces unavailable>")[2].split())


def _serialise(examples: list[dict[str, Feature]]) -> np.ndarray:
    return np.array([_example(features).SerializeToString() for features in examples], dtype=np.object_)


def _example(features: Mapping[str, Feature]) -> tf.train.Example:
    lists = {"bytes": tf.train.BytesList, "float": tf.train.FloatList, "int64": tf.train.Int64List}
    example = tf.train.Example()
    for name, feature in features.items():
        target = example.features.feature[name]
        if feature.kind is not None:
            getattr(target, f"{feature.kind}_list").CopyFrom(lists[feature.kind](value=feature.values))
    return example


def _replay_warmup(servable: Servable, path: Path) -> None:
    """Runs the recorded requests: a missing op shows only when it runs, not when the graph is loaded."""
    for index, log in enumerate(_warmup_logs(path) if path.exists() else []):
        try:
            name, arrays = _warmup_call(log)
            servable.call(name, arrays)
        except (Refused, KeyError) as error:
            raise ServeError(
                f"{path}, record {index}: {error}. Expected a warmup request that the model answers. "
                f"Export {servable.model!r} version {servable.version} again or remove its folder."
            ) from error


def _warmup_logs(path: Path) -> list[PredictionLog]:
    try:
        records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        return [PredictionLog.FromString(record) for record in records]
    except (tf.errors.OpError, DecodeError) as error:
        raise ServeError(f"{path}: {error}. Expected TFRecords of PredictionLog. Export it again.") from error


def _warmup_call(log: PredictionLog) -> tuple[str, dict[str, np.ndarray]]:
    kind = log.WhichOneof("log_type")
    if kind not in ("predict_log", "classify_log", "regress_log"):
        raise Refused(f"The record is a {kind}, expected a predict_log, classify_log or regress_log")
    request = getattr(log, kind).request
    name = request.model_spec.signature_name or "serving_default"
    if kind == "predict_log":
        return name, {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
    return name, {"inputs": np.array(_serialised_examples(request.input), dtype=np.object_)}


def _serialised_examples(recorded: Input) -> list[bytes]:
    if recorded.WhichOneof("kind") == "example_list_with_context":
        # Serialised messages that follow each other read as one: the example's features win.
        context = recorded.example_list_with_context.context.SerializeToString()
        return [context + e.SerializeToString() for e in recorded.example_list_with_context.examples]
    return [example.SerializeToString() for example in recorded.example_list.examples]
