import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from model.cascade import SearchOptions
from model.core.types import Direction, FloatArray, Modality, RerankMode
from model.core.vectors import l2_normalised
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.second_stage import SecondStage
from model.rerankers.weights import StageTwo
from service.engine import SearchEngine
from service.schemas import SearchAnswer
from tests.service.conftest import OpenClient
from tests.service.world import BUDGET, DIM, World

pytestmark = pytest.mark.anyio
T2I, I2T = Direction.TEXT_TO_IMAGE, Direction.IMAGE_TO_TEXT


async def ask(client: httpx.AsyncClient, direction: Direction, **body: object) -> dict[str, Any]:
    response = await client.post(f"/search/{direction}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    SearchAnswer.model_validate_json(response.text, strict=True, extra="forbid")
    return answer


def direct(
    engine: SearchEngine,
    direction: Direction,
    embedding: FloatArray,
    k: int = 10,
    rerank: RerankMode | None = None,
) -> list[tuple[str, float]]:
    """Ids and scores from the cascade without the service."""
    options = SearchOptions(k=k, rerank=rerank, budget=BUDGET)
    ranking = engine.cascade.search(direction, embedding, options)[0]
    ids = [engine.artifact.item(direction.candidate, int(row)).id for row in ranking.rows]
    return list(zip(ids, map(float, ranking.scores), strict=True))


def pairs(answer: dict[str, Any]) -> list[tuple[str, float]]:
    return [(hit["id"], hit["score"]) for hit in answer["hits"]]


@pytest.mark.parametrize("rerank", SecondStage(StageTwo()).modes)
async def test_a_text_finds_what_the_cascade_finds(
    client: httpx.AsyncClient, engine: SearchEngine, rerank: RerankMode
) -> None:
    answer = await ask(client, T2I, query="one cat that is red", k=7, rerank=rerank)
    embedding = engine.encoder.encode_texts(["one cat that is red"])
    assert pairs(answer) == direct(engine, T2I, embedding, 7, rerank)
    assert answer["rerank"] == rerank
    assert [hit["rank"] for hit in answer["hits"]] == list(range(7))


@pytest.mark.parametrize("direction", Direction)
async def test_the_pillar_re_ranker_answers_where_the_index_has_it(
    pillar_engine: SearchEngine, open_client: OpenClient, direction: Direction
) -> None:
    rerank, count = RerankMode.PILLAR, PillarConfig().shortlist(direction)
    stored = pillar_engine.artifact.side(direction.query).embeddings[8].astype(np.float32)
    embedding, body = l2_normalised(stored[None]), {"vector": stored.tolist(), "k": 40}
    async with open_client(pillar_engine) as client:
        answer = await ask(client, direction, **body, rerank=rerank, explain=True)
        plain = await ask(client, direction, **body)
        index = (await client.get("/index")).json()
    found, expected = pairs(answer), direct(pillar_engine, direction, embedding, 40, rerank)
    assert [one for one, _ in found] == [one for one, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], atol=1e-5)
    for hit in answer["hits"]:
        shown, listed = hit["explanation"], hit["rank"] < count
        base = 2 if listed else shown["consistency"]
        assert hit["score"] == pytest.approx(base + shown["complementarity"], abs=1e-6)
        assert not {"reverse_rank", "expansion"} & set(shown)
    assert (answer["rerank"], plain["rerank"]) == ("pillar", "relationship")
    assert index["rerank"] == ["relationship", "reference", "pillar", "none"]
    assert index["default_rerank"] == "relationship"


async def test_an_upload_finds_what_the_cascade_finds(
    client: httpx.AsyncClient, engine: SearchEngine, world: World
) -> None:
    data = world.image_path(9).read_bytes()
    files = {"image": ("photo.png", data, "image/png")}
    response = await client.post(f"/search/{I2T}", files=files, data={"k": "4", "explain": "true"})
    answer = response.json()
    with Image.open(world.image_path(9)) as image:
        embedding = engine.encoder.encode_images([image.convert("RGB")])
    assert pairs(answer) == direct(engine, I2T, embedding, 4)
    assert answer["milliseconds"]["decode"] > 0
    assert answer["hits"][0]["explanation"]["rank_after_rerank"] == 0


async def test_an_upload_and_its_base64_are_the_same_query(
    client: httpx.AsyncClient, world: World
) -> None:
    data = world.image_path(5).read_bytes()
    upload = (await client.post(f"/search/{I2T}", files={"image": data})).json()
    wrapped = base64.encodebytes(data).decode()  # with line breaks, as `base64` prints it
    assert pairs(await ask(client, I2T, image=wrapped)) == pairs(upload)


async def test_a_gallery_id_asks_with_the_stored_embedding(
    client: httpx.AsyncClient, engine: SearchEngine, world: World
) -> None:
    row = 2
    stored = engine.artifact.side(Modality.IMAGE).embeddings[row].astype(np.float32)
    answer = await ask(client, I2T, id=world.ids[row], k=5)
    assert pairs(answer) == direct(engine, I2T, l2_normalised(stored[None]), 5)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("scale", [1.0, 1e300, 1e-300, -3.0])
async def test_a_vector_counts_by_its_direction_alone(
    client: httpx.AsyncClient, engine: SearchEngine, direction: Direction, scale: float
) -> None:
    vector = np.random.default_rng(4).normal(size=DIM)
    answer = await ask(client, direction, vector=(scale * vector).tolist())
    unit = l2_normalised((np.sign(scale) * vector)[None].astype(np.float32))
    expected = direct(engine, direction, unit)
    assert [one for one, _ in pairs(answer)] == [one for one, _ in expected]
    np.testing.assert_allclose(
        [score for _, score in pairs(answer)], [score for _, score in expected], atol=1e-5
    )


async def test_more_hits_than_items_gives_every_item(
    client: httpx.AsyncClient, world: World
) -> None:
    answer = await ask(client, T2I, query="a bus", k=1000)
    assert sorted(hit["id"] for hit in answer["hits"]) == sorted(world.ids)


async def test_a_hit_says_what_it_is(client: httpx.AsyncClient, world: World) -> None:
    hit = (await ask(client, T2I, query="a bus", k=1))["hits"][0]
    assert hit["metadata"]["row"] == world.ids.index(hit["id"])
    assert (await client.get(hit["image"])).headers["content-type"] == "image/webp"
    caption = (await ask(client, I2T, id="photo-07", k=1))["hits"][0]
    owner, _, position = caption["id"].rpartition("#")
    assert caption["caption"] == world.captions[2 * world.ids.index(owner) + int(position)]


async def test_without_explain_nothing_is_explained(client: httpx.AsyncClient) -> None:
    answer = await ask(client, T2I, query="a bus")
    assert all("explanation" not in hit for hit in answer["hits"])


async def test_an_explanation_shows_every_stage(
    client: httpx.AsyncClient, engine: SearchEngine
) -> None:
    answer = await ask(client, T2I, query="a white boat", k=9, explain=True)
    embedding = engine.encoder.encode_texts(["a white boat"])
    options = SearchOptions(k=9, budget=BUDGET, explain=True)
    shown = engine.cascade.search(T2I, embedding, options)[0].explanation
    assert shown is not None
    for rank, hit in enumerate(answer["hits"]):
        for name, value in hit["explanation"].items():
            assert value == getattr(shown, name)[rank], name
        # The gallery is its own bank: its pairs are not asked.
        assert set(hit["explanation"]) == set(vars(shown)) - {"expansion"}


async def test_every_stage_has_its_milliseconds(client: httpx.AsyncClient) -> None:
    spent = (await ask(client, T2I, query="a bus"))["milliseconds"]
    assert set(spent) == {"decode", "queue", "encode", "hash", "pq", "rerank", "total"}
    assert spent["decode"] == 0
    assert spent["total"] >= spent["encode"] + spent["hash"] + spent["pq"] + spent["rerank"] > 0


async def test_what_is_not_finite_in_metadata_is_null(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/search/{T2I}", json={"query": "a bus", "k": 1000})
    assert "NaN" not in response.text
    json.loads(response.text, parse_constant=pytest.fail)
