"""The device, which one thread at a time touches, and the few threads that decode images."""

import asyncio
import math
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic, perf_counter
from typing import Any, NamedTuple, ParamSpec, TypeVar

from service.at_once import QuickSearches
from service.batching import Batch
from service.deadlines import Pace
from service.engine import SearchEngine
from service.errors import DeadlineError, QueueFullError, StoppingError, StuckError
from service.gathering import Gathering
from service.grouping import in_groups
from service.halving import Outcome
from service.jobs import CallJob, Found, IdleJob, SearchJob, Steps
from service.metrics import Metrics
from service.queries import Search
from service.queue import JobQueue
from service.settings import ServiceSettings
from service.shadow import Shadows
from service.ticking import Ticker

P = ParamSpec("P")
T = TypeVar("T")
Settled = tuple[asyncio.Future[Any], Outcome[Any]]

# A thread that wants the interpreter waits so long for it. Between two numpy calls of a search the
# device's thread wants it dozens of times: at the usual 5 ms a busy event loop would starve it.
SWITCH_SECONDS = 0.0005
CROWDED_SECONDS = 0.05  # for so long after two searches met, batches are to be expected
SOON_SECONDS = 0.5  # a deadline that is no farther off has a timer of its own, which is exact
TOO_LATE = "the search was not answered within its time"
STOPPING = "the service is stopping, ask another one"


class _Wait(NamedTuple):
    """Until when a future is waited for, on the monotonic clock, which is the event loop's too."""

    deadline: float
    future: asyncio.Future[Found]

    @property
    def ends_soon(self) -> bool:
        """Whether it is worth a timer."""
        return self.deadline - monotonic() < SOON_SECONDS


class Dispatcher:
    """Runs jobs off the event loop: device work batch by batch, decoding side by side.

    GPU indexes of faiss are not safe for concurrent searches, and on a CPU two searches at
    once only wake each other's thread pools. While a batch runs the next one gathers: under
    load batches grow by themselves, and an idle device answers as soon as no more searches come;
    one that is alone and quick is answered without a change of threads.
    """

    def __init__(
        self, settings: ServiceSettings, metrics: Metrics, shadows: Shadows | None = None
    ) -> None:
        """Take who repeats a share of the searches; the running event loop gets the results."""
        self._settings, self._metrics, self._shadows = settings, metrics, shadows
        self._loop = asyncio.get_running_loop()
        self._queue = JobQueue(settings.batch)
        self._gathering = Gathering(self._queue, self._loop)
        self._waits: Ticker[_Wait] = Ticker(SOON_SECONDS / 2, self._look)
        self._pace, self._quick = Pace(), QuickSearches()
        self._decoders = ThreadPoolExecutor(settings.decode_threads, "meet-decode")
        self._decoding = 0
        self._busy_since: float | None = None
        self._free = threading.Lock()  # held by whoever touches the device
        self._under_way = 0  # searches that wait or are worked on, and their answers not yet told
        self._met = -math.inf  # when a search last came while another was under way
        sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))
        self._device = threading.Thread(target=self._work, name="meet-device", daemon=True)
        self._device.start()

    async def search(self, search: Search, engine: SearchEngine, *, urgent: bool = False) -> Found:
        """What the engine finds for the search, together with whatever else waits.

        The engine is named by whoever has checked the request against it, so that one that
        takes its place meanwhile answers later requests and not this one.

        Raises:
            QueueFullError: too much waits; an urgent search goes before it all.
            DeadlineError: the search's time is over.
        """
        future: asyncio.Future[Found] = self._loop.create_future()
        job = SearchJob(search, engine, future, urgent)
        if urgent:
            self._queue.put_first(job)
        elif not self._answered_at_once(job):
            self._gathering.wait()
            self._queue.put(job)
        del job, engine  # a failure's frames would else keep the engine open
        if future.done():
            return future.result()
        end = self._expiring(_Wait(search.deadline, future))
        self._under_way += 1
        try:
            return await future
        finally:
            self._under_way -= 1
            end()

    async def search_all(
        self, searches: Sequence[Search], engine: SearchEngine
    ) -> list[Outcome[Found]]:
        """What each search finds, or why it fails; all of them wait at once, or none.

        Raises:
            QueueFullError: too much waits for so many more.
        """
        if not searches:
            return []
        jobs = [SearchJob(search, engine, self._loop.create_future()) for search in searches]
        self._gathering.wait()
        self._queue.put_all(jobs)
        ends = [self._expiring(_Wait(job.search.deadline, job.future)) for job in jobs]
        self._under_way += len(jobs)
        try:
            return await asyncio.gather(*map(_outcome, jobs))
        finally:
            self._under_way -= len(jobs)
            for end in ends:
                end()

    def _answered_at_once(self, job: SearchJob) -> bool:
        """Answer a quick search if it is alone; whether it was.

        The device stays taken until the next turn of the loop: what comes in this one gathers.
        """
        if self._under_way:
            self._met = job.queued
        crowded = job.queued - self._met < CROWDED_SECONDS
        alone = not crowded and self._gathering.quiet and self._queue.at_rest
        if not alone or not self._quick.include(job.search, job.engine):
            return False
        if not self._free.acquire(blocking=False):
            return False
        self._loop.call_soon(self._free.release)
        self._loop.call_soon(self._batch([job], _tell))
        return True

    def _expiring(self, wait: _Wait) -> Callable[[], None]:
        """Answer whoever waits for too long; what is given back ends that."""
        if wait.ends_soon:
            return self._loop.call_at(wait.deadline, _expire, wait.future).cancel
        self._waits.add(wait)
        return partial(self._waits.discard, wait)

    def _look(self, wait: _Wait) -> None:
        if wait.ends_soon:
            self._waits.discard(wait)
            self._loop.call_at(wait.deadline, _expire, wait.future)

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

    async def idle(self, steps: Steps) -> Any:  # noqa: ANN401 - whatever the steps return
        """What the steps return, each done while nothing else waits for the device.

        Raises:
            StoppingError: the service stops first.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put_idle(IdleJob(steps, future))
        return await future

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
        self._deliver([settled for job in self._queue.close() for settled in _dropped(job)])
        await asyncio.to_thread(self._device.join, self._settings.shutdown_seconds)
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Whether there was anything; what it held on to is let go before the next is waited for.

        A batch in a variable would keep an engine open that nobody uses any more.
        """
        taken = self._queue.take()
        if taken is None:
            return False
        self._busy_since = monotonic()
        with self._free:
            match taken:
                case CallJob():
                    self._settle(self._call(taken))
                case IdleJob():
                    self._settle(self._step(taken))
                case _:
                    self._batch(taken, self._settle)()
        return True

    def _call(self, job: CallJob) -> list[Settled]:
        if job.future.done():
            return []
        try:
            return [(job.future, job.call())]
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            return [(job.future, error)]

    def _step(self, job: IdleJob) -> list[Settled]:
        """One step of idle work, which goes on when its turn comes again."""
        if not job.wanted:
            return []
        try:
            next(job.steps)
        except StopIteration as end:
            return [] if job.future is None else [(job.future, end.value)]
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            return [] if job.future is None else [(job.future, error)]
        try:
            self._queue.put_idle(job)
        except StoppingError:
            return _dropped(job)
        return []

    def _batch(
        self, jobs: Sequence[SearchJob], tell: Callable[[list[Settled]], None]
    ) -> Callable[[], None]:
        """Answer searches; what is left to do is to count them."""
        began = monotonic()
        waits = [began - job.queued for job in jobs]
        now, size = perf_counter(), len(jobs)
        outcomes = self._answer(jobs)
        seconds = perf_counter() - now
        tell(
            [
                (one.future, found if isinstance(found, Exception) else found.after(queued, size))
                for one, found, queued in zip(
                    jobs, outcomes, ((now - wait, now) for wait in waits), strict=True
                )
            ]
        )
        return partial(self._count, jobs, outcomes, waits, seconds)

    def _count(
        self,
        jobs: Sequence[SearchJob],
        outcomes: Sequence[Outcome[Found]],
        waits: Sequence[float],
        seconds: float,
    ) -> None:
        """Count a batch that took so long, and repeat a share of its searches."""
        self._metrics.batch(waits)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Exception):
                continue
            if len(jobs) == 1 and not outcome.degraded:
                self._quick.note(job.search, job.engine, seconds)
            if not job.urgent:
                self._shadow(job.search, outcome)

    def _answer(self, jobs: Sequence[SearchJob]) -> list[Outcome[Found]]:
        """Each job's outcome. Right after a swap the jobs of one batch may have two engines."""
        return in_groups(jobs, lambda job: job.engine, self._found)

    def _found(self, engine: SearchEngine, jobs: Sequence[SearchJob]) -> Sequence[Outcome[Found]]:
        searches = [job.search for job in jobs]
        try:
            return Batch(engine, searches, self._pace, self._metrics.halved).answer()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            return [error] * len(searches)

    def _shadow(self, search: Search, found: Found) -> None:
        """Repeat the search when there is time, if it is one of the share."""
        steps = self._shadows and self._shadows.sampled(search.direction, found)
        if self._shadows and steps and not self._queue.offer_idle(IdleJob(steps)):
            self._shadows.ended()

    def _settle(self, settled: list[Settled]) -> None:
        """Hand what a turn gave to the event loop in one wake-up; the device is free again."""
        self._busy_since = None
        if not settled:
            return
        self._queue.gather()
        try:
            self._loop.call_soon_threadsafe(self._deliver, settled)
        except RuntimeError:
            return  # the loop was closed over a batch that took longer than the stop

    def _deliver(self, settled: list[Settled]) -> None:
        """On the event loop: tell whoever still waits, before the device goes on."""
        self._gathering.wait()
        _tell(settled)


def _tell(settled: Sequence[Settled]) -> None:
    for future, outcome in settled:
        if future.done():
            continue  # nobody waits any more
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _dropped(job: IdleJob) -> list[Settled]:
    return [] if job.future is None else [(job.future, StoppingError(STOPPING))]


async def _outcome(job: SearchJob) -> Outcome[Found]:
    try:
        return await job.future
    except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
        return error


def _expire(future: asyncio.Future[Found]) -> None:
    if not future.done():
        future.set_exception(DeadlineError(TOO_LATE))
