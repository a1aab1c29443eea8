"""How long a caller is waited for, and noticing that one has gone."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import SlowBodyError

HUNG_UP = "hung_up"  # in the scope of a request whose caller has gone
CUT_OFF = "cut_off"  # in that of one which a stopping server answers in the route's place
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
            if not caller.gone and CUT_OFF not in scope:
                raise
            caller.request.uncancel()
            if caller.gone:
                scope[HUNG_UP] = True
        finally:
            caller.unwatch()


class _Caller:
    """One caller: the body is received in time; behind it only a hang-up can come.

    One timer serves both: most bodies are there at once, and most answers before it looks.
    """

    def __init__(self, receive: Receive, send: Send, seconds: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request needs a task to be answered in")
        self.request = task
        self.gone = False
        self._receive, self._send, self._seconds = receive, send, seconds
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + seconds
        self._whole = self._receiving = self._late = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """The next part of the body.

        Raises:
            SlowBodyError: it has not arrived in time.
        """
        if self._whole:
            self.unwatch()
            return await self._receive()
        if self._timer is None:
            self._look_later()
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
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _look_later(self) -> None:
        """Look when a whole body has waited for a while, or when its time is over."""
        left = self._until - self._loop.time()
        seconds = min(WATCH_AFTER_SECONDS, left) if left > 0 else WATCH_AFTER_SECONDS
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        if self._whole:
            self._watch = self._loop.create_task(self._wait_for_hang_up())
        elif self._receiving and self._loop.time() >= self._until:
            self._late = True
            self.request.cancel()
        else:
            self._look_later()

    async def _wait_for_hang_up(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            self.request.cancel()
