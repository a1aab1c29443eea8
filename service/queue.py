"""The bounded queue before a device's thread, with a lane before it and one behind it."""

import threading
from collections import deque
from collections.abc import Sequence
from time import monotonic

from service.errors import QueueFullError, StoppingError
from service.jobs import CallJob, IdleJob, Job, SearchJob
from service.settings import Batching

MOST_IDLE = 8  # jobs that nobody asked for


class JobQueue:
    """Searches in the order they came, bounded; urgent jobs go before all of them.

    Idle jobs are handed out only where nothing else waits, in turns, and come back after a step.
    While more is on its way (`gather`) they wait, and searches too that need no encoder.

    Bounds are the number of searches, and the pixels of those that ask with an image: what one
    call asks may always wait alone. Filled by the event loop, emptied by one thread.
    """

    def __init__(self, settings: Batching) -> None:
        self._settings = settings
        self._urgent: deque[Job] = deque()
        self._searches: deque[SearchJob] = deque()
        self._idle: deque[IdleJob] = deque()
        self._pixels = self._encoding = 0  # of the searches that wait
        self._begun = 0  # searches at the head that are kept back no longer
        self._changed = threading.Condition()
        self._gathering = self._closed = False

    def __len__(self) -> int:
        """Jobs that wait, other than idle ones."""
        return len(self._urgent) + len(self._searches)

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits but idle jobs, and a search would not wait for company."""
        return not (self._closed or len(self) or self._settings.max_wait_ms)

    def put(self, job: SearchJob) -> None:
        """Let a search wait for its turn.

        Raises:
            QueueFullError: as many searches or pixels wait as may.
            StoppingError: the queue is closed.
        """
        self.put_all([job])

    def put_all(self, jobs: Sequence[SearchJob]) -> None:
        """Let searches wait for their turn, all of them or none; on their own they always may.

        Raises:
            QueueFullError: with them more searches or pixels would wait than may.
            StoppingError: the queue is closed.
        """
        with self._changed:
            self._require_open()
            pixels = sum(job.search.pixels for job in jobs)
            self.require_room(len(jobs), pixels)
            self._pixels += pixels
            self._encoding += sum(job.search.encodes for job in jobs)
            self._searches.extend(jobs)
            if self._due:
                self._changed.notify()

    def gather(self) -> None:
        """Keep work back until searches fill a batch, or `begin` is called."""
        self._gathering = True

    def begin(self) -> None:
        """Keep nothing back any longer."""
        if not self._gathering:
            return
        with self._changed:
            self._gathering = False
            self._begun = len(self._searches)  # even if more is on its way by the time of `take`
            if self.ready:
                self._changed.notify()

    def require_room(self, searches: int, own: int = 0) -> None:
        """Check that so many more searches, with so many pixels of their own, may wait.

        Raises:
            QueueFullError: they may not.
        """
        most, pixels = self._settings.max_queue, self._settings.max_queue_pixels
        if self._searches and len(self._searches) + searches > most:
            raise QueueFullError(f"at most {most} searches wait at once, try again later")
        if self._pixels and own and self._pixels + own > pixels:
            raise QueueFullError(f"images of at most {pixels} pixels wait at once, try again later")

    def put_first(self, job: Job) -> None:
        """Let a job of the service's own go before all searches, however many wait.

        Raises:
            StoppingError: the queue is closed.
        """
        with self._changed:
            self._require_open()
            self._urgent.append(job)
            self._changed.notify()

    def put_idle(self, job: IdleJob) -> None:
        """Let a job wait until there is nothing else to do.

        Raises:
            StoppingError: the queue is closed.
        """
        with self._changed:
            self._require_open()
            self._idle.append(job)
            self._changed.notify()

    def offer_idle(self, job: IdleJob) -> bool:
        """The same for a job that can be done without: False where there is too much to do.

        That is: as many wait as make a batch, or as many such jobs as may.
        """
        with self._changed:
            busy = len(self) >= self._settings.max_batch or len(self._idle) >= MOST_IDLE
            if self._closed or busy:
                return False
            self._idle.append(job)
            self._changed.notify()
            return True

    def close(self) -> list[IdleJob]:
        """What is queued is still handed out; then `take` gives nothing. Idle jobs are not."""
        with self._changed:
            self._closed = True
            dropped = list(self._idle)
            self._idle.clear()
            self._changed.notify()
        return dropped

    def take(self) -> CallJob | IdleJob | list[SearchJob] | None:
        """A call, the searches of the next batch, or an idle job; None at the end.

        A batch takes what is there; where `max_wait_ms` says so it waits for company. What
        nobody waits for any more is dropped on the way.
        """
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self.ready)
                if not self._urgent and self._due:
                    self._await_company()
                if self._urgent:
                    job = self._urgent.popleft()
                    return job if isinstance(job, CallJob) else [job]
                if self._due and (batch := self._batch()):
                    return batch
                if self._idle and not self._searches:
                    return self._idle.popleft()
                if self._closed and not self._searches:
                    return None

    @property
    def ready(self) -> bool:
        """Whether there is something to take, or never will be."""
        at_leisure = self._closed or (bool(self._idle) and not self._gathering)
        return bool(self._urgent) or self._due or (at_leisure and not self._searches)

    @property
    def _due(self) -> bool:
        """Whether a batch of searches can begin."""
        begins = self._closed or self._encoding or self._begun or not self._gathering
        most = min(self._settings.max_batch, self._settings.max_queue)
        return bool(self._searches) and (bool(begins) or len(self._searches) >= most)

    def _batch(self) -> list[SearchJob]:
        batch: list[SearchJob] = []
        while self._searches and len(batch) < self._settings.max_batch:
            job = self._searches.popleft()
            self._pixels -= job.search.pixels
            self._encoding -= job.search.encodes
            self._begun = max(0, self._begun - 1)
            if not job.future.done():
                batch.append(job)
        return batch

    def _require_open(self) -> None:
        if self._closed:
            raise StoppingError("the service is stopping, ask another one")

    def _await_company(self) -> None:
        until = self._searches[0].queued + self._settings.max_wait_ms / 1000
        while len(self._searches) < self._settings.max_batch and not self._urgent:
            left = until - monotonic()
            if self._closed or left <= 0:
                return
            self._changed.wait(left)
