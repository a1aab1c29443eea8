"""Searches that come together begin together: a batch waits for those that are on their way.

The device's thread has to win the interpreter back after every numpy call that gives it away,
and a busy event loop gives it up for moments only: side by side both take half as long again as
one after the other. So a batch begins once the loop has nothing more to hand in. Where the
encoder is needed it begins at once: that computes for long without the interpreter.
"""

import asyncio
from collections.abc import Sequence

from service.queries import Search
from service.queue import JobQueue

# Of the event loop, from a request's first byte to its search in the queue: one turn reads it,
# the next begins its task, and a body that comes in a packet of its own takes one more.
QUIET_TURNS = 3


class Gathering:
    """Keeps a queue's searches together until the event loop has been quiet; for its thread."""

    def __init__(self, queue: JobQueue, loop: asyncio.AbstractEventLoop) -> None:
        self._queue, self._loop = queue, loop
        self._left = 0  # turns without another search until the batch begins

    def joined(self, searches: Sequence[Search]) -> None:
        """Let searches that are about to be queued wait for others, or end the wait of all."""
        if any(search.encodes for search in searches):
            self._queue.begin()
            return
        if not self._left:
            self._loop.call_soon(self._turn)
        self._left = QUIET_TURNS
        self._queue.gather()

    def _turn(self) -> None:
        self._left -= 1
        if self._left:
            self._loop.call_soon(self._turn)
        else:
            self._queue.begin()
