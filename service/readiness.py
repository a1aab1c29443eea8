"""Whether this server should be sent requests: a real query says so."""

import asyncio
import logging

from model.core.errors import DigestMismatchError, MeetError
from service.dispatcher import Dispatcher
from service.errors import NotReadyError
from service.serving import Serving

log = logging.getLogger(__name__)


class Readiness:
    """Sends one probe at a time before all other searches; whoever asks meanwhile shares it."""

    def __init__(self, serving: Serving, dispatcher: Dispatcher, seconds: float) -> None:
        """Take what is probed, and how long an answer may take."""
        self._serving, self._dispatcher, self._seconds = serving, dispatcher, seconds
        self._probe: asyncio.Task[tuple[str, int]] | None = None
        self._draining, self._told = False, ""

    def drain(self) -> None:
        """Be ready no more: the server answers what comes, and is going to stop."""
        self._draining = True

    async def check(self) -> str:
        """The index version that answered.

        Raises:
            NotReadyError: the probe failed or took too long, a file of the version was written to,
                or the server is going to stop.
        """
        if self._draining:
            raise NotReadyError("the server is going to stop")
        try:
            version, count = await asyncio.wait_for(asyncio.shield(self._asked()), self._seconds)
        except TimeoutError as error:
            raise NotReadyError(
                f"a probe takes at most {self._seconds} s, it took longer"
            ) from error
        except DigestMismatchError as error:
            self._tell(str(error))
            raise NotReadyError(str(error)) from error
        except (MeetError, RuntimeError, ValueError, OSError) as error:
            raise NotReadyError(f"the probe query failed: {type(error).__name__}") from error
        if not count:
            raise NotReadyError("the probe query found nothing")
        return version

    def _tell(self, reason: str) -> None:
        """One line of the log, however often it is asked."""
        if reason != self._told:
            self._told = reason
            log.error("not ready: %s", reason)

    def _asked(self) -> asyncio.Task[tuple[str, int]]:
        """The probe under way, or a new one."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask())
            self._probe.add_done_callback(_read)
        return self._probe

    async def _ask(self) -> tuple[str, int]:
        """The version that answered, and how many hits it had.

        The files first: a search that meets the end of one that was cut kills the process.
        """
        engine = self._serving.engine
        await asyncio.to_thread(engine.artifact.require_unchanged)
        found = await self._dispatcher.search(engine.probe(), engine, urgent=True)
        return engine.version, len(found.ranking.rows)


def _read(probe: asyncio.Task[tuple[str, int]]) -> None:
    """Note that a failure was seen, even where everybody has stopped waiting."""
    if not probe.cancelled():
        probe.exception()
