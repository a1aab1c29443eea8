"""The log of a server process: one record a line on stderr, as JSON or as text.

Whatever a record holds came from outside in part: nothing in it can begin a line of its own or
move a terminal's cursor.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO, assert_never

from pydantic_core import PydanticSerializationError, to_json

from service.log_lines import LineWriter
from service.settings import LogFormat, LogLevel

OWN = ("service", "model")  # the packages whose records the level is about
SERVER = "uvicorn"
INDENT = "    "
DELETE = "\x7f"


class JsonFormatter(logging.Formatter):
    """One JSON object a record, ASCII only."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        told: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if trace := _traceback(self, record):
            told["traceback"] = trace
        return _encoded(told)


class TextFormatter(logging.Formatter):
    """Time, level, logger and message, then the fields; a traceback is indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line or lines, without the last end."""
        head = f"{_time(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}"
        fields = [f"{name}={_shown(value)}" for name, value in _fields(record).items()]
        line = _escaped(" ".join([head, *fields]))
        trace = _traceback(self, record).splitlines()
        return "\n".join([line, *(INDENT + _escaped(one) for one in trace)])


def formatter(kind: LogFormat) -> logging.Formatter:
    """The formatter of a kind."""
    match kind:
        case LogFormat.JSON:
            return JsonFormatter()
        case LogFormat.TEXT:
            return TextFormatter()
        case _:
            assert_never(kind)


def install(kind: LogFormat, level: LogLevel, stream: TextIO | None = None) -> None:
    """Send every record of this process through one handler; foreign ones from warnings on."""
    handler = LineWriter(stream or sys.stderr)
    handler.setFormatter(formatter(kind))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    least = level.name
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[least]))
    for name in OWN:
        logging.getLogger(name).setLevel(least)
    server = logging.getLogger(SERVER)
    server.handlers.clear()
    server.propagate = True
    # What no line here says need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # the manual's own way to have no line of code looked up
    logging.captureWarnings(capture=True)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """What a record says beside its message; of what is empty, nothing."""
    given = getattr(record, "fields", None)
    fields = given if isinstance(given, dict) else {}
    told = {name: value for name, value in fields.items() if value not in (None, "")}
    if "request_id" not in told and (request_id := getattr(record, "request_id", "")):
        told["request_id"] = request_id
    return told


def _time(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{int(record.msecs):03}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _traceback(self: logging.Formatter, record: logging.LogRecord) -> str:
    return self.formatException(record.exc_info) if record.exc_info else ""


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else _encoded(value)


def _encoded(value: object) -> str:
    """JSON in printable ASCII; of what it has no form for, the words."""
    try:
        told = to_json(
            value, ensure_ascii=True, inf_nan_mode="constants", bytes_mode="base64", fallback=str
        ).decode("ascii")
    except PydanticSerializationError:  # half a surrogate pair, as in names of files
        told = json.dumps(value, default=str)
    return told.replace(DELETE, r"\u007f")  # ASCII, but not to be printed


def _escaped(line: str) -> str:
    """The line with whatever is not to be printed written out."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
