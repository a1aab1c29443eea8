"""Requests that wait for the device at the same time, and encoders with faults."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx

from model.core.errors import TextRejectedError
from model.core.types import FloatArray, InputKind
from model.encoders.protocols import TextEncoder
from service.engine import SearchEngine
from service.routes.dependencies import Parts

T2I, I2T = "/search/text-to-image", "/search/image-to-text"
Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
POISON = "one poisoned word"


def parts_of(client: httpx.AsyncClient) -> Parts:
    """What the client's app holds."""
    parts: Parts = client._transport.app.state.parts  # type: ignore[attr-defined]
    return parts


def text_search(**body: object) -> Ask:
    return lambda client: client.post(T2I, json=body)


def texts(queries: Sequence[str]) -> list[Ask]:
    return [text_search(query=query) for query in queries]


@asynccontextmanager
async def busy(client: httpx.AsyncClient) -> AsyncIterator[None]:
    """While this lasts the device is at work, so what is asked gathers in the queue."""
    release = threading.Event()
    blocking = asyncio.create_task(parts_of(client).dispatcher.run(release.wait, 20))
    await asyncio.sleep(0.01)
    try:
        yield
    finally:
        release.set()
        await blocking


async def until(met: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return once this is so."""
    async with asyncio.timeout(seconds):
        while not met():  # noqa: ASYNC110 - what is asked lives in another thread
            await asyncio.sleep(0.005)


async def together(client: httpx.AsyncClient, asked: Sequence[Ask]) -> list[httpx.Response]:
    """The answers of requests that wait for the device at the same time."""
    async with busy(client):
        tasks = [asyncio.create_task(send(client, ask)) for ask in asked]
        await until(lambda: parts_of(client).dispatcher.waiting == len(asked))
    return list(await asyncio.gather(*tasks))


async def send(client: httpx.AsyncClient, ask: Ask) -> httpx.Response:
    return await ask(client)


@dataclass(frozen=True)
class FaultyTexts:
    """A text tower that refuses one text, and runs out of memory on more than `room`."""

    tower: TextEncoder
    room: int
    lacking: Exception
    sizes: list[int]

    @property
    def accepts(self) -> frozenset[InputKind]:
        return self.tower.accepts

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        self.sizes.append(len(texts))
        if POISON in texts:
            raise TextRejectedError("this text is poison")
        if len(texts) > self.room:
            raise self.lacking
        return self.tower.encode_texts(texts)


def faulty(
    engine: SearchEngine, room: int = 1000, lacking: Exception | None = None
) -> tuple[SearchEngine, list[int]]:
    """The engine with such a text tower, and where the sizes of its batches are noted."""
    assert engine.encoder.text is not None
    sizes: list[int] = []
    tower = FaultyTexts(engine.encoder.text, room, lacking or MemoryError(), sizes)
    encoder = replace(engine.encoder, text=tower)
    return SearchEngine(engine.artifact, encoder, engine.cascade), sizes
