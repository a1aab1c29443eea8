"""`meet-serve`: open an index, then listen."""

import argparse
import faulthandler
import gc
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError

from model.core.command import BAD_INPUT, Parser
from model.core.errors import MeetError
from service.app import create_app
from service.engine import SearchEngine
from service.greeting import greeting
from service.release import installed_version
from service.server import Server
from service.settings import ServiceSettings, TracingSettings, unknown_variables
from service.tracing import provider_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def main(argv: Sequence[str] | None = None) -> int:
    """0 after a graceful stop, 2 with one sentence where there is nothing to serve."""
    _report_crashes()
    try:
        given = vars(_parser().parse_args(argv))
        settings = ServiceSettings(**{name: v for name, v in given.items() if v is not None})
        for name in unknown_variables():
            sys.stderr.write(f"meet-serve: {name} is no setting, and is not read\n")
        traces = provider_of(TracingSettings(), installed_version())
        server, listener = _server(settings, traces)
    except ValidationError as error:
        return _refuse(_settings_sentence(error))
    except (MeetError, OSError) as error:
        return _refuse(str(error))
    return _serve(server, listener, traces)


def _report_crashes() -> None:
    """Let a signal that kills the process leave a trace: a mapped file that was cut sends one."""
    if not faulthandler.is_enabled():
        faulthandler.enable()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="meet-serve",
        description="Serve an index over HTTP. Every flag can be given as MEET_<FLAG> as well.",
    )
    parser.add_argument("--index", type=Path, metavar="ROOT", help="what meet-build wrote")
    parser.add_argument("--device", help="cpu (default), cuda or cuda:n")
    parser.add_argument(
        "--redis-url", metavar="URL", help="shares lists and answers between servers"
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default 8000, 0: any free)")
    return parser


def listen(settings: ServiceSettings) -> socket.socket:
    """The listening socket, bound here so that a taken port is a sentence, too."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot listen on {settings.host}:{settings.port}: {reason}") from error
    # Inherited by every connection; asyncio sets it only on sockets that it made by itself. An
    # answer's second packet would else wait 40 ms for the acknowledgement of its first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _server(
    settings: ServiceSettings, traces: "TracerProvider | None"
) -> tuple[Server, socket.socket]:
    """The server and where it listens; the engine is the app's alone when this returns."""
    # What was imported stays. Each full collection would look at its 400,000 objects again, for
    # 0.2 s in which nothing is answered.
    gc.freeze()
    engine = SearchEngine.open(settings.index, device=settings.device)
    listener = listen(settings)
    words = greeting(engine, settings.host, int(listener.getsockname()[1]))
    return Server(create_app(settings, engine, traces), settings, words), listener


def _serve(server: Server, listener: socket.socket, traces: "TracerProvider | None") -> int:
    # Uvicorn takes these over while it runs, and raises what it caught again when it is done.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        server.run(sockets=[listener])
    finally:
        if traces is not None:
            traces.shutdown()  # what is left is sent
    return 0 if server.started else 1


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"meet-serve: {sentence}\n")
    return BAD_INPUT


def _settings_sentence(error: ValidationError) -> str:
    """The first broken setting; its value is left out, it may be a password."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in first["loc"]]
    name = f"MEET_{'__'.join(path)}".upper()
    if path[0] in vars(_parser().parse_args([])):  # others have no flag
        name = f"--{path[0].replace('_', '-')} or {name}"
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"


def _stop(*_: object) -> NoReturn:
    """Leave with 0: a stop that was asked for is no failure."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
