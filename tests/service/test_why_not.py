"""What became of an item that was expected among the hits, as answers tell it."""

from typing import Any

import httpx
import pytest

from model.core.types import Direction
from tests.service.test_bad_input import T2I, problem
from tests.service.test_search import ask
from tests.service.world import World

pytestmark = pytest.mark.anyio
TO_IMAGE, TO_TEXT = Direction.TEXT_TO_IMAGE, Direction.IMAGE_TO_TEXT
STANDS = (
    "hamming_distance", "pq_score", "rank_after_hash", "rank_after_pq", "rank_after_rerank",
)  # fmt: skip


def fates(answer: dict[str, Any]) -> dict[str, str]:
    return {one["id"]: one["fate"] for one in answer["why_not"]}


async def chunks(client: httpx.AsyncClient, ids: list[str], **body: object) -> list[dict[str, Any]]:
    """What is told of any number of ids, sixteen at a time."""
    told: list[dict[str, Any]] = []
    for start in range(0, len(ids), 16):
        told += (await ask(client, TO_IMAGE, **body, why_not=ids[start : start + 16]))["why_not"]
    return told


@pytest.mark.parametrize("rerank", ["relationship", "reference", "none"])
async def test_a_hit_is_told_as_its_explanation_says(
    client: httpx.AsyncClient, world: World, rerank: str
) -> None:
    body = {"query": "one cat that is red", "k": 7, "rerank": rerank}
    answer = await ask(client, TO_IMAGE, **body, explain=True)
    told = {one["id"]: one for one in await chunks(client, list(world.ids), **body)}
    for hit in answer["hits"]:
        one = told.pop(hit["id"])
        assert one["fate"] == "found"
        assert one["score"] == pytest.approx(hit["score"], abs=1e-6)
        assert {name: one[name] for name in STANDS} == {
            name: hit["explanation"][name] for name in STANDS
        }
    assert {one["fate"] for one in told.values()} == {"hash", "pq", "rerank"}
    for one in told.values():
        reached = {"hash": 1, "pq": 2, "rerank": 3}[one["fate"]]
        ranks = [one.get(name) for name in STANDS[2:]]
        assert [rank is not None for rank in ranks] == [stage < reached for stage in range(3)]
        if one["fate"] == "hash":
            assert one["rank_after_hash"] >= one["kept_by_hash"] == 36
        if one["fate"] == "pq":
            assert one["rank_after_pq"] >= one["kept_by_pq"] == 24
        if one["fate"] == "rerank":
            assert one["rank_after_rerank"] >= 7
    ranks = sorted(one["rank_after_hash"] for one in told.values())
    hits = sorted(hit["explanation"]["rank_after_hash"] for hit in answer["hits"])
    assert sorted(ranks + hits) == list(range(60))


async def test_ids_are_told_in_their_order_and_strangers_said_so(
    client: httpx.AsyncClient,
) -> None:
    answer = await ask(
        client, TO_IMAGE, query="a bus", why_not=["nobody", "photo-07#0", "photo-07", "nobody"]
    )
    assert [one["id"] for one in answer["why_not"]] == [
        "nobody",
        "photo-07#0",
        "photo-07",
        "nobody",
    ]
    assert answer["why_not"][0] == {"id": "nobody", "fate": "unknown"}
    assert answer["why_not"][1] == {"id": "photo-07#0", "fate": "other_kind"}


async def test_without_the_wish_nothing_is_told(client: httpx.AsyncClient) -> None:
    assert "why_not" not in await ask(client, TO_IMAGE, query="a bus")


async def test_captions_are_told_of_too(client: httpx.AsyncClient) -> None:
    answer = await ask(client, TO_TEXT, id="photo-07", k=1, why_not=["photo-07#0", "photo-09#1"])
    assert set(fates(answer).values()) <= {"found", "rerank", "pq", "hash"}


async def test_among_items_of_a_kind_the_item_itself_counts_for_nothing(
    client: httpx.AsyncClient, world: World
) -> None:
    own, *others = world.ids[5:20]
    body = {"id": own, "k": 5, "explain": True, "why_not": [own, *others]}
    answer = (await client.post("/search/similar", json=body)).json()
    told = {one["id"]: one for one in answer["why_not"]}
    assert told.pop(own) == {"id": own, "fate": "asked_with"}
    hits = {hit["id"]: hit["explanation"] for hit in answer["hits"]}
    for item_id, one in told.items():
        assert (one["fate"] == "found") == (item_id in hits)
        if item_id in hits:
            assert {name: one[name] for name in STANDS} == {
                name: hits[item_id][name] for name in STANDS
            }
        if one["fate"] == "rerank":
            assert 5 <= one["rank_after_rerank"] < one["kept_by_pq"]


async def test_several_queries_share_the_question(client: httpx.AsyncClient) -> None:
    body = {"queries": ["a bus", "a red dog"], "why_not": ["photo-07"]}
    answers = (await client.post(T2I, json=body)).json()["answers"]
    alone = [await ask(client, TO_IMAGE, query=q, why_not=["photo-07"]) for q in body["queries"]]
    assert [fates(one) for one in answers] == [fates(one) for one in alone]


async def test_sixteen_ids_are_the_most(client: httpx.AsyncClient) -> None:
    response = await client.post(T2I, json={"query": "a bus", "why_not": ["a"] * 17})
    problem(response, 422, "invalid_request")
