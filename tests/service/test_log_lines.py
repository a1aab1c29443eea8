"""When lines of the log leave."""

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from service.log_lines import LineWriter


class Pages(io.StringIO):
    """A stream that counts how often it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes, self.written = 0, asyncio.Event()

    def write(self, text: str) -> int:
        self.writes += 1
        self.written.set()
        return super().write(text)


@pytest.fixture
def stream() -> Pages:
    return Pages()


@pytest.fixture
def log(stream: Pages) -> Iterator[logging.Logger]:
    logger = logging.Logger("lines", logging.INFO)
    logger.addHandler(LineWriter(stream))
    yield logger
    logger.handlers.clear()


def test_a_line_outside_of_an_event_loop_leaves_at_once(log: logging.Logger, stream: Pages) -> None:
    log.info("one")
    assert stream.getvalue() == "one\n"


def test_lines_of_one_moment_leave_together(log: logging.Logger, stream: Pages) -> None:
    async def talk() -> None:
        for word in ("one", "two", "three"):
            log.info(word)
        assert stream.writes == 0
        await stream.written.wait()

    asyncio.run(talk())
    assert (stream.getvalue(), stream.writes) == ("one\ntwo\nthree\n", 1)


def test_a_warning_takes_what_waits_with_it(log: logging.Logger, stream: Pages) -> None:
    async def talk() -> None:
        log.info("one")
        log.warning("two")
        assert (stream.getvalue(), stream.writes) == ("one\ntwo\n", 1)
        stream.written.clear()
        log.info("three")
        assert stream.writes == 1
        await asyncio.to_thread(log.info, "four")  # another thread's goes behind
        await stream.written.wait()

    asyncio.run(talk())
    assert stream.getvalue() == "one\ntwo\nthree\nfour\n"


def test_a_loop_that_ended_holds_nothing_back(log: logging.Logger, stream: Pages) -> None:
    async def talk() -> None:
        log.info("one")

    asyncio.run(talk())
    assert stream.getvalue() == ""
    log.info("two")
    assert stream.getvalue() == "one\ntwo\n"
    asyncio.run(talk())
    log.handlers[0].flush()  # as `logging` does when a process ends
    assert stream.getvalue() == "one\ntwo\none\n"


def test_a_record_that_cannot_be_written_is_reported_and_left_out(
    log: logging.Logger, stream: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    log.info("%d", "no number")
    log.info("one")
    assert stream.getvalue() == "one\n"
    assert "no number" in capsys.readouterr().err


def test_a_stream_that_nobody_reads_breaks_nothing(
    log: logging.Logger, stream: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    stream.close()
    log.info("one")
    assert "I/O operation on closed file" in capsys.readouterr().err
