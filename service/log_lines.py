"""Where lines of the log leave: those of one moment together, warnings at once."""

import asyncio
import logging
from typing import TextIO

SECONDS = 0.05


class LineWriter(logging.StreamHandler[TextIO]):
    """Writes what the event loop logs some time within `SECONDS`, and all else at once, in order.

    To write a line means to give the interpreter away and to wait for it again: a line for each
    request would cost a busy server a tenth of its throughput. A process that is killed loses
    what it was about to write, one that ends does not.
    """

    def __init__(self, stream: TextIO) -> None:
        """Take where lines go."""
        super().__init__(stream)
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # that is going to write

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's line, and write it if it should not wait."""
        try:
            self._lines.append(self.format(record) + self.terminator)
            if record.levelno > logging.INFO or not self._waits():
                self.flush()
        except Exception:  # noqa: BLE001 - as every handler: a line must not break what it is about
            self.handleError(record)

    def flush(self) -> None:
        """Write all lines that are kept."""
        self.acquire()
        try:
            lines, self._lines, self._loop = self._lines, [], None
            self.stream.write("".join(lines))
            self.stream.flush()
        finally:
            self.release()

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
