"""How long a caller is waited for, and noticing that one has gone."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import SlowBodyError

HUNG_UP = "hung_up"  # in the scope of a request whose caller has gone
# Most answers are there sooner: they cost no task that watches the connection.
WATCH_AFTER_SECONDS = 0.05


class Patience:
    """Bounds the time in which a body arrives, and cancels a request whose caller hung up."""

    def __init__(self, app: ASGIApp, body_seconds: float) -> None:
        self.app = app
        self.body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a `receive` that raises inside the route when the time is over."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = _Caller(receive, send, self.body_seconds)
        try:
            await self.app(scope, caller.receive, caller.send)
        except asyncio.CancelledError:
            if not caller.gone:
                raise
            caller.request.uncancel()
            scope[HUNG_UP] = True
        finally:
            caller.unwatch()


class _Caller:
    """One caller: the body is received in time; behind it only a hang-up can come."""

    def __init__(self, receive: Receive, send: Send, seconds: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request needs a task to be answered in")
        self.request = task
        self.gone = False
        self._receive, self._send, self._seconds = receive, send, seconds
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + seconds
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """The next part of the body.

        Raises:
            SlowBodyError: it has not arrived in time.
        """
        if self._timer is not None:
            self.unwatch()
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            raise SlowBodyError(f"a body needs to arrive within {self._seconds:g} s") from error
        if not message.get("more_body", False):
            self._timer = self._loop.call_later(WATCH_AFTER_SECONDS, self._start)
        return message

    async def send(self, message: Message) -> None:
        """Pass on; an answer that has begun is not cancelled."""
        self.unwatch()
        await self._send(message)

    def unwatch(self) -> None:
        """Stop waiting for a hang-up."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _start(self) -> None:
        self._watch = self._loop.create_task(self._wait_for_hang_up())

    async def _wait_for_hang_up(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            self.request.cancel()
