"""Puts another version of the index in the place of the one served, or refuses it."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any, TypeVar

from model.artifact.store import VersionStore
from model.core.errors import ArtifactError, MeetError, VersionNotFoundError
from service.aside import aside
from service.dispatcher import STOPPING, Dispatcher
from service.engine import SearchEngine
from service.errors import (
    IndexBusyError,
    IndexReadOnlyError,
    IndexRefusedError,
    MissingModalityError,
    NotReadyError,
    OverloadedError,
    StoppingError,
)
from service.serving import Activation, Outcome, Serving
from service.settings import ServiceSettings
from service.warming import encode_first, touch

T = TypeVar("T")

log = logging.getLogger(__name__)


# How long requests that were there before a swap usually take to end.
FINISHING_SECONDS = 15.0


class Activator:
    """Activates one version at a time, beside the one that serves.

    A version is opened, verified and warmed on a thread of its own, then answers a probe on the
    device's; only after that do requests get it. Whatever is wrong with it, the old one serves on.
    """

    def __init__(
        self,
        serving: Serving,
        dispatcher: Dispatcher,
        settings: ServiceSettings,
        share: Callable[[SearchEngine], None],
    ) -> None:
        """`share` gives an engine what servers have in common before it is used."""
        self._serving, self._dispatcher, self._settings = serving, dispatcher, settings
        self._share, self._store = share, VersionStore(settings.index)
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def activate(self, version: str | None = None) -> Activation:
        """Serve a version, or the one that CURRENT names.

        A version that is named is verified in full and then published in CURRENT, as `meet-build
        activate` does it: servers that watch the same index follow. Where CURRENT cannot be
        written (a read-only mount) nothing changes: a version for this server alone would make
        servers differ and be gone with the next restart; `meet-build activate` publishes it from
        where the index can be written, and whoever watches follows.

        Goes on when the caller stops waiting.

        Raises:
            VersionNotFoundError: there is no version of this name.
            IndexRefusedError: the version cannot be served.
            IndexReadOnlyError: CURRENT cannot be written.
            IndexBusyError: another process is writing to the index.
            NotReadyError: the version's probe took too long.
            OverloadedError: the device has no memory for it now, or the service stops.
        """
        self._require_open()
        return await asyncio.shield(self._start(self._counted(version)))

    async def close(self) -> None:
        """Begin nothing more, and leave what is not done yet."""
        self.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        """Let no version take the place of another any more."""
        self._stopping = True

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even where nobody waits

    async def _counted(self, version: str | None) -> Activation:
        """One activation at a time, logged and counted."""
        async with self._turn:
            began, previous = perf_counter(), self._serving.engine.version
            try:
                await (self._follow() if version is None else self._publish(version))
            except StoppingError:
                raise
            except OSError as error:
                self._note_refusal(version, previous, str(error))
                raise IndexRefusedError(str(error)) from error
            except MeetError as error:
                self._note_refusal(version, previous, str(error))
                raise
            now = self._serving.engine.version
            done = Activation(now, previous, perf_counter() - began)
        self._serving.outcomes[done.outcome] += 1
        if done.outcome is Outcome.ACTIVATED:
            log.info("index version %s serves in place of %s", done.version, done.previous)
        return done

    def _note_refusal(self, version: str | None, serving: str, reason: str) -> None:
        """One line and a count; and let go of what was opened in vain.

        The reason is words: an error that a log handler keeps would keep the version open.
        """
        self._serving.outcomes[Outcome.REFUSED] += 1
        named = version or "of CURRENT"
        log.warning("index version %s refused, %s serves on: %s", named, serving, reason)
        self._start(_collect(lambda: True))

    async def _follow(self) -> None:
        """Serve what CURRENT names."""
        try:
            wanted = await aside(self._store.require)
        except VersionNotFoundError as error:
            raise IndexRefusedError(str(error)) from error
        if wanted != self._serving.engine.version:
            self._swap(await self._ready(wanted, whole=False))

    async def _publish(self, version: str) -> None:
        """Serve a version by name, once CURRENT names it."""
        await aside(self._store.require, version)
        if version == self._serving.engine.version == self._store.current():
            return
        with self._writing():
            ready = await self._ready(version, whole=True)
            self._require_open()
            self._point_to(version)
            self._swap(ready)

    def _swap(self, ready: SearchEngine) -> None:
        self._require_open()
        replaced = self._serving.engine
        self._serving.replace(ready)
        another, still = replaced.encoder is not ready.encoder, weakref.ref(replaced)
        self._start(_collect(lambda: another or still() is not None))

    async def _ready(self, version: str, *, whole: bool) -> SearchEngine:
        """The engine of a version, after it answered a probe.

        Raises:
            IndexRefusedError: something is wrong with the version, whatever it is.
            NotReadyError: its probe took too long.
            OverloadedError: the device has no memory for it now, or the service stops.
        """
        try:
            engine = await aside(self._open, version, whole)
            await self._probe(engine)
        except (NotReadyError, OverloadedError):
            raise
        except Exception as error:
            raise IndexRefusedError(f"version {version}: {_reason(error)}") from error
        return engine

    def _open(self, version: str, whole: bool) -> SearchEngine:
        """Open a version, reading all of it where `whole` says so or nobody has before."""
        if whole:
            self._store.verify(version)
        loaded, settings = self._serving.engine.encoder, self._settings
        engine = SearchEngine.open(settings.index, version, device=settings.device, loaded=loaded)
        if engine.encoder is not loaded:
            encode_first(engine.encoder)
        touch(engine.artifact)
        self._share(engine)
        return engine

    async def _probe(self, engine: SearchEngine) -> None:
        """Ask what readiness asks, in the same time."""
        self._require_open()
        seconds = self._settings.probe_seconds
        try:
            async with asyncio.timeout(seconds):
                found = await self._dispatcher.search(engine.probe(), engine, urgent=True)
        except TimeoutError as error:
            raise NotReadyError(f"a probe takes at most {seconds:g} s, it took longer") from error
        if not len(found.ranking.rows):
            raise MissingModalityError("the probe query found nothing")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the index as `meet-build` does."""
        with ExitStack() as held:
            try:
                held.enter_context(self._store.lock())
            except OSError as error:
                raise self._read_only(error) from error
            except ArtifactError as error:
                raise IndexBusyError(str(error)) from error
            yield

    def _point_to(self, version: str) -> None:
        try:
            self._store.point_to(version)
        except OSError as error:
            raise self._read_only(error) from error

    def _read_only(self, error: OSError) -> IndexReadOnlyError:
        return IndexReadOnlyError(
            f"{self._store.layout.current} needs to be writable, got: {error.strerror}; publish "
            "with meet-build activate where it is, servers that watch the index follow"
        )

    def _require_open(self) -> None:
        if self._stopping:
            raise StoppingError(STOPPING)


async def _collect(needed: Callable[[], bool]) -> None:
    """Free, a while later, what ended without freeing itself.

    An engine is free of cycles, but not every error is that a request or an activation ended with,
    and models are not. A collection stops all threads for a moment: none is made where there is
    nothing to free.
    """
    await asyncio.sleep(FINISHING_SECONDS)
    if needed():
        await aside(gc.collect)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MeetError) else f"{type(error).__name__}: {error}"
