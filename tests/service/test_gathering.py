"""Which searches a batch waits for: those on their way, unless the encoder has work to do."""

import asyncio

import pytest

from model.cascade import SearchOptions
from model.core.types import Direction
from service.engine import SearchEngine
from service.errors import QueueFullError
from service.gathering import MOST_TURNS, QUIET_TURNS, Gathering
from service.jobs import IdleJob, SearchJob, Steps
from service.queries import Move, Query, Search, StoredQuery, TextQuery, VectorQuery
from service.queue import JobQueue
from service.settings import Batching
from tests.service.asking import parts_of, send, text_search
from tests.service.conftest import OpenClient
from tests.service.test_operations import metrics
from tests.service.world import DIM, World

pytestmark = pytest.mark.anyio
WAY = Direction.TEXT_TO_IMAGE
THREE = Batching(max_batch=3)
VECTOR = VectorQuery([1.0] * DIM)


class Gate:
    """A queue of three a batch before which searches gather."""

    def __init__(self, engine: SearchEngine, settings: Batching = THREE) -> None:
        self.engine, self.loop = engine, asyncio.get_running_loop()
        self.queue = JobQueue(settings)
        self.gathering = Gathering(self.queue, self.loop)

    def put(self, query: Query, move: Move | None = None) -> SearchJob:
        search = Search(WAY, query, SearchOptions(), move=move)
        job = SearchJob(search, self.engine, self.loop.create_future())
        self.gathering.wait()
        self.queue.put(job)
        return job

    async def taken(self, turns: int) -> object:
        """What a thread is given after so many turns of the loop; None for nothing."""
        for _ in range(turns):
            await asyncio.sleep(0)
        return self.queue.take() if self.queue.ready else None


async def test_a_batch_begins_when_no_search_has_come_for_some_turns(engine: SearchEngine) -> None:
    gate = Gate(engine)
    first = gate.put(VECTOR)
    assert await gate.taken(QUIET_TURNS - 1) is None
    second = gate.put(StoredQuery(0, WAY.query))
    assert await gate.taken(QUIET_TURNS - 1) is None, "each that comes is followed by quiet turns"
    assert await gate.taken(1) == [first, second]
    third = gate.put(VECTOR)
    assert await gate.taken(0) is None
    assert await gate.taken(QUIET_TURNS) == [third]


async def test_a_full_batch_waits_for_nobody(engine: SearchEngine) -> None:
    gate = Gate(engine)
    jobs = [gate.put(VECTOR) for _ in range(4)]
    assert await gate.taken(0) == jobs[:3]
    assert await gate.taken(0) is None
    assert await gate.taken(QUIET_TURNS) == jobs[3:]


async def test_a_queue_that_is_full_is_a_batch_that_is_full(engine: SearchEngine) -> None:
    gate = Gate(engine, Batching(max_batch=3, max_queue=2))
    jobs = [gate.put(VECTOR) for _ in range(2)]
    for _ in range(2 * MOST_TURNS):
        with pytest.raises(QueueFullError):
            gate.put(VECTOR)
    assert await gate.taken(0) == jobs


async def test_a_loop_that_is_never_quiet_is_waited_for_so_long(engine: SearchEngine) -> None:
    gate = Gate(engine)
    job = gate.put(VECTOR)
    for _ in range(MOST_TURNS - 1):
        assert await gate.taken(1) is None
        gate.gathering.wait()
    await asyncio.sleep(0)
    gate.gathering.wait()  # before a thread has seen that the batch may begin
    assert await gate.taken(0) == [job]
    gate.put(VECTOR)
    assert await gate.taken(0) is None


@pytest.mark.parametrize(
    ("query", "move"),
    [(TextQuery("a"), None), (VECTOR, Move((), ("a",), (1.0, 1.0)))],
    ids=["text", "minus"],
)
async def test_a_search_that_is_encoded_waits_for_nobody_and_takes_all_along(
    engine: SearchEngine, query: Query, move: Move | None
) -> None:
    gate = Gate(engine)
    first = gate.put(VECTOR)
    assert await gate.taken(0) is None
    second = gate.put(query, move)
    assert await gate.taken(0) == [first, second]
    gate.put(VECTOR)
    assert await gate.taken(0) is None


async def test_idle_work_waits_for_what_gathers_and_for_what_is_told(engine: SearchEngine) -> None:
    gate = Gate(engine)
    idle = IdleJob(_nothing())
    gate.queue.put_idle(idle)
    job = gate.put(VECTOR)
    assert await gate.taken(0) is None
    assert await gate.taken(QUIET_TURNS) == [job]
    gate.gathering.wait()  # as whoever tells what was found
    assert await gate.taken(QUIET_TURNS - 1) is None
    assert await gate.taken(1) is idle


async def test_at_the_end_nothing_is_kept_back(engine: SearchEngine) -> None:
    gate = Gate(engine)
    job = gate.put(VECTOR)
    gate.queue.close()
    assert await gate.taken(0) == [job]
    assert gate.queue.take() is None


async def test_idle_work_begins_when_the_answers_before_it_are_out(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine) as client:
        dispatcher = parts_of(client).dispatcher
        order: list[str] = []
        told = [dispatcher.run(int), dispatcher.idle(_noting(order))]
        first, second = (asyncio.ensure_future(one) for one in told)
        first.add_done_callback(lambda _: order.append("told"))
        await asyncio.gather(first, second)
    assert order == ["told", "idle"]


def _nothing() -> Steps:
    yield


def _noting(order: list[str]) -> Steps:
    order.append("idle")
    yield


async def test_searches_that_come_together_are_one_batch(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    asked = [text_search(id=f"{one}#0") for one in world.ids[:5]]
    asked += [text_search(vector=[1.0] * row + [0.5] * (DIM - row)) for row in range(5)]
    async with open_client(engine) as client:
        responses = await asyncio.gather(*(send(client, ask) for ask in asked))
        samples = await metrics(client)
    assert [one.status_code for one in responses] == [200] * 10
    assert (samples["meet_batch_size_count",], samples["meet_batch_size_sum",]) == (1, 10)
