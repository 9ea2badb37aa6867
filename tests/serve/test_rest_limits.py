"""What the REST server takes at most, and requests that do not end."""

import contextlib
import gzip
import json
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx


def post(server, path, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    response = httpx.post(server.url + path, content=body, timeout=30)
    assert response.headers["content-type"] == "application/json"
    return response.status_code, response.json()


MOOD = "/v1/models/mood:predict"


def test_a_long_body_is_413_whether_its_length_is_announced_or_not(server):
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"POST /v1/models/mood:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"POST /v1/models/mood:predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"100001\r\n" + b"x" * 0x100001 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert post(server, MOOD, {"instances": ["still here"]})[0] == 200


def send(server, body, encoding):
    response = httpx.post(server.url + MOOD, content=body, headers={"Content-Encoding": encoding}, timeout=30)
    return response.status_code, response.json()


def test_a_gzip_body_is_decompressed_within_the_limit(server):
    body = json.dumps({"instances": ["a"]}).encode()
    assert send(server, gzip.compress(body), "gzip") == post(server, MOOD, body)
    bomb = gzip.compress(b" " * 2**24)
    assert len(bomb) < 2**15
    for sent, encoding, status, expected in (
        (bomb, "gzip", 413, "longer than 1,048,576 bytes once it is decompressed"),
        (gzip.compress(body)[:-9], "gzip", 400, "not one whole gzip stream"),
        (gzip.compress(body) + b"more", "gzip", 400, "not one whole gzip stream"),
        (body, "gzip", 400, "cannot be decompressed"),
        (body, "br", 415, "Content-Encoding 'br', expected gzip or none"),
    ):
        found, answer = send(server, sent, encoding)
        assert found == status and expected in answer["error"]


def test_too_many_or_too_long_rows_are_413(server):
    for instances, expected in (
        (["a"] * 501, "has 501 rows, expected 500 at most"),
        (["a", "b" * (2**18 + 1)], "Row 1 has 262,145 bytes"),
        (["a"] * 99 + ["b" * 200_000], "100 rows times 200,000 bytes of the longest"),
    ):
        status, answer = post(server, MOOD, {"instances": instances})
        assert status == 413 and expected in answer["error"]


def open_connection(server, sent=b""):
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=20)
    connection.sendall(sent)
    return connection


def test_connections_that_stay_half_open_do_not_keep_others_out(server):
    header = b"POST /v1/models/mood:predict HTTP/1.1\r\nHost: a\r\n"
    sent = (b"", header, header + b"Content-Length: 100\r\n\r\n{")
    with ExitStack() as stack:
        waiting = [stack.enter_context(open_connection(server, sent[number % 3])) for number in range(72)]
        assert post(server, MOOD, {"instances": ["a"]})[0] == 200
        for connection in waiting:
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):  # until the server closes it
                    pass
    assert server.stderr_path.stat().st_size < 100_000


def test_a_body_that_does_not_come_is_408(server):
    header = b"POST /v1/models/mood:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
    with open_connection(server, header) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
