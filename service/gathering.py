"""Searches that come together begin together: a batch waits for those that are on their way.

The device's thread has to win the interpreter back after every numpy call that gives it away,
and a busy event loop gives it up for moments only: side by side both take half as long again as
one after the other. So a batch begins once the loop has told all that was found, and has nothing
more to hand in. Encoders compute for long without the interpreter: what needs one begins at once.
"""

import asyncio

from service.queue import JobQueue

# Of the event loop, from a request's first byte to its search in the queue: one turn reads it,
# the next begins its task, and a body that comes in a packet of its own takes one more.
QUIET_TURNS = 3
MOST_TURNS = 16  # of a loop that is never quiet


class Gathering:
    """Keeps a queue's work back until the event loop has been quiet; for the loop's own thread."""

    def __init__(self, queue: JobQueue, loop: asyncio.AbstractEventLoop) -> None:
        self._queue, self._loop = queue, loop
        self._left = self._most = 0  # turns until the queue's work begins

    @property
    def quiet(self) -> bool:
        """Whether nothing has been handed in or told for some turns."""
        return not self._left

    def wait(self) -> None:
        """Wait for quiet turns from here on: there is something to hand in, or to tell."""
        if not self._left:
            self._most = MOST_TURNS
            self._loop.call_soon(self._turn)
        self._left = min(QUIET_TURNS, self._most)
        self._queue.gather()

    def _turn(self) -> None:
        self._most -= 1
        self._left -= 1
        if self._left:
            self._loop.call_soon(self._turn)
        else:
            self._queue.begin()
