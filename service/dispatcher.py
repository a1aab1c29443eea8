"""The one thread that touches the device, and the few that decode images."""

import asyncio
import math
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from service.batching import Batch
from service.deadlines import Pace
from service.engine import SearchEngine
from service.errors import DeadlineError, QueueFullError, StuckError
from service.halving import Outcome
from service.jobs import CallJob, Found, SearchJob
from service.metrics import Metrics
from service.queries import Search
from service.queue import JobQueue
from service.settings import ServiceSettings

P = ParamSpec("P")
T = TypeVar("T")
Settled = tuple[asyncio.Future[Any], Outcome[Any]]

# A thread that wants the interpreter waits so long for it. Between two numpy calls of a search the
# device's thread wants it dozens of times: at the usual 5 ms a busy event loop would starve it.
SWITCH_SECONDS = 0.0005
TOO_LATE = "the search was not answered within its time"


class Dispatcher:
    """Runs jobs off the event loop: device work batch by batch, decoding side by side.

    GPU indexes of faiss are not safe for concurrent searches, and on a CPU two searches at
    once only wake each other's thread pools. While a batch runs the next one gathers: under
    load batches grow by themselves, and an idle device answers at once.
    """

    def __init__(
        self, engine: Callable[[], SearchEngine], settings: ServiceSettings, metrics: Metrics
    ) -> None:
        """Take where each batch's engine comes from; the running event loop gets the results."""
        self._engine, self._metrics, self._settings = engine, metrics, settings
        self._queue = JobQueue(settings.batch)
        self._pace = Pace()
        self._loop = asyncio.get_running_loop()
        self._decoders = ThreadPoolExecutor(settings.decode_threads, "meet-decode")
        self._decoding = 0
        self._busy_since: float | None = None
        sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))
        self._device = threading.Thread(target=self._work, name="meet-device", daemon=True)
        self._device.start()

    async def search(self, search: Search, *, urgent: bool = False) -> Found:
        """What the search finds, together with whatever else waits.

        Raises:
            QueueFullError: too much waits; an urgent search goes before it all.
            DeadlineError: the search's time is over.
        """
        job = SearchJob(search, self._loop.create_future())
        (self._queue.put_first if urgent else self._queue.put)(job)
        if search.deadline == math.inf:
            return await job.future
        # The loop's clock is the monotonic one.
        expiry = self._loop.call_at(search.deadline, _expire, job.future)
        try:
            return await job.future
        finally:
            expiry.cancel()

    async def search_all(self, searches: Sequence[Search]) -> list[Outcome[Found]]:
        """What each search finds, or why it fails; all of them wait at once, or none.

        Raises:
            QueueFullError: too much waits for so many more.
        """
        jobs = [SearchJob(search, self._loop.create_future()) for search in searches]
        self._queue.put_all(jobs)
        due = [job for job in jobs if job.search.deadline < math.inf]
        expiries = [self._loop.call_at(job.search.deadline, _expire, job.future) for job in due]
        try:
            return await asyncio.gather(*map(_outcome, jobs))
        finally:
            for expiry in expiries:
                expiry.cancel()

    def require_room(self, searches: int) -> None:
        """Check that so many more searches may wait.

        Raises:
            QueueFullError: too much waits already.
        """
        self._queue.require_room(searches)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, from the device's thread, before the searches that wait."""
        job = CallJob(lambda: call(*args, **kwargs), self._loop.create_future())
        self._queue.put_first(job)
        result: T = await job.future
        return result

    async def decode(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The job's result, from a decoding thread; for files and images.

        Raises:
            QueueFullError: as many of them wait as searches may.
        """
        if self._decoding >= (most := self._settings.batch.max_queue):
            raise QueueFullError(f"at most {most} images wait to be read, try again later")
        self._decoding += 1
        try:
            return await self._loop.run_in_executor(self._decoders, lambda: job(*args, **kwargs))
        finally:
            self._decoding -= 1

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._queue)

    def require_alive(self) -> None:
        """Check the device's thread.

        Raises:
            StuckError: it has ended, or works on one batch for longer than any takes.
        """
        since, most = self._busy_since, self._settings.stuck_seconds
        if not self._device.is_alive():
            raise StuckError("the device's thread has ended")
        if since is not None and monotonic() - since > most:
            raise StuckError(f"a batch takes at most {most:g} s, one has not ended by then")

    async def close(self) -> None:
        """Answer what was accepted; what the device holds on to for too long is left behind."""
        self._queue.close()
        await asyncio.to_thread(self._device.join, self._settings.shutdown_seconds)
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        while (taken := self._queue.take()) is not None:
            self._busy_since = monotonic()
            settled = self._call(taken) if isinstance(taken, CallJob) else self._batch(taken)
            self._busy_since = None
            self._settle(settled)

    def _call(self, job: CallJob) -> list[Settled]:
        if job.future.done():
            return []
        try:
            return [(job.future, job.call())]
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            return [(job.future, error)]

    def _batch(self, jobs: Sequence[SearchJob]) -> list[Settled]:
        began = monotonic()
        waits = [began - job.queued for job in jobs]
        self._metrics.batch(waits)
        outcomes = self._answer([job.search for job in jobs])
        return [
            (job.future, outcome if isinstance(outcome, Exception) else outcome.after(wait))
            for job, outcome, wait in zip(jobs, outcomes, waits, strict=True)
        ]

    def _answer(self, searches: Sequence[Search]) -> Sequence[Outcome[Found]]:
        try:
            return Batch(self._engine(), searches, self._pace, self._metrics.halved).answer()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            return [error] * len(searches)

    def _settle(self, settled: list[Settled]) -> None:
        """Hand results to the event loop: one wake-up a batch."""
        try:
            self._loop.call_soon_threadsafe(_deliver, settled)
        except RuntimeError:
            return  # the loop was closed over a batch that took longer than the stop


def _deliver(settled: list[Settled]) -> None:
    for future, outcome in settled:
        if future.done():
            continue  # nobody waits any more
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


async def _outcome(job: SearchJob) -> Outcome[Found]:
    try:
        return await job.future
    except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
        return error


def _expire(future: asyncio.Future[Found]) -> None:
    if not future.done():
        future.set_exception(DeadlineError(TOO_LATE))
