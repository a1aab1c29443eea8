"""A stop over real sockets, in this process: whoever has connected is answered."""

import asyncio
import http.client
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from service.app import create_app
from service.cli import listen
from service.engine import SearchEngine
from service.server import Server
from service.settings import ServiceSettings
from tests.service.asking import until
from tests.service.conftest import LIMITS
from tests.service.test_logs import lines, logged

pytestmark = pytest.mark.anyio
BODY = b'{"query": "a bus"}'
HEAD = (
    b"POST /search/text-to-image HTTP/1.1\r\nhost: meet\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: meet\r\n\r\n"
CALLERS = 40


@dataclass(frozen=True)
class Stoppable:
    """A server whose stop is asked for, and what it logs."""

    server: Server
    listener: socket.socket
    address: tuple[str, int]
    log: list[str]

    def connected(self, sent: bytes = b"") -> socket.socket:
        """A caller; as long as the event loop does not turn, one that waits to be accepted."""
        caller = socket.create_connection(self.address, timeout=20)
        caller.sendall(sent)
        return caller

    async def stop(self) -> None:
        await self.server.shutdown([self.listener])


@asynccontextmanager
async def serving(engine: SearchEngine, **told: object) -> AsyncIterator[Stoppable]:
    quiet = {"port": 0, "limits": LIMITS, "watch_seconds": 0, "shadow_share": 0}
    settings = ServiceSettings.model_validate({"index": engine.artifact.root, **quiet, **told})
    with logged():
        listener = listen(settings)
        server = Server(create_app(settings, engine), settings, "")
        with logged() as stream:
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup([listener])
            log: list[str] = []
            yield Stoppable(server, listener, listener.getsockname(), log)
            written = lines(stream)
            assert not any("traceback" in one for one in written)
            log += [one["message"] for one in written if one["logger"] == "service.server"]


def answer(caller: socket.socket) -> tuple[int, dict[str, object], bool]:
    """Status and document of the one answer, and whether it says that it is the last."""
    with caller, http.client.HTTPResponse(caller) as response:
        response.begin()
        said = json.loads(response.read())
        last = response.headers["connection"] == "close" and caller.recv(1) == b""
        return response.status, said, last


async def test_whoever_waits_to_be_accepted_is_answered(engine: SearchEngine) -> None:
    async with serving(engine) as one:
        callers = [one.connected(HEAD % len(BODY) + BODY) for _ in range(CALLERS)]
        await one.stop()
        answers = [answer(caller) for caller in callers]
        with pytest.raises(ConnectionRefusedError):
            one.connected()
    assert [(status, last) for status, _, last in answers] == [(200, True)] * CALLERS
    assert all(said["hits"] for _, said, _ in answers)
    assert one.log == [
        "stopping: 0 requests under way, listening 0 s",
        f"stopped: {CALLERS} requests answered meanwhile, 0 cut off",
    ]


async def test_a_connection_that_was_used_before_is_answered_once_more(
    engine: SearchEngine,
) -> None:
    async with serving(engine) as one:
        caller = one.connected(HEALTH)
        await until(lambda: one.server.server_state.total_requests == 1)
        stop = asyncio.create_task(one.stop())
        await until(lambda: len(one.server.server_state.default_headers) > 0)
        caller.sendall(HEALTH)
        await stop
        with caller:
            received = b"".join(iter(lambda: caller.recv(65536), b""))
    _, first, last = received.split(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" not in first
    assert b"connection: close\r\n" in last
    assert last.endswith(b'{"status":"ok"}')


async def test_a_request_that_does_not_end_gets_a_problem_and_is_counted(
    engine: SearchEngine,
) -> None:
    async with serving(engine, shutdown_seconds=0) as one:
        caller = one.connected(HEAD % 100)
        await until(lambda: len(one.server.server_state.tasks) == 1)
        await one.stop()
        status, said, last = answer(caller)
    assert (status, said["code"], last) == (503, "stopping", True)
    assert re.fullmatch(r"[0-9a-f]{32}", str(said["request_id"]))
    assert one.log == [
        "stopping: 1 requests under way, listening 0 s",
        "stopped: 0 requests answered meanwhile, 1 cut off",
    ]
