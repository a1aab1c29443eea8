"""The bounded queue before a device's thread, with a lane that load cannot fill."""

import threading
from collections import deque
from time import monotonic

from service.errors import QueueFullError
from service.jobs import CallJob, Job, SearchJob
from service.settings import Batching


class JobQueue:
    """Searches in the order they came, at most `max_queue`; urgent jobs go before all of them.

    Filled by the event loop, emptied by one thread.
    """

    def __init__(self, settings: Batching) -> None:
        self._settings = settings
        self._urgent: deque[Job] = deque()
        self._searches: deque[SearchJob] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._urgent) + len(self._searches)

    def put(self, job: SearchJob) -> None:
        """Let a search wait for its turn.

        Raises:
            QueueFullError: as many searches wait as may.
        """
        with self._changed:
            if len(self._searches) >= self._settings.max_queue:
                raise QueueFullError(
                    f"at most {self._settings.max_queue} searches wait at once, try again later"
                )
            self._searches.append(job)
            self._changed.notify()

    def put_first(self, job: Job) -> None:
        """Let a job of the service's own go before all searches, however many wait."""
        with self._changed:
            self._urgent.append(job)
            self._changed.notify()

    def close(self) -> None:
        """What is queued is still handed out; then `take` gives nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self) -> CallJob | list[SearchJob] | None:
        """A call, or the searches of the next batch, as soon as there is one; None at the end.

        A batch takes what is there; only where `max_wait_ms` says so it waits for company.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self))
            if self._urgent:
                job = self._urgent.popleft()
                return job if isinstance(job, CallJob) else [job]
            if not self._searches:
                return None
            self._await_company()
            count = min(len(self._searches), self._settings.max_batch)
            return [self._searches.popleft() for _ in range(count)]

    def _await_company(self) -> None:
        until = self._searches[0].queued + self._settings.max_wait_ms / 1000
        while len(self._searches) < self._settings.max_batch and not self._urgent:
            left = until - monotonic()
            if self._closed or left <= 0:
                return
            self._changed.wait(left)
