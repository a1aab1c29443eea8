"""HTTP/1.1 on a connection: uvicorn's own, with a bound on how long a request's head may take."""

import asyncio
import sys
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import StoppingError
from service.headers import encoded, security_headers
from service.patience import CUT_OFF
from service.problems import MEDIA_TYPE, Kind, http_kind, kind_of
from service.schemas import Problem

HEAD_BYTES = 65_536
LINGER_SECONDS = 2.0
LARGE_HEAD = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class JoinedHead(h11.Connection):
    """Holds an answer's head back until its body begins, so that both leave in one packet.

    Each packet is a call of the system that wakes the caller up.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEAD_BYTES)
        self._head: list[bytes] = []

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        """The parts to send now."""
        parts = super().send_with_data_passthrough(event)
        if isinstance(event, h11.Response):
            self._head = parts or []
            return []
        head, self._head = self._head, []
        return parts if parts is None else head + parts


class PatientProtocol(H11Protocol):
    """Closes a connection on which a request has begun and its head does not end.

    A connection without any byte of a request is waited for as long, too; between two requests
    uvicorn's own keep-alive time counts.
    """

    header_seconds = 10.0
    refused: Callable[[str], None] = staticmethod(lambda _: None)  # is told a problem's code

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self.conn = JoinedHead()
        self._head_timer: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Let the head's time go on from its first byte until it is whole."""
        if self._refused:
            return  # what is still being sent is not looked at
        super().data_received(data)
        # What an answer did not wait for is still being sent: uvicorn's timer ends with each part.
        unread = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        waits = unread or self.conn.their_state is h11.IDLE
        if waits and not self.transport.is_closing():
            self._await_head()
        else:
            self._stop_waiting()

    @property
    def busy(self) -> bool:
        """Whether a request is under way whose answer is not out."""
        return self.cycle is not None and not self.cycle.response_complete

    def cut_off(self) -> None:
        """End a request that there is no time for any more; what has begun is broken off."""
        self.cycle.disconnected = True  # whatever its route still sends is dropped
        cast("dict[str, Any]", self.cycle.scope)[CUT_OFF] = True
        if self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(kind_of(StoppingError), "the service stops, this request took too long")

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """A problem document for what is no HTTP; nothing can follow on this connection."""
        error = sys.exception()  # the parser's, which this is called for
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == LARGE_HEAD:
            rule = f"a request's head takes at most {HEAD_BYTES} bytes, got more"
            self._refuse(http_kind(LARGE_HEAD), rule)
        else:
            self._refuse(http_kind(HTTPStatus.BAD_REQUEST), msg)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.header_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            rule = f"a request's head needs to arrive within {self.header_seconds:g} s"
            self._refuse(http_kind(HTTPStatus.REQUEST_TIMEOUT), rule)

    def _refuse(self, kind: Kind, detail: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer is out already
            return
        request_id, status = uuid.uuid4().hex, HTTPStatus(kind.status)
        content = _problem(kind, detail, request_id)
        self.refused(kind.code)
        headers = [
            *encoded(security_headers(shared=False)),
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
        ]
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        for event in (response, h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        if status is not LARGE_HEAD:
            self.transport.close()
            return
        # Closed while its head is still on the way, a caller would lose the answer with it.
        self._refused = True
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


def patient(header_seconds: float, refused: Callable[[str], None]) -> type[PatientProtocol]:
    """The protocol with this bound; `refused` is told the code of every problem it sends."""
    own = {"header_seconds": header_seconds, "refused": staticmethod(refused)}
    return type("Protocol", (PatientProtocol,), own)


def _problem(kind: Kind, detail: str, request_id: str) -> bytes:
    problem = Problem(
        type=f"urn:meet:problem:{kind.code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance="",
        code=kind.code,
        request_id=request_id,
    )
    return problem.model_dump_json(exclude_none=True).encode()
