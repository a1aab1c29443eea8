"""Half-sent requests and a stop, over real sockets."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.settings import ServiceSettings
from tests.service.conftest import Launcher, Running
from tests.service.test_server import WAIT_SECONDS

HEADER_SECONDS, BODY_SECONDS, DRAIN_SECONDS = 0.6, 0.4, 3.0
HEAD = (
    b"POST /search/text-to-image HTTP/1.1\r\nhost: meet\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


@pytest.fixture(scope="module")
def server(launcher: Launcher, index_root: Path) -> Running:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEET_HEADER_SECONDS", str(HEADER_SECONDS))
        patch.setenv("MEET_BODY_SECONDS", str(BODY_SECONDS))
        patch.setenv("MEET_DRAIN_SECONDS", str(DRAIN_SECONDS))
        starting = launcher.start(index_root)
    return starting.ready()


@pytest.fixture
def caller(server: Running) -> Iterator[socket.socket]:
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 80), timeout=WAIT_SECONDS) as opened:
        yield opened


def rest(caller: socket.socket) -> tuple[bytes, dict[str, object]]:
    """The status line of the one answer that ends the connection, and its document."""
    received = b""
    while part := caller.recv(65536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"content-type: application/problem+json" in head.lower()
    document: dict[str, object] = json.loads(body)
    return head.split(b"\r\n")[0], document


def healthy(caller: socket.socket) -> bool:
    """Whether the server says so on this connection, which stays open."""
    caller.sendall(b"GET /healthz HTTP/1.1\r\nhost: meet\r\n\r\n")
    response = http.client.HTTPResponse(caller)
    response.begin()
    response.read()
    return response.status == 200


@pytest.mark.parametrize("sent", [b"", b"POST /search/text-to-image HT", HEAD[:-8]])
def test_a_head_that_does_not_end_closes_the_connection(caller: socket.socket, sent: bytes) -> None:
    caller.sendall(sent)
    status, document = rest(caller)
    assert status == b"HTTP/1.1 408 Request Timeout"
    assert document["code"] == "request_timeout"
    assert "0.6 s" in str(document["detail"])


def test_a_head_that_drips_is_not_waited_for_longer(caller: socket.socket) -> None:
    caller.settimeout(0.05)
    received = b""
    for position in range(400):  # of 50 ms or more each: a time from the last byte never ends
        caller.sendall(HEAD[position % 20 : position % 20 + 1])
        try:
            received = caller.recv(1000)
            break
        except TimeoutError:
            continue
    assert received.startswith(b"HTTP/1.1 408 ")


def test_the_second_head_of_a_connection_has_its_time_too(caller: socket.socket) -> None:
    assert healthy(caller)
    time.sleep(2 * HEADER_SECONDS)  # between requests the keep-alive time counts
    assert healthy(caller)
    caller.sendall(b"GET /hea")
    assert rest(caller)[0] == b"HTTP/1.1 408 Request Timeout"


def test_a_body_that_does_not_end_closes_the_connection(caller: socket.socket) -> None:
    caller.sendall(HEAD % 100 + b'{"query": ')
    status, document = rest(caller)
    assert status == b"HTTP/1.1 408 Request Timeout"
    assert document["code"] == "slow_body"


@pytest.mark.parametrize("rest_of_it", [b"x", b"ZZZ\r\n"])
def test_a_body_that_no_answer_waits_for_holds_no_connection_open(
    caller: socket.socket, rest_of_it: bytes
) -> None:
    framing = b"content-length: 20000" if rest_of_it == b"x" else b"transfer-encoding: chunked"
    caller.sendall(b"POST /nowhere HTTP/1.1\r\nhost: meet\r\n" + framing + b"\r\n\r\n")
    response = http.client.HTTPResponse(caller)
    response.begin()
    assert (response.status, json.loads(response.read())["code"]) == (404, "not_found")
    caller.sendall(rest_of_it)
    caller.settimeout(WAIT_SECONDS)
    assert caller.recv(1) == b""


def test_a_body_with_two_framings_is_refused_and_nothing_behind_it_is_read(
    caller: socket.socket,
) -> None:
    hidden = b"GET /healthz HTTP/1.1\r\nhost: meet\r\n\r\n"
    both = HEAD.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n")
    caller.sendall(both % (5 + len(hidden)) + b"0\r\n\r\n" + hidden)
    status, document = rest(caller)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert "got both" in str(document["detail"])


def test_what_is_no_http_is_a_problem(caller: socket.socket) -> None:
    caller.sendall(b"\x16\x03\x01\x02\x00\x01\x00 no request\r\n\r\n")
    status, document = rest(caller)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert document["code"] == "bad_request"


def test_a_caller_who_hangs_up_is_counted_and_harms_nobody(server: Running) -> None:
    url = httpx.URL(server.url)
    body = b'{"query": "a bus"}'
    for _ in range(20):
        with socket.create_connection((url.host, url.port or 80)) as caller:
            caller.sendall(HEAD % len(body) + body)
    response = httpx.post(f"{server.url}/search/text-to-image", json={"query": "a bus"})
    assert response.status_code == 200


@pytest.mark.parametrize("size", [200_000, 4_000_000])
def test_a_head_that_is_too_long_is_told_its_limit(caller: socket.socket, size: int) -> None:
    caller.sendall(b"GET /index HTTP/1.1\r\nhost: meet\r\nx-long: " + b"a" * size)
    status, document = rest(caller)
    assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert document["code"] == "request_header_fields_too_large"
    assert document["detail"] == "a request's head takes at most 65536 bytes, got more"


@pytest.mark.parametrize("path", ["/index", "/items/photo-07/image", "/nowhere"])
def test_no_body_follows_the_head_that_was_asked_for(caller: socket.socket, path: str) -> None:
    caller.sendall(f"HEAD {path} HTTP/1.1\r\nhost: meet\r\n\r\n".encode())
    response = http.client.HTTPResponse(caller, method="HEAD")
    response.begin()
    assert int(response.headers["content-length"]) > 0
    assert healthy(caller)  # what comes next is the next answer


def test_a_stop_drains(server: Running) -> None:
    """Not ready at once, yet everything that is asked before the end is answered."""
    with httpx.Client(timeout=WAIT_SECONDS) as client:
        assert client.get(f"{server.url}/readyz").status_code == 200
        server.process.terminate()
        while client.get(f"{server.url}/readyz").status_code == 200:
            assert server.process.poll() is None
    assert [answered(server) for _ in range(5)] == [200] * 5
    assert server.process.wait(WAIT_SECONDS) == 0


def answered(server: Running) -> int:
    """The status of a search on a connection of its own."""
    url = httpx.URL(server.url)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=WAIT_SECONDS)
    headers = {"content-type": "application/json"}
    connection.request("POST", "/search/text-to-image", b'{"query": "a bus"}', headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_bad_patience_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADER_SECONDS", "BODY_SECONDS", "STUCK_SECONDS"):
        with monkeypatch.context() as patch:
            patch.setenv(f"MEET_{name}", "0")
            with pytest.raises(ValueError, match=name.lower()):
                ServiceSettings(index=Path("somewhere"))
