"""Pure ASGI layers: the request's id, clock and headers, and the limit of its body."""

import itertools
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import notes
from service.errors import BodyTooLargeError, QueueFullError, StoppingError
from service.headers import encoded
from service.metrics import Metrics
from service.patience import CUT_OFF, HUNG_UP
from service.problems import http_kind, kind_of, problem_response
from service.request_log import RequestLog

REQUEST_ID = b"x-request-id"
_PLAIN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# Ids count up behind digits that are this process's own: to ask the system for 16 random bytes a
# request would mean to give the interpreter away, and to wait for it again.
_PROCESS, _COUNT = secrets.token_hex(12), itertools.count()
CLIENT_CLOSED = 499  # what proxies write down for a caller who did not wait for the answer
# A caller that is still sending reads no answer, so a body over the limit is thrown away up
# to this many times the limit before the answer goes out.
DRAINED_LIMITS = 3


class RequestScope:
    """Gives each request its id and notes, and each answer its headers; tells how it went."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        told: RequestLog,
        version: Callable[[], str],
        headers: Mapping[str, str],
    ) -> None:
        """Take who is told of answers, which index version is served, and what all answers say."""
        self.app = app
        self.metrics, self.told, self.version = metrics, told, version
        self.headers = encoded(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no HTTP request; time what is."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        noted = notes.Notes(_request_id(scope), index_version=self.version())
        notes.begin(noted)
        scope["request_id"] = noted.request_id
        status, begin = 500, time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (REQUEST_ID, noted.request_id.encode("ascii"))
                message["headers"] = [*message["headers"], own, *self.headers]
                if noted.headers:
                    message["headers"] += encoded(noted.headers)
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            if HUNG_UP in scope:
                status = CLIENT_CLOSED
            elif CUT_OFF in scope:
                status = kind_of(StoppingError).status
            spent = time.perf_counter() - begin
            self.metrics.request(scope, status, spent)
            self.told.answered(scope, noted, status, spent)


def _request_id(scope: Scope) -> str:
    """The caller's id where it is a plain one, else a new one."""
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
    return given.decode("ascii") if _PLAIN_ID.fullmatch(given) else f"{_PROCESS}{next(_COUNT):08x}"


class BodyLimit:
    """Refuses bodies over the limit, by their declared length or by counting what arrives."""

    def __init__(self, app: ASGIApp, max_bytes: int, max_together: int) -> None:
        """Take how many bytes one body may have, and all that are read or answered at once."""
        self.app = app
        self.max_bytes = max_bytes
        self.room = _Room(max_together)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a `receive` that raises inside the route, where handlers answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            await _refuse_framing(scope, receive, send)
            return
        declared = _declared_length(headers)
        counted = _CountedBody(receive, self.max_bytes, declared, self.room)
        try:
            await self.app(scope, counted, send)
        finally:
            self.room.taken -= counted.kept


async def _refuse_framing(scope: Scope, receive: Receive, send: Send) -> None:
    """What a proxy may read as one request and this server as two (RFC 9112, 6.3)."""
    rule = "a body is framed by `Content-Length` or by `Transfer-Encoding`, got both"
    close = {"connection": "close"}
    refusal = problem_response(Request(scope), http_kind(400), rule, headers=close)
    await refusal(scope, receive, send)


@dataclass
class _Room:
    """Bytes that all bodies together may take."""

    most: int
    taken: int = 0


class _CountedBody:
    """A `receive` that counts.

    Raises:
        BodyTooLargeError: the declared or the counted length is above the limit.
        QueueFullError: the bodies of all requests together are.
    """

    def __init__(self, receive: Receive, max_bytes: int, declared: int, room: _Room) -> None:
        self.receive = receive
        self.max_bytes = max_bytes
        self.declared = declared
        self.room = room
        self.count = 0
        self.kept = 0

    async def __call__(self) -> Message:
        message = await self.receive()
        self.count += (size := len(message.get("body", b"")))
        if max(self.declared, self.count) <= self.max_bytes:
            self._keep(size)
            return message
        await self._drain(message)
        got = f"{self.declared} bytes" if self.declared else f"more than {self.max_bytes}"
        raise BodyTooLargeError(f"a body takes at most {self.max_bytes} bytes, got {got}")

    def _keep(self, size: int) -> None:
        others = self.room.taken - self.kept
        if others and self.room.taken + size > self.room.most:
            raise QueueFullError(
                f"bodies of at most {self.room.most} bytes wait at once, try again later"
            )
        self.room.taken += size
        self.kept += size

    async def _drain(self, message: Message) -> None:
        most = DRAINED_LIMITS * self.max_bytes
        while message.get("more_body", False) and max(self.declared, self.count) <= most:
            message = await self.receive()
            self.count += len(message.get("body", b""))


def _declared_length(headers: Headers) -> int:
    declared = headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0
