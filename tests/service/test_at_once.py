"""Searches that are answered on the event loop: those that are alone, plain and quick."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.cascade import Cascade, SearchOptions
from model.core.types import Direction, RerankMode
from service.at_once import LATELY_SECONDS, QUICK_SECONDS, QuickSearches
from service.dispatcher import CROWDED_SECONDS
from service.engine import SearchEngine
from service.errors import DeadlineError
from service.jobs import CallJob
from service.queries import Search, VectorQuery
from service.settings import Batching
from tests.service.asking import T2I, busy, parts_of, send, text_search, together
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import problem
from tests.service.test_operations import metrics
from tests.service.world import DIM

pytestmark = pytest.mark.anyio
WAY = Direction.TEXT_TO_IMAGE
CROWDED = "service.dispatcher.CROWDED_SECONDS"
HERE, DEVICE = threading.main_thread().name, "meet-device"
VECTOR = {"vector": [1.0] + [0.5] * (DIM - 1)}


class Watched:
    """A client, and the threads that searched for it."""

    def __init__(self, client: httpx.AsyncClient, threads: list[str]) -> None:
        self.client, self._threads = client, threads

    async def ask(self, **body: object) -> dict[str, Any]:
        """The answer to a search that nothing has come before for a while."""
        await asyncio.sleep(2 * CROWDED_SECONDS)
        response = await self.client.post(T2I, json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def threads(self) -> list[str]:
        """Who searched since they were last asked for."""
        found = self._threads.copy()
        self._threads.clear()
        return found


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the thread that does each batch of searches; any machine is quick enough."""
    monkeypatch.setattr("service.at_once.QUICK_SECONDS", 60.0)
    seen: list[str] = []
    search = Cascade.search

    def watched(self: Cascade, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        seen.append(threading.current_thread().name)
        return search(self, *args, **kwargs)

    monkeypatch.setattr(Cascade, "search", watched)
    return seen


@pytest.fixture
async def watched(
    engine: SearchEngine, open_client: OpenClient, threads: list[str]
) -> AsyncIterator[Watched]:
    async with open_client(engine, probe_seconds=60) as client:
        found = Watched(client, threads)
        await found.ask(**VECTOR)
        found.threads()
        yield found


async def test_the_first_of_a_kind_is_the_device_s_the_next_is_answered_at_once(
    engine: SearchEngine, open_client: OpenClient, threads: list[str]
) -> None:
    async with open_client(engine, probe_seconds=60) as client:
        watched = Watched(client, threads)
        await watched.ask(query="a red dog")
        watched.threads()
        first, second = [await watched.ask(**VECTOR) for _ in range(2)]
        await asyncio.sleep(0)  # it is counted behind its answer
        samples = await metrics(client)
    assert watched.threads() == [DEVICE, HERE]
    assert first["hits"] == second["hits"]
    assert (samples["meet_batch_size_count",], samples["meet_batch_size_sum",]) == (3, 3)


@pytest.mark.parametrize(
    "body",
    [
        {"query": "a red dog"},
        {**VECTOR, "minus": "a dog"},
        {**VECTOR, "explain": True},
        {**VECTOR, "why_not": ["nothing"]},
        {**VECTOR, "filter": {"row": {"gte": 3}}},
        {**VECTOR, "collapse": 0},
        {**VECTOR, "min_score": 0.1},
        {**VECTOR, "candidates": 30},
        {**VECTOR, "k": 101},
        {**VECTOR, "k": 1, "offset": 100},
        {"queries": [VECTOR]},
    ],
    ids=str,
)
async def test_what_may_take_long_is_the_device_s(
    watched: Watched, body: dict[str, object]
) -> None:
    for _ in range(3):
        await watched.ask(**body)
    assert set(watched.threads()) == {DEVICE}


async def test_what_is_alone_has_the_answer_that_it_has_in_company(watched: Watched) -> None:
    bodies = [{"vector": [0.5] * row + [1.0] * (DIM - row)} for row in range(1, 6)]
    alone = [await watched.ask(**body) for body in bodies]
    assert watched.threads() == [HERE] * 5
    company = await together(watched.client, [text_search(**body) for body in bodies])
    assert set(watched.threads()) == {DEVICE}
    assert [one["hits"] for one in alone] == [one.json()["hits"] for one in company]


async def test_what_comes_together_shares_batches(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.sleep(2 * CROWDED_SECONDS)
    monkeypatch.setattr(CROWDED, 60.0)
    asked = [send(watched.client, text_search(**VECTOR)) for _ in range(8)]
    assert {one.status_code for one in await asyncio.gather(*asked)} == {200}
    assert watched.threads() == [HERE, DEVICE], "whoever was first, and all others at once"
    await watched.client.post(T2I, json=VECTOR)
    assert watched.threads() == [DEVICE], "others are to be expected for a while"
    monkeypatch.setattr(CROWDED, CROWDED_SECONDS)
    await watched.ask(**VECTOR)
    assert watched.threads() == [HERE]


async def test_a_batch_does_not_say_how_long_a_search_takes_alone(
    engine: SearchEngine, open_client: OpenClient, threads: list[str]
) -> None:
    async with open_client(engine, probe_seconds=60) as client:
        watched = Watched(client, threads)
        await together(client, [text_search(**VECTOR) for _ in range(3)])
        for _ in range(2):
            await watched.ask(**VECTOR)
    assert watched.threads()[-2:] == [DEVICE, HERE]


async def test_nobody_is_answered_at_once_while_the_device_is_at_work(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CROWDED, 60.0)
    async with busy(watched.client):
        asked = [asyncio.create_task(send(watched.client, text_search(**VECTOR))) for _ in "ab"]
        await asyncio.sleep(2 * CROWDED_SECONDS)
        assert watched.threads() == []
    assert {one.status_code for one in await asyncio.gather(*asked)} == {200}
    assert watched.threads() == [DEVICE]
    await watched.ask(**VECTOR)
    assert watched.threads() == [DEVICE], "the two have met"


async def test_the_device_s_thread_waits_for_what_is_answered_at_once(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, order = parts_of(watched.client).dispatcher._queue, list[str]()
    call = CallJob(lambda: order.append("call"), asyncio.get_running_loop().create_future())
    search = Cascade.search

    def slow(self: Cascade, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        queue.put_first(call)
        time.sleep(0.1)
        order.append("search")
        return search(self, *args, **kwargs)

    monkeypatch.setattr(Cascade, "search", slow)
    await watched.ask(**VECTOR)
    await call.future
    assert watched.threads() == [HERE]
    assert order == ["search", "call"]


async def test_what_fails_at_once_is_told_like_any_failure(watched: Watched) -> None:
    await asyncio.sleep(2 * CROWDED_SECONDS)
    response = await watched.client.post(T2I, json={"vector": [1.0] * (DIM + 1)})
    assert problem(response, 422, "vector_rejected")["detail"].endswith(f"got {DIM + 1}")
    await watched.ask(**VECTOR)
    assert watched.threads() == [HERE]


@pytest.mark.parametrize("settings", [Batching(max_wait_ms=1), Batching(max_batch=1)], ids=str)
async def test_where_searches_wait_for_company_all_do(
    engine: SearchEngine, open_client: OpenClient, threads: list[str], settings: Batching
) -> None:
    async with open_client(engine, probe_seconds=60, batch=settings) as client:
        watched = Watched(client, threads)
        for _ in range(3):
            await watched.ask(**VECTOR)
    assert watched.threads()[-1] == (DEVICE if settings.max_wait_ms else HERE)


async def test_lists_that_have_to_be_looked_for_are_the_device_s(
    lazy_root: Path, open_client: OpenClient, threads: list[str]
) -> None:
    async with open_client(SearchEngine.open(lazy_root), probe_seconds=60) as client:
        watched = Watched(client, threads)
        for _ in range(3):
            await watched.ask(**VECTOR)
    assert set(watched.threads()) == {DEVICE}


async def test_a_late_search_is_told_so_in_time(
    engine: SearchEngine, open_client: OpenClient, threads: list[str]
) -> None:
    async with open_client(engine, probe_seconds=60) as client:
        dispatcher = parts_of(client).dispatcher
        search = Search(WAY, VectorQuery(VECTOR["vector"]), SearchOptions(budget=engine.budget))
        for _ in range(2):
            await dispatcher.search(search, engine)
            await asyncio.sleep(0.01)
        assert threads[-1] == HERE
        with pytest.raises(DeadlineError):
            await dispatcher.search(replace(search, deadline=time.monotonic()), engine)


class Plain:
    """One plain search, and what is remembered of its like."""

    def __init__(self, engine: SearchEngine) -> None:
        self.engine, self.quick = engine, QuickSearches()
        self.search = Search(WAY, VectorQuery([1.0] * DIM), SearchOptions(budget=engine.budget))

    def took(self, seconds: float, **other: Any) -> None:  # noqa: ANN401
        self.quick.note(replace(self.search, **other), self.engine, seconds)

    def includes(self, **other: Any) -> bool:  # noqa: ANN401
        return self.quick.include(replace(self.search, **other), self.engine)


@pytest.fixture
def plain(engine: SearchEngine) -> Plain:
    return Plain(engine)


def test_a_search_is_quick_if_the_last_of_its_kind_was(plain: Plain) -> None:
    assert not plain.includes(), "nothing is known"
    plain.took(0.9 * QUICK_SECONDS)
    assert plain.includes()
    assert not plain.includes(direction=Direction.IMAGE_TO_TEXT)
    assert not plain.includes(options=replace(plain.search.options, rerank=RerankMode.NONE))
    plain.took(1.1 * QUICK_SECONDS)
    assert not plain.includes()


def test_what_is_not_plain_is_neither_quick_nor_says_that_others_are(plain: Plain) -> None:
    fewer = replace(plain.search.options, budget=plain.engine.budget.model_copy())
    plain.took(0.0, options=fewer)
    assert not plain.includes()
    plain.took(0.0)
    assert plain.includes()
    assert not plain.includes(options=fewer)


def test_a_search_with_less_time_than_its_like_took_is_not_quick(plain: Plain) -> None:
    plain.took(QUICK_SECONDS / 2)
    assert not plain.includes(deadline=time.monotonic() + QUICK_SECONDS / 4)
    assert plain.includes(deadline=time.monotonic() + 60)


def test_another_index_and_another_time_say_nothing(
    plain: Plain, index_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.took(0.0)
    other = SearchEngine.open(index_root)
    search = replace(plain.search, options=SearchOptions(budget=other.budget))
    assert not plain.quick.include(search, other)
    later = time.monotonic() + LATELY_SECONDS
    monkeypatch.setattr("service.at_once.monotonic", lambda: later)
    assert not plain.includes()


def test_what_is_remembered_keeps_no_index_open(plain: Plain, index_root: Path) -> None:
    other = SearchEngine.open(index_root)
    plain.quick.note(replace(plain.search, options=SearchOptions(budget=other.budget)), other, 0)
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None
