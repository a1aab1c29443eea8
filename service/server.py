"""The process's server: it says where it is once it answers, and drains before it stops."""

import asyncio
import socket
import sys

import uvicorn
from fastapi import FastAPI

from service import logs
from service.protocol import HEAD_BYTES, patient
from service.settings import ServiceSettings


class Server(uvicorn.Server):
    """Serves one app until a signal; then it is not ready, goes on a while, and ends.

    While it drains it still listens: whoever sends requests needs time to see that it is not
    ready any more.
    """

    def __init__(self, app: FastAPI, settings: ServiceSettings, words: str) -> None:
        """Take the app, what it was told, and what to say once it answers."""
        logs.install(settings.log_format, settings.log_level)
        super().__init__(_config(app, settings))
        self._app, self._seconds, self._words = app, settings.drain_seconds, words

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            await asyncio.to_thread(_say, self._words)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be unready, then stop listening, answer what was accepted, and end."""
        self._app.state.parts.drain()
        await asyncio.sleep(self._seconds)
        await super().shutdown(sockets)


def _config(app: FastAPI, settings: ServiceSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=patient(settings.header_seconds, app.state.metrics.problem),
        h11_max_incomplete_event_size=HEAD_BYTES,
        lifespan="on",
        log_level="warning",
        log_config=None,
        # Uvicorn trusts proxies of its own machine unless told otherwise.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )


def _say(words: str) -> None:
    sys.stdout.write(words)
    sys.stdout.flush()
