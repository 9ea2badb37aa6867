"""The REST formats, against the server in a second process and by raw HTTP."""

import base64
import json
import math
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from kft.errors import ServeError
from serve import server as server_module


def post(server, path, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    response = httpx.post(server.url + path, content=body, timeout=30)
    assert response.headers["content-type"] == "application/json"
    return response.status_code, response.json()


def test_one_line_says_where_it_serves(server):
    assert server.first_line.startswith("serving 3 models on http://127.0.0.1:")


def test_rows_of_bare_values_and_of_objects_give_the_same_predictions(server):
    bare = post(server, "/v1/models/mood:predict", {"instances": ["a", "b"]})
    named = post(server, "/v1/models/mood/versions/1:predict", {"instances": [{"text": "a"}, {"text": "b"}]})
    assert bare == named
    status, answer = bare
    assert status == 200
    first, second = answer["predictions"]
    assert set(first) == {"label", "score", "scores"}
    assert first["score"] == max(first["scores"]) and len(first["scores"]) == 3
    assert math.isclose(sum(second["scores"]), 1, rel_tol=1e-6)
    assert first != second


def test_columns_give_columns(server):
    _, rows = post(server, "/v1/models/mood:predict", {"instances": ["a", "b"]})
    status, bare = post(server, "/v1/models/mood:predict", {"inputs": ["a", "b"]})
    _, named = post(server, "/v1/models/mood:predict", {"inputs": {"text": ["a", "b"]}})
    assert status == 200 and bare == named
    for name, column in bare["outputs"].items():
        assert column == [row[name] for row in rows["predictions"]]


def test_a_single_output_is_bare(server):
    rows = [{"text": "añ", "text_pair": "b"}, {"text": "", "text_pair": ""}]
    assert post(server, "/v1/models/length:predict", {"instances": rows}) == (
        200,
        {"predictions": [3.0, 0.0]},
    )
    columns = {"text": ["añ"], "text_pair": ["b"]}
    assert post(server, "/v1/models/length:predict", {"inputs": columns}) == (200, {"outputs": [3.0]})


def test_base64_goes_in_and_bytes_outputs_come_out(server):
    raw = b"\xff\x00\xfe"
    encoded = {"b64": base64.b64encode(raw).decode()}
    request = {"signature_name": "echo", "instances": [encoded, encoded]}
    assert post(server, "/v1/models/length:predict", request) == (200, {"predictions": [encoded, encoded]})


def test_numbers_that_are_not_finite_go_both_ways(server):
    request = b'{"signature_name": "divide", "instances": [[1, 0], [-1, 0], [NaN, 1], [Infinity, 1], [1, 5]]}'
    response = httpx.post(server.url + "/v1/models/length:predict", content=request)
    assert response.text == '{"predictions": [Infinity, -Infinity, NaN, Infinity, 0.2]}'


def test_classify_gives_label_score_pairs(server):
    request = {"signature_name": "classify", "examples": [{"text": "a"}, {"text": ["b"]}]}
    status, answer = post(server, "/v1/models/mood:classify", request)
    _, predicted = post(server, "/v1/models/mood:predict", {"instances": ["a", "b"]})
    assert status == 200
    for pairs, row in zip(answer["results"], predicted["predictions"], strict=True):
        assert pairs == [[label, score] for label, score in zip(("bad", "good", "so-so"), row["scores"], strict=True)]


def test_regress_joins_the_context(server):
    request = {
        "signature_name": "regress",
        "context": {"text": "four"},
        "examples": [{}, {"text": "ab"}, {"n": 1.5}],
    }
    assert post(server, "/v1/models/length:regress", request) == (200, {"results": [4.0, 2.0, 4.0]})


MOOD = "/v1/models/mood:predict"
LENGTH = "/v1/models/length:predict"


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        (MOOD, b"", "JSON Parse error"),
        (MOOD, b"{'instances'", "JSON Parse error"),
        (MOOD, b'{"instances": ["\xff"]}', "JSON Parse error"),
        (MOOD, b"[" * 100_000, "JSON Parse error"),
        (MOOD, ["a"], "expected a JSON object"),
        (MOOD, {}, "either 'instances' or 'inputs'"),
        (MOOD, {"instances": ["a"], "inputs": ["a"]}, "either 'instances' or 'inputs'"),
        (MOOD, {"instances": []}, "at least one row"),
        (MOOD, {"instances": "a"}, "at least one row"),
        (MOOD, {"instances": ["a", 7]}, "instances[1] is 7, expected a value of type DT_STRING"),
        (MOOD, {"instances": ["a", None]}, "instances[1] is null"),
        (MOOD, {"instances": ["a", ["b"]]}, 'instances[1] is ["b"], expected a single value'),
        (MOOD, {"instances": [["a"], ["b"]]}, "has shape [2, 1], expected [?]"),
        (MOOD, {"instances": [{"b64": "a"}]}, "base64"),
        (MOOD, {"instances": ["\ud800"]}, "Unicode"),
        (MOOD, {"instances": [{"txt": "a"}]}, "expected an object with the keys ['text']"),
        (MOOD, {"instances": [{"text": "a", "more": "b"}]}, "expected an object with the keys ['text']"),
        (MOOD, {"instances": [{"text": "a"}, "b"]}, "instances[1]"),
        (MOOD, {"inputs": {"txt": ["a"]}}, "'inputs' has the keys ['txt'], expected ['text']"),
        (MOOD, {"inputs": "a"}, "has shape [], expected [?]"),
        (MOOD, {"signature_name": 3, "instances": ["a"]}, "'signature_name' is 3"),
        (MOOD, {"signature_name": "none", "instances": ["a"]}, '"none" not found in signature def'),
        (LENGTH, {"instances": ["a"]}, "the inputs ['text', 'text_pair']"),
        (LENGTH, {"inputs": ["a"]}, "the inputs ['text', 'text_pair']"),
        (
            LENGTH,
            {"inputs": {"text": ["x", "y", "x", "w"], "text_pair": ["z"]}},
            "columns of different lengths: {'text': 4, 'text_pair': 1}",
        ),
        (LENGTH, {"inputs": {"text": "x", "text_pair": "z"}}, "inputs.text has shape [], expected [?]"),
        (LENGTH, {"inputs": {"text": [["x"]], "text_pair": [["z"]]}}, "has shape [1, 1], expected [?]"),
        (MOOD, b'{"instances": ' + b"[" * 65 + b'"a"' + b"]" * 65 + b"}", "has shape [1, 1"),
        (MOOD, b'{"instances": ["a", ' + b"[" * 700 + b"]" * 700 + b"]}", "expected a single value"),
        (MOOD, {"signature_name": "\ud800", "instances": ["a"]}, '"\\ud800" not found in signature def'),
        (MOOD, {"\ud800": "a"}, "either 'instances' or 'inputs'"),
        (LENGTH, {"instances": [{"text": "a"}]}, "['text', 'text_pair']"),
        (LENGTH, {"signature_name": "divide", "instances": [[1, 2], [3]]}, "instances[1]"),
        (LENGTH, {"signature_name": "divide", "instances": [[1, "2"]]}, "DT_FLOAT"),
        (LENGTH, {"signature_name": "divide", "instances": [[1, True]]}, "DT_FLOAT"),
        (LENGTH, {"signature_name": "divide", "instances": [[1, 2**24]]}, "without loss"),
        (LENGTH, {"signature_name": "divide", "instances": [[1, 2, 3]]}, "has shape [1, 3], expected [?, 2]"),
        (LENGTH, {"signature_name": "strict", "instances": ["fail"]}, "met fail"),
        (
            "/v1/models/mood:classify",
            {"examples": [{"text": "a"}]},
            "method_name to be tensorflow/serving/classify",
        ),
        ("/v1/models/mood:classify", {"signature_name": "classify"}, "'examples' is null"),
        ("/v1/models/mood:classify", {"signature_name": "classify", "examples": ["a"]}, "examples[0]"),
        (
            "/v1/models/mood:classify",
            {"signature_name": "classify", "examples": [{"text": [1, "a"]}]},
            "mixes",
        ),
        ("/v1/models/mood:classify", {"signature_name": "classify", "examples": [{"text": None}]}, "is null"),
        ("/v1/models/mood:classify", {"signature_name": "classify", "examples": [{}]}, "text"),
        (
            "/v1/models/mood:classify",
            {"signature_name": "classify", "examples": [{"\ud800": "a"}]},
            "a name in examples[0]",
        ),
        (f"/v1/models/mood/versions/{'9' * 4301}:predict", {"instances": ["a"]}, "Malformed request: found version"),
        ("/v1/models/mood:explain", {"instances": ["a"]}, "unknown action 'explain'"),
        (
            "/v1/models/mood/labels/stable:predict",
            {"instances": ["a"]},
            "Unrecognized servable version label: stable",
        ),
        ("/v1/models/mood", {"instances": ["a"]}, "Malformed request: POST /v1/models/mood"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_with_400(server, path, document, expected):
    status, answer = post(server, path, document)
    assert status == 400
    assert list(answer) == ["error"] and expected in answer["error"]


@pytest.mark.parametrize("path", ["/v1/models/gone:predict", "/v1/models/mood/versions/9:predict"])
def test_an_unknown_model_or_version_is_404(server, path):
    status, answer = post(server, path, {"instances": ["a"]})
    assert status == 404 and "Servable not found for request" in answer["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/gone", 404),
        ("/v1/models/mood/versions/9", 404),
        ("/v1/models/gone/metadata", 404),
        ("/v1/models", 400),
        (f"/v1/models/mood/versions/{'9' * 4301}", 400),
        ("/v1/models/mood/versions/one/metadata", 400),
        ("/", 404),
    ],
)
def test_errors_of_get_are_json(server, path, status):
    response = httpx.get(server.url + path)
    assert response.status_code == status and list(response.json()) == ["error"]


def test_status_and_metadata_have_the_documented_form(server):
    ok = {"error_code": "OK", "error_message": ""}
    expected = {"model_version_status": [{"version": "7", "state": "AVAILABLE", "status": ok}]}
    for path in ("/v1/models/length", "/v1/models/length/versions/7"):
        assert httpx.get(server.url + path).json() == expected
    metadata = httpx.get(server.url + "/v1/models/mood/versions/1/metadata").json()
    assert metadata["model_spec"] == {"name": "mood", "signature_name": "", "version": "1"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "classify"}
    text = signatures["serving_default"]["inputs"]["text"]
    assert text["dtype"] == "DT_STRING"
    assert text["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


def test_many_rows_are_answered_in_their_order(server):
    texts = [f"text {number} " * (number % 7 * 40) for number in range(300)]
    _, together = post(server, MOOD, {"instances": texts})
    alone = [post(server, MOOD, {"instances": [text]})[1]["predictions"][0] for text in texts[::50]]
    assert together["predictions"][::50] == alone


def test_requests_at_the_same_time_get_their_own_answers(server):
    texts = [f"text {number}" for number in range(24)]
    alone = [post(server, MOOD, {"instances": [text]}) for text in texts]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda text: post(server, MOOD, {"instances": [text]}), texts))
    assert together == alone
    assert len({str(answer) for _, answer in alone}) > 12


def test_the_healthcheck_of_the_bundle_finds_this_server(server):
    compose = yaml.safe_load((Path(server_module.__file__).with_name("compose.yaml")).read_text())
    _, *command = compose["services"]["serving"]["healthcheck"]["test"]
    port = urlsplit(server.url).port
    command[-1] = command[-1].replace("$$", "$").replace("8501", str(port))
    assert subprocess.run(command, timeout=20).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as unused:
        free_port = unused.getsockname()[1]
    command[-1] = command[-1].replace(str(port), str(free_port))
    assert subprocess.run(command, timeout=20, capture_output=True).returncode != 0


def test_a_taken_port_is_refused_before_models_load(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ServeError, match="Cannot listen on"):
        server_module.serve(tmp_path, port=taken.getsockname()[1])


def test_a_folder_without_exports_is_refused(tmp_path):
    with pytest.raises(ServeError, match="holds no export"):
        server_module.create_app(tmp_path)
    with pytest.raises(ServeError, match="is not a folder"):
        server_module.create_app(tmp_path / "missing")
