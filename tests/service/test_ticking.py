"""What one timer looks at: what is old enough, again and again, until it is let go."""

import asyncio

import pytest

from service.ticking import Ticker

pytestmark = pytest.mark.anyio
SECONDS = 0.02


async def test_only_what_stays_is_looked_at_until_it_is_let_go() -> None:
    looked: list[str] = []
    seen = asyncio.Event()

    def look(item: str) -> None:
        looked.append(item)
        if looked.count(item) == 3:
            ticker.discard(item)
            seen.set()

    ticker = Ticker(SECONDS, look)
    ticker.add("gone")
    ticker.add("stays")
    ticker.discard("gone")
    ticker.discard("never there")
    await asyncio.wait_for(seen.wait(), 20)
    assert looked == ["stays"] * 3
    await asyncio.sleep(3 * SECONDS)
    assert looked == ["stays"] * 3
    seen.clear()
    ticker.add("again")
    await asyncio.wait_for(seen.wait(), 20)
    assert looked[3:] == ["again"] * 3


async def test_nothing_is_looked_at_before_its_time() -> None:
    loop, looked = asyncio.get_running_loop(), asyncio.Event()
    ticker: Ticker[str] = Ticker(SECONDS, lambda _: looked.set())
    ticker.add("first")  # so that the second comes between two ticks
    await asyncio.sleep(SECONDS / 2)
    looked.clear()
    began = loop.time()
    ticker.add("second")
    ticker.discard("first")
    await asyncio.wait_for(looked.wait(), 20)
    assert loop.time() - began >= SECONDS - 0.001


async def test_what_cannot_be_looked_at_harms_no_other() -> None:
    loop, looked = asyncio.get_running_loop(), asyncio.Event()
    told: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))

    def look(item: str) -> None:
        if item == "bad":
            raise ValueError("broken")
        if told:
            looked.set()

    ticker = Ticker(SECONDS, look)
    for item in ("good", "bad"):
        ticker.add(item)
    await asyncio.wait_for(looked.wait(), 20)
    await asyncio.sleep(3 * SECONDS)
    assert told == ["'bad' could not be looked at"]


def test_a_loop_that_was_closed_is_followed_by_the_next() -> None:
    looked: list[str] = []
    ticker = Ticker(SECONDS, looked.append)

    async def add(item: str, seconds: float) -> None:
        ticker.add(item)
        await asyncio.sleep(seconds)

    asyncio.run(add("first", 0))
    asyncio.run(add("second", 10 * SECONDS))
    assert {"first", "second"} <= set(looked)
