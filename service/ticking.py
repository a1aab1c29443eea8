"""Looking again and again at what takes longer than most, with one timer for all of it."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ticker(Generic[Item]):
    """Looks at each item every so many seconds, first after one to two such times.

    Most items are gone by then: a timer of the event loop's own for each would cost a search more
    than its hits do. For the event loop's thread.
    """

    def __init__(self, seconds: float, look: Callable[[Item], None]) -> None:
        self._seconds, self._look = seconds, look
        self._new: set[Item] = set()
        self._old: set[Item] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # that has a timer

    def add(self, item: Item) -> None:
        """Look at the item from now on."""
        self._new.add(item)
        if self._loop is not asyncio.get_running_loop():
            self._wait()

    def discard(self, item: Item) -> None:
        """Look at it no more; one that was never added may be discarded, too."""
        self._new.discard(item)
        self._old.discard(item)

    def _tick(self) -> None:
        self._loop = None
        for item in tuple(self._old):
            self._look_at(item)
        self._old |= self._new
        self._new.clear()
        if self._old:
            self._wait()

    def _look_at(self, item: Item) -> None:
        """Look; what cannot be looked at harms no other, and is let go."""
        try:
            self._look(item)
        except Exception as error:  # noqa: BLE001 - told as that of any callback
            self.discard(item)
            told = {"message": f"{item!r} could not be looked at", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)

    def _wait(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(self._seconds, self._tick)
