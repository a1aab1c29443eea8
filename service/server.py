"""The process's server: it says where it is once it answers, and drains before it stops."""

import asyncio
import logging
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from time import monotonic

import uvicorn
from fastapi import FastAPI

from service import logs
from service.protocol import PatientProtocol, patient
from service.settings import ServiceSettings

# How long whoever has connected may take to be accepted, and to ask.
SETTLE_SECONDS = 0.1
POLL_SECONDS = 0.02
CLOSE = (b"connection", b"close")

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """Serves one app until a signal; then it is not ready, goes on a while, and ends.

    While it drains it still listens: whoever sends requests needs time to see that it is not
    ready any more. Each answer ends its connection then, so that its caller goes elsewhere.
    """

    def __init__(self, app: FastAPI, settings: ServiceSettings, words: str) -> None:
        """Take the app, what it was told, and what to say once it answers."""
        logs.install(settings.log_format, settings.log_level)
        super().__init__(_config(app, settings))
        self._app, self._settings, self._words = app, settings, words

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            await asyncio.to_thread(_say, self._words)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be unready, then stop listening, answer whoever has connected, and end."""
        state, seconds = self.server_state, self._settings.drain_seconds
        self._app.state.parts.drain()
        state.default_headers = [*state.default_headers, CLOSE]
        before, under_way = state.total_requests, len(self._busy())
        log.info("stopping: %d requests under way, listening %g s", under_way, seconds)
        await asyncio.sleep(seconds)
        await self._stop_listening(sockets or ())
        cut = await self._finish()
        await super().shutdown(sockets)
        answered = state.total_requests - before
        log.info("stopped: %d requests answered meanwhile, %d cut off", answered, cut)

    async def _stop_listening(self, listeners: Sequence[socket.socket]) -> None:
        """Close the listeners when nobody waits to be accepted, and nobody accepted to be read.

        The system resets what waits at a listener that is closed, and a connection that is closed
        over what it has not read.
        """
        for one in listeners:
            one.listen(0)  # who comes now is told to try again
        await asyncio.sleep(SETTLE_SECONDS)
        last = [connection for one in listeners for connection in _waiting(one)]
        for server in self.servers:
            server.close()
        for connection in last:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(SETTLE_SECONDS)

    def _protocol(self) -> asyncio.Protocol:
        """What uvicorn makes for a connection that its own listener accepts."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def _finish(self) -> int:
        """Wait for all answers; what takes too long ends with a problem: how many requests."""
        for one in tuple(self.server_state.connections):
            one.shutdown()
        until = monotonic() + self._settings.shutdown_seconds
        # Nobody is told of the last answer's end.
        while (rest := self._busy()) and monotonic() < until and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        for one in rest:
            one.cut_off()
        for task in tuple(self.server_state.tasks) if rest else ():
            task.cancel()
        return len(rest)

    def _busy(self) -> list[PatientProtocol]:
        """Connections with a request that is not answered yet."""
        found = self.server_state.connections
        return [one for one in found if isinstance(one, PatientProtocol) and one.busy]


def _config(app: FastAPI, settings: ServiceSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=patient(settings.header_seconds, app.state.metrics.problem),
        lifespan="on",
        log_level="warning",
        log_config=None,
        # Uvicorn trusts proxies of its own machine unless told otherwise.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        access_log=False,
        server_header=False,
        # For what tasks do behind their answers; with 0 s uvicorn reports even none as cancelled.
        timeout_graceful_shutdown=max(1, settings.shutdown_seconds),
    )


def _waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """Connections that wait to be accepted."""
    with suppress(BlockingIOError, ConnectionError):
        while True:
            yield listener.accept()[0]


def _say(words: str) -> None:
    sys.stdout.write(words)
    sys.stdout.flush()
