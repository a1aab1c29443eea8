"""How long a caller is waited for, and noticing that one has gone."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import SlowBodyError
from service.ticking import Ticker

HUNG_UP = "hung_up"  # in the scope of a request whose caller has gone
CUT_OFF = "cut_off"  # in that of one which a stopping server answers in the route's place
# Most answers are there sooner: they cost no task that watches the connection.
LOOK_SECONDS = 0.05


class Patience:
    """Bounds the time in which a body arrives, and cancels a request whose caller hung up."""

    def __init__(self, app: ASGIApp, body_seconds: float) -> None:
        self.app = app
        self.body_seconds = body_seconds
        self.ticker: Ticker[_Caller] = Ticker(LOOK_SECONDS, _Caller.look)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a `receive` that raises inside the route when the time is over."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = _Caller(receive, send, self.body_seconds, self.ticker)
        try:
            await self.app(scope, caller.receive, caller.send)
        except asyncio.CancelledError:
            if not caller.gone and CUT_OFF not in scope:
                raise
            caller.request.uncancel()
            if caller.gone:
                scope[HUNG_UP] = True
        finally:
            caller.unwatch()


class _Caller:
    """One caller: the body is received in time; behind it only a hang-up can come."""

    def __init__(
        self, receive: Receive, send: Send, seconds: float, ticker: "Ticker[_Caller]"
    ) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request needs a task to be answered in")
        self.request = task
        self.gone = False
        self._receive, self._send, self._seconds = receive, send, seconds
        self._ticker = ticker
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + seconds
        self._whole = self._receiving = self._late = self._looked_at = False
        self._watch: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """The next part of the body.

        Raises:
            SlowBodyError: it has not arrived in time.
        """
        if self._whole:
            self.unwatch()
            return await self._receive()
        if not self._looked_at:
            self._looked_at = True
            self._ticker.add(self)
        self._receiving = True
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._late:
                raise
            self.request.uncancel()
            raise SlowBodyError(f"a body needs to arrive within {self._seconds:g} s") from None
        finally:
            self._receiving = False
        self._whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on; an answer that has begun is not cancelled."""
        self.unwatch()
        await self._send(message)

    def unwatch(self) -> None:
        """Stop waiting for a hang-up."""
        self._ticker.discard(self)
        if self._watch is not None:
            self._watch.cancel()

    def look(self) -> None:
        """Watch the connection behind a whole body; end the wait for one that is late."""
        if self._whole:
            self._ticker.discard(self)
            self._watch = self._loop.create_task(self._wait_for_hang_up())
        elif self._receiving and self._loop.time() >= self._until:
            self._ticker.discard(self)
            self._late = True
            self.request.cancel()

    async def _wait_for_hang_up(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            self.request.cancel()
