"""Overload, half-sent bodies and a stuck device: what is turned away, and what the probes say."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from PIL import Image

from model.cascade import SearchOptions
from model.core.types import Direction, FloatArray
from service.engine import SearchEngine
from service.errors import QueueFullError
from service.jobs import SearchJob
from service.queries import ImageQuery, Search, TextQuery
from service.queue import JobQueue
from service.settings import Batching
from tests.service.asking import I2T, T2I, busy, parts_of, send, text_search, until
from tests.service.conftest import LIMITS, OpenClient
from tests.service.test_bad_input import JSON, problem
from tests.service.world import World

pytestmark = pytest.mark.anyio
OVERLOAD = 4


async def test_a_body_that_stops_arriving_is_told_so(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async def half(beginning: bytes) -> AsyncIterator[bytes]:
        yield beginning
        await asyncio.sleep(20)

    form = {"content-type": "multipart/form-data; boundary=x"}
    cases = (
        (T2I, JSON, b'{"query": '),
        (I2T, JSON, b""),
        (I2T, form, b'--x\r\ncontent-disposition: form-data; name="k"\r\n\r\n1'),
    )
    async with open_client(engine, body_seconds=0.1) as client:
        for path, headers, beginning in cases:
            response = await client.post(path, content=half(beginning), headers=headers)
            document = problem(response, 408, "slow_body")
            assert "0.1 s" in document["detail"]
            assert response.headers["connection"] == "close"


async def test_a_body_that_drips_is_not_waited_for_longer(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async def drops() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" "
            await asyncio.sleep(0.05)

    async with open_client(engine, body_seconds=0.3) as client:
        problem(await client.post(T2I, content=drops(), headers=JSON), 408, "slow_body")


async def test_bodies_together_have_a_bound(engine: SearchEngine, open_client: OpenClient) -> None:
    size = LIMITS.max_body_bytes - 1
    whole = b'{"query": "a bus"}'.ljust(size)
    inside = 2**20 // size
    async with open_client(engine, max_waiting_bytes=2**20) as client:
        async with busy(client):
            tasks = [
                asyncio.create_task(client.post(T2I, content=whole, headers=JSON))
                for _ in range(inside)
            ]
            await until(lambda: parts_of(client).dispatcher.waiting == inside)
            document = problem(
                await client.post(T2I, content=whole, headers=JSON), 429, "queue_full"
            )
            assert "1048576 bytes" in document["detail"]
        assert [(await task).status_code for task in tasks] == [200] * inside
        assert (await client.post(T2I, content=whole, headers=JSON)).status_code == 200


async def test_images_that_wait_have_a_bound_of_pixels(engine: SearchEngine) -> None:
    queue = JobQueue(Batching(max_queue_pixels=1000))
    loop = asyncio.get_running_loop()

    def job(width: int) -> SearchJob:
        query = ImageQuery(Image.new("RGB", (width, 100))) if width else TextQuery("a")
        search = Search(Direction.IMAGE_TO_TEXT, query, SearchOptions())
        return SearchJob(search, engine, loop.create_future())

    queue.put(job(30))  # one alone may be larger
    queue.put(job(0))
    with pytest.raises(QueueFullError, match="1000 pixels"):
        queue.put(job(1))
    taken = queue.take()
    assert isinstance(taken, list)
    assert len(taken) == 2
    queue.put(job(9))
    queue.put(job(1))
    with pytest.raises(QueueFullError, match="1000 pixels"):
        queue.put(job(1))


class SlowTexts:
    """A text tower that takes so long for each text of a batch."""

    def __init__(self, engine: SearchEngine, seconds: float) -> None:
        assert engine.encoder.text is not None
        self.tower, self.seconds = engine.encoder.text, seconds
        self.accepts = self.tower.accepts

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        time.sleep(self.seconds * len(texts))
        return self.tower.encode_texts(texts)


async def test_under_overload_searches_are_shed_and_the_server_stays_ready(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    slow = replace(engine.encoder, text=SlowTexts(engine, 0.1))
    batch = Batching(max_batch=2, max_queue=10)
    n_clients = OVERLOAD * (batch.max_batch + batch.max_queue)
    statuses: list[int] = []
    slowed = SearchEngine(engine.artifact, slow, engine.cascade)
    async with open_client(slowed, batch=batch, probe_seconds=10) as client:
        ending = asyncio.Event()

        async def keep_asking() -> None:
            while not ending.is_set():
                response = await send(client, text_search(query="a bus"))
                statuses.append(response.status_code)
                # 40 a second come again, four times the 10 a second that can be answered.
                await asyncio.sleep(n_clients / 40 if response.is_error else 0)

        askers = [asyncio.create_task(keep_asking()) for _ in range(n_clients)]
        await until(lambda: 429 in statuses)
        for _ in range(5):
            for path in ("/readyz", "/healthz"):
                assert (await client.get(path)).status_code == 200
        ending.set()
        await asyncio.gather(*askers)
    assert set(statuses) == {200, 429}


async def test_probes_at_the_same_time_share_one_query(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine) as client:
        async with busy(client):
            probes = [asyncio.create_task(client.get("/readyz")) for _ in range(5)]
            await asyncio.sleep(0.1)
            assert parts_of(client).dispatcher.waiting == 1
        assert [(await probe).status_code for probe in probes] == [200] * 5


async def test_a_draining_server_answers_but_is_not_ready(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine) as client:
        parts_of(client).readiness.drain()
        document = problem(await client.get("/readyz"), 503, "not_ready")
        assert "going to stop" in document["detail"]
        assert (await client.post(T2I, json={"query": "a bus"})).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_a_server_with_nothing_to_find_is_not_ready(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    empty = SearchEngine(replace(engine.artifact, sides={}), engine.encoder, engine.cascade)
    async with open_client(empty) as client:
        document = problem(await client.get("/readyz"), 503, "not_ready")
        assert "MissingModality" in document["detail"]


async def test_a_device_that_does_not_come_back_is_not_alive(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine, stuck_seconds=0.2) as client:
        async with busy(client):
            assert (await client.get("/healthz")).status_code == 200
            await asyncio.sleep(0.3)
            document = problem(await client.get("/healthz"), 503, "stuck")
            assert "0.2 s" in document["detail"]
        assert (await client.get("/healthz")).status_code == 200


async def test_a_stopping_dispatcher_answers_what_it_accepted_and_nothing_new(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    async with open_client(engine) as client:
        dispatcher = parts_of(client).dispatcher
        async with busy(client):
            accepted = [
                asyncio.create_task(send(client, text_search(query=query)))
                for query in world.captions[:40]
            ]
            await until(lambda: dispatcher.waiting == 40)
            closing = asyncio.create_task(dispatcher.close())
            await asyncio.sleep(0.05)
            response = await client.post(T2I, json={"query": "a bus"})
            problem(response, 503, "stopping")
            assert response.headers["retry-after"] == "1"
        assert [(await one).status_code for one in accepted] == [200] * 40
        await closing
        problem(await client.get("/healthz"), 503, "stuck")


async def test_a_stop_does_not_wait_for_a_stuck_device(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    release = threading.Event()
    async with open_client(engine, shutdown_seconds=0) as client:
        stuck = asyncio.create_task(parts_of(client).dispatcher.run(release.wait, 20))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            await parts_of(client).dispatcher.close()
        release.set()
        assert await stuck
