"""Where lines of the log leave: those of one moment together, warnings at once."""

import asyncio
import logging
from typing import TextIO

from service import notes

SECONDS = 0.05


class LineWriter(logging.StreamHandler[TextIO]):
    """Writes what the event loop logs some time within `SECONDS`, and all else at once, in order.

    To write a line means to give the interpreter away and to wait for it again: a line for each
    request would cost a busy server a tenth of its throughput. Lines are made when they leave, so
    that no request waits for its own. A process that is killed loses what it was about to write,
    one that ends does not.
    """

    def __init__(self, stream: TextIO) -> None:
        """Take where lines go."""
        super().__init__(stream)
        self._records: list[logging.LogRecord] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # that is going to write

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record, with the request that it is about, and write it if it may not wait."""
        record.request_id = notes.current().request_id
        self._records.append(record)
        if record.levelno > logging.INFO or not self._waits():
            self.flush()

    def flush(self) -> None:
        """Write the lines of all records that are kept."""
        self.acquire()
        records, self._records, self._loop = self._records, [], None
        try:
            self.stream.write("".join(map(self._line, records)))
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads any more, or the stream is closed
            if records:
                self.handleError(records[-1])
        finally:
            self.release()

    def _line(self, record: logging.LogRecord) -> str:
        """The line with its end; nothing but a word on stderr for what makes none."""
        try:
            return self.format(record) + self.terminator
        except Exception:  # noqa: BLE001 - as every handler: a line must not break what it is about
            self.handleError(record)
            return ""

    def _waits(self) -> bool:
        """Whether an event loop is going to write; the one of this thread, if there is none yet."""
        if self._loop is not None and not self._loop.is_closed():
            return True
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self._loop.call_later(SECONDS, self.flush)
        return True
