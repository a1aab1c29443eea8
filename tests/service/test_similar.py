"""More like an item: items of its own kind by cosine, of the other by the whole cascade."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.core.types import Direction, FloatArray, Modality
from model.core.vectors import l2_normalised
from service.engine import SearchEngine
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import I2T, T2I, problem
from tests.service.test_search import direct, pairs
from tests.service.world import CAPTIONS_EACH, World

pytestmark = pytest.mark.anyio
SIMILAR = "/search/similar"
IMAGE, TEXT = Modality.IMAGE, Modality.TEXT


async def similar(client: httpx.AsyncClient, **body: object) -> dict[str, Any]:
    response = await client.post(SIMILAR, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def unit(engine: SearchEngine, modality: Modality, row: int) -> FloatArray:
    stored = engine.artifact.side(modality).embeddings[row].astype(np.float32)
    return l2_normalised(stored[None])


def by_cosine(engine: SearchEngine, modality: Modality, row: int) -> list[tuple[str, float]]:
    """Every other item of its kind, best first, from a plain sort."""
    side = engine.artifact.side(modality)
    exact = side.embeddings.astype(np.float64) @ unit(engine, modality, row)[0].astype(np.float64)
    order = sorted(range(len(side)), key=lambda one: (-np.float32(exact[one]), one))
    return [(side.items[one].id, float(exact[one])) for one in order if one != row]


@pytest.mark.parametrize("modality", Modality)
async def test_with_a_full_budget_items_of_a_kind_are_those_of_an_exact_search(
    client: httpx.AsyncClient, engine: SearchEngine, modality: Modality
) -> None:
    side = engine.artifact.side(modality)
    for row in (0, 3, 17, len(side) - 1):
        item_id = side.items[row].id
        answer = await similar(client, id=item_id, k=25, candidates=len(side))
        expected = by_cosine(engine, modality, row)[:25]
        assert [one for one, _ in pairs(answer)] == [one for one, _ in expected]
        np.testing.assert_allclose(
            [score for _, score in pairs(answer)], [score for _, score in expected], atol=1e-5
        )
        assert (answer["direction"], answer["rerank"]) == (f"{modality}-to-{modality}", "none")
        assert [hit["rank"] for hit in answer["hits"]] == list(range(25))


async def test_the_item_itself_is_never_a_hit_however_many_are_wanted(
    client: httpx.AsyncClient, world: World
) -> None:
    answer = await similar(client, id=world.ids[5], k=1000)
    assert sorted(one for one, _ in pairs(answer)) == sorted({*world.ids} - {world.ids[5]})
    assert len((await similar(client, id=world.ids[5], k=1))["hits"]) == 1


async def test_explained_ranks_are_those_of_a_gallery_without_the_item(
    client: httpx.AsyncClient, world: World
) -> None:
    answer = await similar(client, id=world.ids[5], k=1000, explain=True, candidates=60)
    shown = [hit["explanation"] for hit in answer["hits"]]
    assert [one["rank_after_rerank"] for one in shown] == list(range(59))
    for name in ("rank_after_hash", "rank_after_pq"):
        assert sorted(one[name] for one in shown) == list(range(59))


async def test_siblings_of_a_caption_are_kept_and_marked(
    client: httpx.AsyncClient, world: World
) -> None:
    answer = await similar(client, id="photo-07#1", k=1000)
    marked = [hit["id"] for hit in answer["hits"] if hit.get("same_image")]
    assert marked == ["photo-07#0"]
    assert len(answer["hits"]) == CAPTIONS_EACH * len(world.ids) - 1
    assert all(hit.get("same_image", True) for hit in answer["hits"])


async def test_the_other_kind_is_found_by_the_whole_cascade(
    client: httpx.AsyncClient, engine: SearchEngine, world: World
) -> None:
    captions = await similar(client, id=world.ids[7], to="text", k=120)
    assert pairs(captions) == direct(engine, Direction.IMAGE_TO_TEXT, unit(engine, IMAGE, 7), 120)
    own = {f"{world.ids[7]}#{number}" for number in range(CAPTIONS_EACH)}
    assert {hit["id"] for hit in captions["hits"] if hit.get("same_image")} == own
    assert captions["rerank"] == "relationship"
    pictures = await similar(client, id="photo-07#1", to="image", k=60)
    assert pairs(pictures) == direct(engine, Direction.TEXT_TO_IMAGE, unit(engine, TEXT, 15), 60)
    assert [hit["id"] for hit in pictures["hits"] if hit.get("same_image")] == ["photo-07"]


async def test_a_caption_asks_for_images_by_its_id_as_an_image_for_captions(
    client: httpx.AsyncClient, engine: SearchEngine
) -> None:
    answer = (await client.post(T2I, json={"id": "photo-07#1", "k": 5})).json()
    assert pairs(answer) == direct(engine, Direction.TEXT_TO_IMAGE, unit(engine, TEXT, 15), 5)
    detail = problem(await client.post(T2I, json={"id": "photo-07"}), 404, "unknown_item")["detail"]
    assert detail == "'photo-07' is an image, the id of a caption is needed"
    detail = problem(await client.post(I2T, json={"id": "photo-07#0"}), 404, "unknown_item")[
        "detail"
    ]
    assert detail == "'photo-07#0' is a caption, the id of an image is needed"


async def test_items_of_a_kind_move_by_texts(
    client: httpx.AsyncClient, engine: SearchEngine, world: World
) -> None:
    answer = await similar(client, id=world.ids[5], minus="a bus", k=59, candidates=60)
    minus = engine.encoder.encode_texts(["a bus"])[0].astype(np.float64)
    moved = unit(engine, IMAGE, 5)[0] - 0.5 * minus
    exact = engine.artifact.side(IMAGE).embeddings.astype(np.float64) @ moved
    order = [world.ids[row] for row in np.argsort(-exact, kind="stable") if row != 5]
    assert [one for one, _ in pairs(answer)] == order


@pytest.mark.parametrize("rerank", ["relationship", "reference"])
async def test_items_of_a_kind_are_not_re_ranked_by_what_they_lack(
    client: httpx.AsyncClient, world: World, rerank: str
) -> None:
    response = await client.post(SIMILAR, json={"id": world.ids[5], "rerank": rerank})
    detail = problem(response, 409, "unsupported_rerank")["detail"]
    assert "image-to-image is ranked by cosine" in detail
    for fields in ({"rerank": "none"}, {"rerank": rerank, "to": "text"}):
        assert (await similar(client, id=world.ids[5], **fields))["rerank"] == fields["rerank"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"id": "nobody"}, 404, "unknown_item"),
        ({}, 422, "invalid_request"),
        ({"id": "photo-07", "to": "sound"}, 422, "invalid_request"),
        ({"id": "photo-07", "k": 5000}, 422, "invalid_request"),
        ({"id": "photo-07", "query": "a bus"}, 422, "invalid_request"),
    ],
)
async def test_what_breaks_a_rule_is_named(
    client: httpx.AsyncClient, body: dict[str, object], status: int, code: str
) -> None:
    problem(await client.post(SIMILAR, json=body), status, code)


async def test_a_gallery_of_one_kind_finds_that_kind(
    images_root: Path, open_client: OpenClient, world: World
) -> None:
    async with open_client(SearchEngine.open(images_root)) as client:
        assert len((await similar(client, id=world.ids[5]))["hits"]) == 10
        response = await client.post(SIMILAR, json={"id": world.ids[5], "to": "text"})
        problem(response, 409, "missing_modality")
        accepts = (await client.get("/index")).json()["accepts"]
    assert accepts["image-to-image"] == ["id"]
    assert accepts["text-to-text"] == []
    assert accepts["text-to-image"] == ["query", "vector"]


@pytest.mark.parametrize("modality", Modality)
async def test_pages_of_one_kind_fit_together_without_the_item(
    client: httpx.AsyncClient, engine: SearchEngine, modality: Modality
) -> None:
    side = engine.artifact.side(modality)
    body = {"id": side.items[9].id, "candidates": len(side), "explain": True}
    whole = await similar(client, **body, k=30)
    pages = [await similar(client, **body, k=10, offset=start) for start in (0, 10, 20)]
    assert [hit for page in pages for hit in page["hits"]] == whole["hits"]
    assert [hit["rank"] for hit in pages[2]["hits"]] == list(range(20, 30))
    told = await similar(
        client, **body, k=5, offset=5, why_not=[hit["id"] for hit in whole["hits"][:12]]
    )
    fates = [one["fate"] for one in told["why_not"]]
    assert fates == ["earlier"] * 5 + ["found"] * 5 + ["rerank"] * 2


async def test_filters_and_collapsing_hold_among_items_of_one_kind(
    client: httpx.AsyncClient, world: World
) -> None:
    answer = await similar(client, id=world.ids[5], k=60, filter={"row": {"gte": 30}})
    assert {hit["id"] for hit in answer["hits"]} == set(world.ids[30:])
    merged = await similar(client, id=world.ids[5], k=60, candidates=60, collapse=4)
    shown = [hit["id"] for hit in merged["hits"]]
    hidden = [one for hit in merged["hits"] for one in hit["duplicates"]]
    assert world.ids[5] not in shown + hidden
    assert len(set(shown + hidden)) == len(shown + hidden)
    told = await similar(client, id=world.ids[5], k=60, candidates=60, collapse=4,
                         why_not=[*hidden[:3], *shown[:3]])  # fmt: skip
    owners = {one: hit["id"] for hit in merged["hits"] for one in hit["duplicates"]}
    for one in told["why_not"]:
        if one["id"] in owners:
            assert (one["fate"], one["represented_by"]) == ("collapsed", owners[one["id"]])
        else:
            assert one["fate"] == "found"
