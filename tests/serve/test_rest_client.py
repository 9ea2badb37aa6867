"""The client, against the server in a second process."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kft.errors import ServeError
from serve.client import Client, main
from serve.contract import Refused

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 60


@pytest.fixture
def client(server):
    with Client(server.url) as opened:
        yield opened


def wait_until(condition):
    """Asks until the condition holds; every question is a request, so the wait is no idle loop."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the server did not get there in time"


def test_predict_takes_strings_dicts_and_bytes(client):
    bare = client.predict("mood", ["a", "b"])
    assert bare == client.predict("mood", [{"text": "a"}, {"text": b"b"}], version=1)
    assert client.predict("length", [{"text": "ab", "text_pair": "c"}]) == [3.0]
    assert client.predict("length", [[1, 4]], signature_name="divide") == [0.25]


def test_classify_and_regress(client):
    (pairs,) = client.classify("mood", [{}], context={"text": "a"})
    assert dict(pairs)["good"] == client.predict("mood", ["a"])[0]["scores"][1]
    assert client.regress("length", [{"text": "abc"}, {"text": b"\xff"}], version=7) == [3.0, 1.0]


def test_status_and_metadata(client):
    (status,) = client.status("mood")
    assert (status["version"], status["state"]) == ("1", "AVAILABLE")
    assert set(client.metadata("mood")["serving_default"]["outputs"]) == {"label", "score", "scores"}


def test_errors_carry_the_message_and_the_code_of_the_server(client):
    with pytest.raises(Refused, match="expected a value of type DT_STRING") as refusal:
        client.predict("mood", [7])
    assert refusal.value.http_status == 400
    with pytest.raises(Refused, match="Servable not found") as refusal:
        client.predict("gone", ["a"])
    assert refusal.value.http_status == 404
    with pytest.raises(ServeError, match="version 1 and label 'stable'"):
        client.predict("mood", ["a"], version=1, label="stable")
    with pytest.raises(ServeError, match="cannot be sent as JSON"):
        client.predict("mood", [object()])


def test_no_server_is_said_so():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with (
        Client(url) as client,
        pytest.raises(ServeError, match=f"No answer from {url}.*Is the server running"),
    ):
        client.status("mood")


def test_the_shell_prints_one_json_line_per_text(server, client, capsys):
    command = [sys.executable, "-m", "serve.client", server.url, "mood", "a", "b"]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert [json.loads(line) for line in run.stdout.splitlines()] == client.predict("mood", ["a", "b"])
    assert main([server.url, "gone", "a"]) == ServeError.exit_code
    assert "Servable not found" in capsys.readouterr().err


def test_the_client_needs_no_tensorflow():
    code = "import sys, serve.client, serve.bundle; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=60).returncode == 0


def test_a_new_version_takes_over_and_a_broken_one_does_not(server, client, exports):
    model = server.saved_models / "moving"
    first = client.predict("moving", ["a"])
    exports.write_mood(model / ".tmp-2", shift=5.0).rename(model / "2")
    wait_until(lambda: [status["version"] for status in client.status("moving")] == ["2"])
    second = client.predict("moving", ["a"])
    assert second != first

    broken = exports.write_mood(model / ".tmp-3", shift=9.0)
    (broken / "variables" / "variables.index").unlink()
    broken.rename(model / "3")
    wait_until(lambda: client.status("moving")[0]["version"] == "3")
    failed, good = client.status("moving")
    assert (failed["state"], good["state"], good["version"]) == ("END", "AVAILABLE", "2")
    assert "variables.index is missing" in failed["status"]["error_message"]
    assert client.predict("moving", ["a"]) == second
    wait_until(lambda: client.status("mood") and "not served: moving, version 3" in server.stderr_path.read_text())
