"""A server on loopback that says what a test wrote down, and remembers what it was asked."""

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = {"content-type": "application/json"}
ANSWER = {
    "index_version": "v1",
    "direction": "text-to-image",
    "rerank": "none",
    "degraded": [],
    "hits": [{"id": "one", "rank": 0, "score": 0.5, "metadata": {}}],
    "milliseconds": {"total": 1.0},
}
# As long as any test lets a client wait for an answer that does not come.
SLOW_SECONDS = 1.0


class Trouble(Enum):
    """What a connection ends with instead of an answer."""

    DROPPED = "closed without a word"
    RESET = "reset"
    CUT = "closed in the middle of the answer"
    SLOW = "no answer in time"


@dataclass(frozen=True)
class Reply:
    """One answer as it goes over the wire."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    body: bytes = json.dumps(ANSWER).encode()


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    moment: float


class Stub(ThreadingHTTPServer):
    """Says its script line by line, then goes on with good answers."""

    daemon_threads = True

    def __init__(self, script: tuple[Reply | Trouble, ...]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = list(script)
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers, body, time.monotonic()))
        line = self.server.script.pop(0) if self.server.script else Reply()
        if isinstance(line, Trouble):
            self.fail(line)
        else:
            self.say(line, len(line.body))

    do_GET = do_POST = do_DELETE = answer  # noqa: N815

    def say(self, reply: Reply, length: int) -> None:
        self.send_response_only(reply.status)
        for name, value in {"content-length": str(length), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def fail(self, trouble: Trouble) -> None:
        self.close_connection = True
        match trouble:
            case Trouble.RESET:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
            case Trouble.CUT:
                self.say(Reply(), 10 * len(Reply().body))
            case Trouble.SLOW:
                time.sleep(SLOW_SECONDS)
            case Trouble.DROPPED:
                pass

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is its own."""


@contextmanager
def stubbed(*script: Reply | Trouble) -> Iterator[Stub]:
    """A running stub."""
    with Stub(script) as stub:
        thread = threading.Thread(target=stub.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield stub
        finally:
            stub.shutdown()
            thread.join()
