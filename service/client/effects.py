"""What a call does to the world, each thing in a blocking and an awaiting way, and nothing else.

The rest of the client is written once, as coroutines that await effects: `run` performs them one
after the other in the caller's thread, `arun` in the caller's event loop.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx

T = TypeVar("T")


class Effect(ABC, Generic[T]):
    """One thing to do; awaited inside a call, its result comes back from whoever runs the call."""

    def __await__(self) -> Generator["Effect[T]", T, T]:
        return (yield self)

    @abstractmethod
    def now(self, http: httpx.Client, /) -> T:
        """Do it and come back."""

    @abstractmethod
    async def soon(self, http: httpx.AsyncClient, /) -> T:
        """Do it without holding up the event loop."""


@dataclass(frozen=True)
class Send(Effect[httpx.Response]):
    """Send one request and read the whole response."""

    method: str
    path: str
    content: dict[str, Any] = field(default_factory=dict)  # as `httpx.Client.request` takes it

    def now(self, http: httpx.Client, /) -> httpx.Response:
        """The response."""
        return http.request(self.method, self.path, **self.content)

    async def soon(self, http: httpx.AsyncClient, /) -> httpx.Response:
        """The response."""
        return await http.request(self.method, self.path, **self.content)


@dataclass(frozen=True)
class Pause(Effect[None]):
    """Wait."""

    seconds: float

    def now(self, _: httpx.Client, /) -> None:
        """Hold the thread up."""
        time.sleep(self.seconds)

    async def soon(self, _: httpx.AsyncClient, /) -> None:
        """Let others run."""
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class ReadFile(Effect[bytes]):
    """Read a file."""

    path: Path

    def now(self, _: httpx.Client, /) -> bytes:
        """Its bytes."""
        return self.path.read_bytes()

    async def soon(self, _: httpx.AsyncClient, /) -> bytes:
        """Its bytes."""
        return await asyncio.to_thread(self.path.read_bytes)


def run(call: Coroutine[Effect[Any], Any, T], http: httpx.Client) -> T:
    """The call's result; its effects happen in this thread."""
    try:
        effect = call.send(None)
        while True:
            try:
                value = effect.now(http)
            except (httpx.RequestError, OSError) as error:
                effect = call.throw(error)
            else:
                effect = call.send(value)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        call.close()


async def arun(call: Coroutine[Effect[Any], Any, T], http: httpx.AsyncClient) -> T:
    """The call's result; its effects happen in this event loop."""
    try:
        effect = call.send(None)
        while True:
            try:
                value = await effect.soon(http)
            except (httpx.RequestError, OSError) as error:
                effect = call.throw(error)
            else:
                effect = call.send(value)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        call.close()
