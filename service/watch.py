"""Follows CURRENT: what is published next to a running server gets served by it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import TypeAlias

from model.artifact.layout import RootLayout
from model.artifact.store import VersionStore
from model.core.errors import MeetError
from service.errors import NotReadyError, OverloadedError, StoppingError
from service.serving import Serving

Stamp: TypeAlias = tuple[int, int, int] | None  # inode, size, mtime in ns; None: no file
State: TypeAlias = tuple[Stamp, tuple[tuple[str, Stamp], ...]]

RETRY_SECONDS = 60.0

log = logging.getLogger(__name__)


class Watcher:
    """Looks at CURRENT every few seconds: one `stat`, and no more until it changes.

    What was refused is not tried again as it is. Then the version's files and the encoders are
    looked at as well: once something about them is different, it is. What there was no time or
    memory for is tried again after a while.
    """

    def __init__(
        self, serving: Serving, activate: Callable[[], Awaitable[object]], root: Path
    ) -> None:
        """`activate` serves what CURRENT names, or refuses it with a `MeetError`."""
        self._serving, self._activate = serving, activate
        self._store, self._layout = VersionStore(root), RootLayout(root)
        self._seen: State | None = None
        self._refused: str | None = None
        self._not_before = 0.0

    async def watch(self, seconds: float) -> None:
        """Look for ever, or until the service stops."""
        while True:
            try:
                await self.look()
            except StoppingError:
                return
            except OSError as error:  # a share that is away comes back
                log.warning("the index at %s cannot be watched: %s", self._layout.root, error)
            await asyncio.sleep(seconds)

    async def look(self) -> None:
        """Activate what CURRENT names, if it is news."""
        if monotonic() < self._not_before:
            return
        if await asyncio.to_thread(self._state, self._refused) == self._seen:
            return
        # What is seen before it is tried: a change in between is news the next time.
        wanted = await asyncio.to_thread(self._store.current)
        seen = await asyncio.to_thread(self._state, wanted)
        try:
            if wanted != self._serving.engine.version:
                await self._activate()
            self._seen, self._refused = (seen[0], ()), None
        except StoppingError:
            raise
        except (NotReadyError, OverloadedError):
            self._not_before = monotonic() + RETRY_SECONDS
        except MeetError:  # logged and counted where it was refused
            self._seen, self._refused = seen, wanted

    def _state(self, refused: str | None) -> State:
        """The stamp of CURRENT; of a version that was refused, those of its files as well."""
        layout, files = self._layout, []
        if refused is not None and refused in self._store.names():
            folders = (layout.version(refused).directory, layout.encoders)
            files = sorted(path for top in folders for path in (top, *top.rglob("*")))
        return _stamp(layout.current), tuple((str(path), _stamp(path)) for path in files)


def _stamp(path: Path) -> Stamp:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


@asynccontextmanager
async def watching(watcher: Watcher, seconds: float) -> AsyncIterator[None]:
    """Watch while this lasts; 0 seconds: not at all."""
    task = asyncio.create_task(watcher.watch(seconds)) if seconds else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
