"""What is left out where time is short: the order, the measure, and the answers over HTTP."""

import asyncio
import time

import httpx
import numpy as np
import pytest

from model.cascade import SearchOptions
from model.core.types import CandidateBudget, Direction, RerankMode
from model.rerankers.ordering import Reranked
from model.rerankers.second_stage import SecondStage, Shortlist
from service.deadlines import HALF_LIFE_SECONDS, Pace, Plan, planned, plans
from service.engine import SearchEngine
from tests.service.asking import T2I, busy, faulty, parts_of, send, text_search, until
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import problem
from tests.service.test_operations import metrics
from tests.service.test_search import ask, pairs
from tests.service.world import World

DIRECTION = Direction.TEXT_TO_IMAGE
BUDGET = CandidateBudget()


def options(mode: RerankMode, k: int = 10) -> SearchOptions:
    return SearchOptions(k=k, rerank=mode, budget=BUDGET)


@pytest.mark.parametrize(
    ("mode", "order"),
    [
        (RerankMode.PILLAR, ["pillar", "relationship", "candidates"]),
        (RerankMode.RELATIONSHIP, ["relationship", "candidates"]),
        (RerankMode.REFERENCE, ["reference", "candidates"]),
        (RerankMode.NONE, ["candidates"]),
    ],
)
def test_stages_are_given_up_in_one_order(mode: RerankMode, order: list[str]) -> None:
    found = plans(options(mode))
    assert [list(plan.degraded) for plan in found] == [order[:n] for n in range(len(order) + 1)]
    assert found[0].options == options(mode)
    assert found[-1].options.rerank is RerankMode.NONE
    asked, left = (one.options.budget.counts(1_000_000) for one in (found[0], found[-1]))
    assert left == tuple(count // 4 for count in asked)


def test_fewer_candidates_are_never_fewer_than_hits_wanted() -> None:
    last = plans(options(RerankMode.NONE, k=900))[-1]
    assert last.options.budget.counts(5000) == (900, 900)


def test_only_searches_that_would_be_late_are_shortened() -> None:
    pace, asked = Pace(), [options(RerankMode.RELATIONSHIP)] * 3
    whole, plain, least = plans(asked[0])
    for plan, seconds in ((whole, 10.0), (plain, 4.0), (least, 1.0)):
        pace.note(DIRECTION, plan, seconds)
    now = time.monotonic()
    # 30 s for the three as asked; the first one is in no hurry, so it ends at 10 + 4 + 1.
    found = planned(pace, DIRECTION, asked, [np.inf, now + 25, now + 13])
    assert [plan.degraded for plan in found] == [
        (),
        ("relationship",),
        (*plain.degraded, "candidates"),
    ]
    assert planned(pace, DIRECTION, asked, [now + 99] * 3) == [whole] * 3
    assert planned(pace, DIRECTION, asked, [now - 1] * 3) == [least] * 3


def test_a_measurement_is_believed_less_as_it_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    pace, plan, clock = Pace(), Plan(options(RerankMode.NONE)), [100.0]
    monkeypatch.setattr("service.deadlines.monotonic", lambda: clock[0])
    assert pace.seconds(DIRECTION, plan) == 0
    pace.note(DIRECTION, plan, 8.0)
    assert pace.seconds(DIRECTION, plan) == 8
    clock[0] += HALF_LIFE_SECONDS
    assert pace.seconds(DIRECTION, plan) == 4
    pace.note(DIRECTION, plan, 18.0)
    assert pace.seconds(DIRECTION, plan) == pytest.approx(0.7 * 8 + 0.3 * 18)
    assert pace.seconds(Direction.IMAGE_TO_TEXT, plan) == 0


@pytest.fixture
def slow_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relationship takes a second longer."""
    whole = SecondStage.rerank

    def slow(self: SecondStage, shortlist: Shortlist, asked: RerankMode | None, k: int) -> Reranked:
        if asked is RerankMode.RELATIONSHIP:
            time.sleep(1.0)
        return whole(self, shortlist, asked, k)

    monkeypatch.setattr(SecondStage, "rerank", slow)


@pytest.mark.anyio
@pytest.mark.usefixtures("slow_lists")
async def test_a_search_short_of_time_answers_with_less_and_says_so(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine) as client:
        whole = await ask(client, DIRECTION, query="a red dog")
        short = await ask(client, DIRECTION, query="a red dog", timeout_ms=800)
        plain = await ask(client, DIRECTION, query="a red dog", rerank="none")
        samples = await metrics(client)
    assert (whole["rerank"], whole["degraded"]) == ("relationship", [])
    assert (short["rerank"], short["degraded"]) == ("none", ["relationship"])
    assert pairs(short) == pairs(plain)
    assert samples["meet_searches_degraded_total", "relationship"] == 1
    assert samples["meet_searches_degraded_total", "candidates"] == 0


@pytest.mark.anyio
async def test_a_search_whose_time_is_over_in_the_queue_is_told_at_once(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    patched, sizes = faulty(engine)
    async with open_client(patched) as client:
        async with busy(client):
            response = await client.post(T2I, json={"query": "a bus", "timeout_ms": 100})
            problem(response, 504, "deadline")
        files = {"image": world.image_path(1).read_bytes()}
        response = await client.post(
            "/search/image-to-text", files=files, data={"timeout_ms": "10000"}
        )
        assert response.status_code == 200
    assert sizes == []  # nobody waited for the text's encoding


@pytest.mark.anyio
@pytest.mark.usefixtures("slow_lists")
async def test_a_search_that_ends_too_late_is_told_when_its_time_is_over(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine) as client:
        # Nothing is known of the pace yet, so the search is tried as it was asked for.
        response = await client.post(T2I, json={"query": "a bus", "timeout_ms": 300})
        problem(response, 504, "deadline")
        assert (await ask(client, DIRECTION, query="a bus", rerank="none"))["degraded"] == []


@pytest.mark.anyio
async def test_a_caller_that_hangs_up_in_the_queue_costs_the_device_nothing(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    patched, sizes = faulty(engine)
    async with open_client(patched) as client:
        async with busy(client):
            stays = asyncio.create_task(send(client, text_search(query="a bus")))
            await hang_up(client)
            await until(lambda: parts_of(client).dispatcher.waiting == 2)
        assert (await stays).status_code == 200
        samples = await metrics(client)
    assert sizes == [1]
    route = ("meet_requests_total", "POST", T2I)
    assert (samples[*route, "499"], samples[*route, "200"]) == (1, 1)


async def hang_up(client: httpx.AsyncClient) -> None:
    """Ask, and leave while the search waits."""
    app = client._transport.app  # type: ignore[attr-defined]
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": T2I, "raw_path": T2I.encode()}
    scope |= {"headers": headers, "query_string": b"", "root_path": "", "http_version": "1.1"}
    scope |= {"scheme": "http", "server": ("meet", 80)}
    messages = [{"type": "http.request", "body": b'{"query": "a red dog"}', "more_body": False}]
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def sending(message: object) -> None:
        sent.append(message)

    await app(scope, receive, sending)
    assert sent == []
