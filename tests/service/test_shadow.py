"""A share of the searches repeated exactly: recall of every stage against slow oracles."""

import asyncio
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from model.ann import oracle
from model.cascade import Cascade, SearchOptions
from model.core.types import CandidateBudget, Direction, Kinship, RerankMode, RowArray
from model.core.vectors import pack_signs
from service.engine import SearchEngine
from service.errors import StoppingError
from service.jobs import CallJob, IdleJob, SearchJob
from service.queries import Search, TextQuery
from service.queue import MOST_IDLE, JobQueue
from service.settings import Batching
from tests.service.asking import I2T, T2I, busy, parts_of, send, texts, until
from tests.service.conftest import OpenClient
from tests.service.test_operations import metrics
from tests.service.world import BUDGET, DIM, World

pytestmark = pytest.mark.anyio
EVERYTHING = CandidateBudget(at_least=10**6)
DIRECTION = Direction.TEXT_TO_IMAGE
STAGES = ("hash", "pq", "final")


async def measured(client: httpx.AsyncClient, count: int) -> dict[tuple[str, ...], float]:
    """The metrics once so many searches have been measured or dropped."""
    name = "meet_shadow_searches_total"
    async with asyncio.timeout(20):
        while True:
            samples = await metrics(client)
            if sum(value for key, value in samples.items() if key[0] == name) >= count:
                return samples
            await asyncio.sleep(0.005)


def recalls(
    engine: SearchEngine,
    direction: Direction,
    vector: list[float],
    k: int,
    mode: RerankMode,
) -> dict[str, float]:
    """What each stage keeps of the exact first ten, by full matrices and sets."""
    cascade, side = engine.cascade, engine.cascade.sides[direction.candidate]
    query = engine.embed_vectors([vector])
    options = SearchOptions(k=10, rerank=mode, budget=EVERYTHING)
    exact = cascade.search(direction, query, options)[0].rows.tolist()
    first, second = BUDGET.counts(len(side))
    hashed = cascade.heads.hash_space(direction.query, query)
    _, by_hash = oracle.hamming_search(pack_signs(hashed), side.hamming.codes(), first)
    wide = SearchOptions(k=second, rerank=RerankMode.NONE, budget=BUDGET)
    by_pq = cascade.search(direction, query, wide)[0].rows
    answered = cascade.search(direction, query, SearchOptions(k, mode, BUDGET))[0].rows
    return {
        "hash": shared(exact, by_hash[0]),
        "pq": shared(exact, by_pq),
        "final": shared(exact[:k], answered[:10]),
    }


def shared(exact: list[int], kept: RowArray) -> float:
    return len(set(exact) & set(kept.tolist())) / len(exact)


@pytest.mark.parametrize("mode", [RerankMode.RELATIONSHIP, RerankMode.REFERENCE, RerankMode.NONE])
async def test_recall_of_every_stage_is_that_of_a_slow_oracle(
    engine: SearchEngine, open_client: OpenClient, mode: RerankMode
) -> None:
    vectors = np.random.default_rng(2).normal(size=(8, DIM))
    expected: dict[tuple[str, str], float] = {}
    asked = 0
    async with open_client(engine, shadow_share=1.0) as client:
        for turn, vector in enumerate(vectors.tolist()):
            for path, direction in ((T2I, DIRECTION), (I2T, DIRECTION.other)):
                k = (10, 3, 25)[turn % 3]
                body = {"vector": vector, "k": k, "rerank": mode}
                assert (await client.post(path, json=body)).status_code == 200
                asked += 1
                await measured(client, asked)
                for stage, share in recalls(engine, direction, vector, k, mode).items():
                    place = direction.value, stage
                    expected[place] = expected.get(place, 0.0) + share
        samples = await measured(client, 16)
    assert samples["meet_shadow_searches_total", "measured"] == 16
    assert min(expected.values()) < 0.95 * 8
    for (direction_name, stage), total in expected.items():
        key = direction_name, stage
        assert samples["meet_shadow_recall_ratio_count", *key] == 8
        assert samples["meet_shadow_recall_ratio_sum", *key] == pytest.approx(total)


async def test_a_stage_that_keeps_everything_keeps_all_of_the_first_ten(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine, shadow_share=1.0) as client:
        await client.post(T2I, json={"query": "a red dog", "candidates": 60})
        samples = await measured(client, 1)
    for stage in STAGES:
        assert samples["meet_shadow_recall_ratio_bucket", DIRECTION.value, "0.9", stage] == 0
        assert samples["meet_shadow_recall_ratio_bucket", DIRECTION.value, "1.0", stage] == 1


async def test_series_are_there_from_the_start_and_a_share_of_nothing_draws_nothing(
    client: httpx.AsyncClient,
) -> None:
    await client.post(T2I, json={"query": "a red dog"})
    samples = await metrics(client)
    for direction in Direction:
        for stage in STAGES:
            assert samples["meet_shadow_recall_ratio_count", direction.value, stage] == 0
    for result in ("measured", "busy", "replaced", "failed"):
        assert samples["meet_shadow_searches_total", result] == 0


async def test_probes_and_other_options_than_the_budget_are_not_drawn(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine, shadow_share=1.0) as client:
        shadows = parts_of(client).dispatcher._shadows
        assert shadows is not None
        await client.get("/readyz")
        vector = engine.embed_vectors([[1.0] * DIM])[0]
        options = SearchOptions(5, RerankMode.NONE, BUDGET, explain=True)
        found = await parts_of(client).dispatcher.search(engine.probe(), engine)
        plain = replace(found, embedding=vector, options=options)
        assert shadows.sampled(DIRECTION, plain) is not None
        assert shadows.sampled(Kinship.TEXT_TO_TEXT, plain) is None
        for asked in ({"offset": 1}, {"min_score": 0.5}, {"collapse": 2}, {"exact": True}):
            other = replace(plain, options=replace(options, **asked))
            assert shadows.sampled(DIRECTION, other) is None
        samples = await measured(client, 1)
    assert samples["meet_shadow_searches_total", "measured"] == 1


async def test_a_busy_queue_drops_what_would_be_repeated(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    asked = texts(world.captions[:5])
    batch = Batching(max_batch=1)
    async with open_client(engine, shadow_share=1.0, batch=batch) as client:
        async with busy(client):
            tasks = [asyncio.create_task(send(client, ask)) for ask in asked]
            await until(lambda: parts_of(client).dispatcher.waiting == 5)
        assert [one.status_code for one in await asyncio.gather(*tasks)] == [200] * 5
        samples = await measured(client, 5)
    assert samples["meet_shadow_searches_total", "busy"] == 4
    assert samples["meet_shadow_searches_total", "measured"] == 1


async def test_a_version_that_is_not_served_any_more_is_not_measured(
    engine: SearchEngine,
    open_client: OpenClient,
    index_root: Path,
) -> None:
    async with open_client(engine, shadow_share=1.0) as client:
        parts = parts_of(client)
        async with busy(client):
            asked = asyncio.create_task(client.post(T2I, json={"query": "a bus"}))
            await until(lambda: parts.dispatcher.waiting == 1)
            parts.serving.replace(SearchEngine.open(index_root))
        assert (await asked).status_code == 200
        assert (await measured(client, 1))["meet_shadow_searches_total", "replaced"] == 1


async def test_a_measurement_that_fails_harms_nobody(
    engine: SearchEngine,
    open_client: OpenClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(Cascade, "kept", failing)
    async with open_client(engine, shadow_share=1.0) as client:
        for turn in range(2):
            assert (await client.post(T2I, json={"query": "a bus"})).status_code == 200
            samples = await measured(client, turn + 1)
    assert samples["meet_shadow_searches_total", "failed"] == 2
    assert "ValueError('broken')" in caplog.text


async def test_idle_work_waits_for_everything_else_and_takes_turns(engine: SearchEngine) -> None:
    queue, loop = JobQueue(Batching(max_batch=2)), asyncio.get_running_loop()
    search = Search(DIRECTION, TextQuery("a"), SearchOptions())
    searches = [SearchJob(search, engine, loop.create_future()) for _ in range(3)]
    idle = [IdleJob(_steps([], 1)) for _ in range(2)]
    call = CallJob(lambda: None, loop.create_future())
    for one in idle:
        queue.put_idle(one)
    for job in searches:
        queue.put(job)
    assert not queue.offer_idle(IdleJob(_steps([], 1)))
    queue.put_first(call)
    assert queue.take() is call
    assert queue.take() == searches[:2]
    assert queue.take() == searches[2:]
    assert queue.take() is idle[0]
    queue.put_idle(idle[0])
    assert queue.take() is idle[1]
    assert queue.take() is idle[0]
    assert sum(queue.offer_idle(IdleJob(_steps([], 1))) for _ in range(20)) == MOST_IDLE
    assert len(queue) == 0
    assert len(queue.close()) == MOST_IDLE
    assert not queue.offer_idle(idle[0])
    with pytest.raises(StoppingError):
        queue.put_idle(idle[0])
    assert queue.take() is None


def _steps(done: list[float], count: int, seconds: float = 0.0) -> Generator[None, None, int]:
    for _ in range(count):
        time.sleep(seconds)
        done.append(time.monotonic())
        yield
    return count


async def test_a_search_waits_for_one_step_of_idle_work_at_most(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    done: list[float] = []
    async with open_client(engine) as client:
        await client.post(T2I, json={"query": "a bus"})
        dispatcher = parts_of(client).dispatcher
        working = asyncio.create_task(dispatcher.idle(_steps(done, 30, 0.02)))
        await until(lambda: len(done) > 2)
        before = len(done)
        await client.post(T2I, json={"query": "a bus"})
        assert len(done) <= before + 2  # the one under way, and one begun after the answer
        assert await working == 30


async def test_idle_work_that_nobody_waits_for_is_left(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    done: list[float] = []
    async with open_client(engine) as client:
        dispatcher = parts_of(client).dispatcher
        working = asyncio.create_task(dispatcher.idle(_steps(done, 10_000, 0.002)))
        await until(lambda: len(done) > 2)
        working.cancel()
        await client.post(T2I, json={"query": "a bus"})
        now = len(done)
        await asyncio.sleep(0.05)
        assert len(done) <= now + 1
        stopped = asyncio.create_task(dispatcher.idle(_steps(done, 10_000, 0.002)))
        failing = asyncio.create_task(dispatcher.idle(_failing()))
        with pytest.raises(ValueError, match="broken"):
            await failing
    with pytest.raises(StoppingError):
        await stopped


def _failing() -> Generator[None, None, None]:
    yield
    raise ValueError("broken")
