"""The one thread that touches the device, and the few that decode images."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from service.batching import Batch, Outcome
from service.engine import SearchEngine
from service.jobs import CallJob, Found, SearchJob
from service.metrics import Metrics
from service.queries import Search
from service.queue import JobQueue
from service.settings import Batching

P = ParamSpec("P")
T = TypeVar("T")
Settled = tuple[asyncio.Future[Any], Outcome[Any]]


class Dispatcher:
    """Runs jobs off the event loop: device work batch by batch, decoding side by side.

    GPU indexes of faiss are not safe for concurrent searches, and on a CPU two searches at
    once only wake each other's thread pools. While a batch runs the next one gathers: under
    load batches grow by themselves, and an idle device answers at once.
    """

    def __init__(
        self,
        engine: Callable[[], SearchEngine],
        settings: Batching,
        metrics: Metrics,
        decode_threads: int,
    ) -> None:
        """Take where each batch's engine comes from; the running event loop gets the results."""
        self._engine, self._metrics = engine, metrics
        self._queue = JobQueue(settings)
        self._loop = asyncio.get_running_loop()
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="meet-decode")
        self._device = threading.Thread(target=self._work, name="meet-device", daemon=True)
        self._busy_since: float | None = None
        self._device.start()

    async def search(self, search: Search, *, urgent: bool = False) -> Found:
        """What the search finds, together with whatever else waits.

        Raises:
            QueueFullError: too many searches wait; an urgent one goes before them all.
        """
        job = SearchJob(search, self._loop.create_future())
        (self._queue.put_first if urgent else self._queue.put)(job)
        return await job.future

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, from the device's thread, before the searches that wait."""
        job = CallJob(lambda: call(*args, **kwargs), self._loop.create_future())
        self._queue.put_first(job)
        result: T = await job.future
        return result

    async def decode(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The job's result, from a decoding thread; for files and images."""
        return await self._loop.run_in_executor(self._decoders, lambda: job(*args, **kwargs))

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._queue)

    async def close(self) -> None:
        """Let everything end that was accepted."""
        self._queue.close()
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self._device.join()

    def _work(self) -> None:
        while (taken := self._queue.take()) is not None:
            self._busy_since = monotonic()
            self._settle(self._call(taken) if isinstance(taken, CallJob) else self._batch(taken))
            self._busy_since = None

    def _call(self, job: CallJob) -> list[Settled]:
        if job.future.done():
            return []
        try:
            return [(job.future, job.call())]
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            return [(job.future, error)]

    def _batch(self, taken: Sequence[SearchJob]) -> list[Settled]:
        jobs = [job for job in taken if not job.future.done()]
        if not jobs:
            return []
        began = monotonic()
        waits = [began - job.queued for job in jobs]
        self._metrics.batch(waits)
        outcomes = Batch(
            self._engine(), [job.search for job in jobs], self._metrics.halved
        ).answer()
        return [
            (job.future, outcome if isinstance(outcome, Exception) else outcome.after(wait))
            for job, outcome, wait in zip(jobs, outcomes, waits, strict=True)
        ]

    def _settle(self, settled: list[Settled]) -> None:
        """Hand results to the event loop: one wake-up a batch."""
        if settled:
            self._loop.call_soon_threadsafe(_deliver, settled)


def _deliver(settled: list[Settled]) -> None:
    for future, outcome in settled:
        if future.done():
            continue  # nobody waits any more
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
