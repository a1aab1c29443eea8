import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from benchmarks.admission import (
    QUIET,
    Figures,
    Part,
    limits,
    main,
    measure,
    require_limit,
    table,
    waits,
)
from benchmarks.serving import Load
from model.core.errors import MeetError
from service.settings import unknown_variables

PARTS = (limits("redis://localhost"), waits())
REQUEST = b"POST /search/text-to-image HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


@contextmanager
def answering(seconds: float = 0.0, limit: str = "") -> Iterator[httpx.URL]:
    """A server that answers everything, each after so long."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(seconds)
            self.send_response(200)
            self.send_header("content-length", "2")
            if limit:
                self.send_header("RateLimit-Limit", limit)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield httpx.URL(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_slower_server_is_told_from_a_quick_one() -> None:
    load = Load(clients=4, alone=5, seconds=0.2, rounds=2)
    with answering() as quick, answering(0.05) as slow:
        found = measure({"quick": quick, "slow": slow}, [REQUEST], load)
    assert found["slow"].milliseconds >= 50  # it sleeps so long
    assert found["slow"].milliseconds > found["quick"].milliseconds
    assert found["slow"].per_second < found["quick"].per_second


def test_figures_stand_beside_the_server_that_differs_in_the_limit_alone() -> None:
    part = PARTS[0]
    figures = (Figures(2.0, 400.0), Figures(2.5, 300.0), Figures(4.0, 200.0), Figures(5.0, 50.0))
    _, _, *rows, last = table(part, dict(zip(part.variables, figures, strict=True)), 8)
    assert last == ""
    assert rows == [
        "| no limit | 2.000 | +0.000 | 1.00 | 400 | 1.00 |",
        "| limit | 2.500 | +0.500 | 1.25 | 300 | 0.75 |",
        "| Redis, no limit | 4.000 | +2.000 | 2.00 | 200 | 0.50 |",
        "| Redis, limit | 5.000 | +1.000 | 1.25 | 50 | 0.25 |",
    ]


def test_a_server_without_the_limit_that_it_should_have_is_named() -> None:
    part = PARTS[0]
    with answering() as free, answering(limit="9") as limited:
        good = dict(zip(part.variables, (free, limited, free, limited), strict=True))
        require_limit(good, {}, part)
        with pytest.raises(MeetError, match="'limit' should have a limit"):
            require_limit({**good, "limit": free}, {}, part)
        with pytest.raises(MeetError, match="'no limit' should not have a limit"):
            require_limit({**good, "no limit": limited}, {}, part)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title)
def test_servers_are_told_what_settings_know(part: Part) -> None:
    names = {name for told in part.variables.values() for name in told}
    assert unknown_variables({*QUIET, *names}) == []
    assert set(part.beside) == set(part.variables)


def test_without_a_redis_server_it_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["--index", "nowhere"]) == 2
    assert "redis-server" in capsys.readouterr().err
