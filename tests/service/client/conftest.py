import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import TypeVar, Unpack

import pytest
import uvicorn

from service.app import create_app
from service.client import AsyncMeetClient, Call, ClientOptions, MeetClient
from service.engine import SearchEngine
from service.settings import ServiceSettings

START_SECONDS = 20.0
T = TypeVar("T")


class Style(StrEnum):
    """How a client is used."""

    BLOCKING = "blocking"
    AWAITED = "awaited"

    def ask(self, url: str, call: Call[T], **options: Unpack[ClientOptions]) -> T:
        """What a client of this kind, told these options, gives for one call."""
        if self is Style.BLOCKING:
            with MeetClient(url, **options) as client:
                return client.ask(call)

        async def awaited() -> T:
            async with AsyncMeetClient(url, **options) as client:
                return await client.ask(call)

        return asyncio.run(awaited())


@pytest.fixture(params=list(Style))
def style(request: pytest.FixtureRequest) -> Style:
    chosen: Style = request.param
    return chosen


@pytest.fixture(scope="session")
def url(engine: SearchEngine) -> Iterator[str]:
    """A server of the whole gallery on a free port."""
    settings = ServiceSettings(index=engine.artifact.root)
    config = uvicorn.Config(
        create_app(settings, engine), lifespan="on", log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until = time.monotonic() + START_SECONDS
        while not server.started:
            assert thread.is_alive(), "the server ended before it was up"
            assert time.monotonic() < until, "the server did not come up in time"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
