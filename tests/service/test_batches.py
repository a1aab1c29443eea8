"""Searches that share a batch: the answers of one at a time, and one that fails fails alone."""

import asyncio
import base64
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from model.core.types import RerankMode
from model.rerankers.ordering import Reranked
from model.rerankers.second_stage import SecondStage, Shortlist
from service.engine import SearchEngine
from service.settings import Batching
from tests.service.asking import (
    I2T,
    POISON,
    T2I,
    Ask,
    busy,
    faulty,
    send,
    text_search,
    texts,
    together,
)
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import problem
from tests.service.test_operations import metrics
from tests.service.world import DIM, World

pytestmark = pytest.mark.anyio


def mixed(world: World, count: int) -> list[Ask]:
    """Requests of every kind, each with a k, a mode and a wish for explanations of its own."""
    rng = np.random.default_rng(8)
    return [_request(world, rng, turn) for turn in range(count)]


def _request(world: World, rng: np.random.Generator, turn: int) -> Ask:
    modes = [None, RerankMode.RELATIONSHIP, RerankMode.REFERENCE, RerankMode.NONE]
    body: dict[str, Any] = {"k": int(rng.choice([1, 5, 20])), "explain": bool(rng.integers(2))}
    if mode := modes[rng.integers(len(modes))]:
        body["rerank"] = mode
    row = int(rng.integers(len(world.ids)))
    vector = {"vector": rng.normal(size=DIM).tolist()}
    picture = world.image_path(row).read_bytes()
    match turn % 12:
        case 0:
            form = {name: str(value).lower() for name, value in body.items()}
            return lambda client: client.post(I2T, files={"image": picture}, data=form)
        case 1:
            told = {"image": base64.b64encode(picture).decode()}
        case 2 | 3:
            told = {"id": world.ids[row]}
        case 4 | 5:
            told = vector
        case 6 | 7:
            return text_search(**vector, **body)
        case _:
            return text_search(query=world.captions[row], **body)
    return lambda client: client.post(I2T, json=body | told)


def comparable(response: httpx.Response) -> tuple[dict[str, Any], list[float]]:
    """An answer without its milliseconds, and its numbers apart."""
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    del answer["milliseconds"]
    numbers = []
    for hit in answer["hits"]:
        numbers.append(hit.pop("score"))
        told = hit.get("explanation", {})
        numbers += [told.pop(name) for name in list(told) if isinstance(told[name], float)]
    return answer, numbers


async def test_hundreds_at_once_get_the_answers_of_one_at_a_time(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    asked = mixed(world, 240)
    async with open_client(engine) as client:
        alone = [comparable(await ask(client)) for ask in asked]
        found = [comparable(one) for one in await together(client, asked)]
        sizes = await metrics(client)
    for (answer, numbers), (expected, values) in zip(found, alone, strict=True):
        assert answer == expected
        np.testing.assert_allclose(numbers, values, atol=1e-5)
    assert sizes["meet_batch_size_count",] == 240 + np.ceil(240 / Batching().max_batch)
    assert sizes["meet_batch_size_sum",] == sizes["meet_queue_wait_seconds_count",] == 480


async def test_a_text_that_the_encoder_refuses_fails_alone(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    asked = texts([*world.captions[:9], POISON, *world.captions[9:18]])
    async with open_client(faulty(engine)[0]) as client:
        responses = await together(client, asked)
        document = problem(responses.pop(9), 422, "text_rejected")
    assert document["detail"] == "this text is poison"
    assert [one.status_code for one in responses] == [200] * 18


@pytest.mark.parametrize(
    "lacking",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("Error in virtual void faiss::gpu: err == cudaSuccess: out of memory"),
    ],
    ids=["torch", "host", "faiss"],
)
async def test_a_batch_without_memory_is_halved_until_it_fits(
    engine: SearchEngine, open_client: OpenClient, world: World, lacking: Exception
) -> None:
    asked = texts(world.captions[:16])
    patched, sizes = faulty(engine, room=4, lacking=lacking)
    async with open_client(patched) as client:
        responses = await together(client, asked)
        samples = await metrics(client)
    assert [one.status_code for one in responses] == [200] * 16
    assert sizes == [16, 8, 4, 4, 8, 4, 4]
    assert samples["meet_batch_halvings_total", "memory"] == 3


async def test_one_search_that_no_memory_is_enough_for_is_told_to_come_later(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(faulty(engine, room=0)[0]) as client:
        response = await client.post(T2I, json={"query": "a red dog"})
        problem(response, 503, "device_memory")
        assert response.headers["retry-after"] == "1"
        assert (await client.post(T2I, json={"vector": [1.0] * DIM})).status_code == 200


async def test_a_search_whose_re_ranking_breaks_fails_alone(
    engine: SearchEngine, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SecondStage.rerank

    def breaking(
        self: SecondStage, shortlist: Shortlist, asked: RerankMode | None, k: int
    ) -> Reranked:
        if (shortlist.queries[:, 0] > 0.999).any():
            raise ValueError("broken")
        return whole(self, shortlist, asked, k)

    vectors = np.random.default_rng(3).normal(size=(12, DIM))
    vectors[5] = np.eye(DIM)[0]
    asked = [text_search(vector=vector.tolist()) for vector in vectors]
    async with open_client(engine) as client:
        monkeypatch.setattr(SecondStage, "rerank", breaking)
        responses = await together(client, asked)
        problem(responses.pop(5), 500, "internal")
    assert [one.status_code for one in responses] == [200] * 11


async def test_a_full_queue_turns_away_and_answers_those_inside(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    asked = texts(world.captions[:10])
    async with open_client(engine, batch=Batching(max_queue=4)) as client:
        async with busy(client):
            tasks = [asyncio.create_task(send(client, ask)) for ask in asked]
            done, waiting = await asyncio.wait(tasks, timeout=0.5)
            for task in done:
                document = problem(task.result(), 429, "queue_full")
                assert "at most 4 searches wait" in document["detail"]
                assert task.result().headers["retry-after"] == "1"
            assert (await metrics(client))["meet_queue_depth",] == len(waiting) == 4
        inside = await asyncio.gather(*waiting)
    assert [one.status_code for one in inside] == [200] * 4


async def test_an_idle_device_waits_for_company_only_where_it_is_told_to(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    asked = texts(world.captions[:3])
    async with open_client(engine, batch=Batching(max_batch=3, max_wait_ms=1000)) as client:
        tasks = []
        for ask in asked:
            tasks.append(asyncio.create_task(send(client, ask)))
            await asyncio.sleep(0.02)
        responses = await asyncio.gather(*tasks)
        samples = await metrics(client)
    waits = [one.json()["milliseconds"]["queue"] for one in responses]
    assert 1000 > waits[0] > waits[1] > waits[2], "company enough ends the wait"
    assert (samples["meet_batch_size_count",], samples["meet_batch_size_sum",]) == (1, 3)
