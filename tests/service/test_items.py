import io
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from PIL import Image

from service.engine import SearchEngine
from tests.service.conftest import OpenClient
from tests.service.world import HARD_IDS, World

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("item_id", [*HARD_IDS, "photo-07"])
async def test_an_image_is_found_by_its_encoded_id(
    client: httpx.AsyncClient, world: World, item_id: str
) -> None:
    answer = (await client.get(f"/items/{quote(item_id, safe='')}")).json()
    assert answer["id"] == item_id
    assert answer["modality"] == "image"
    assert answer["metadata"]["row"] == world.ids.index(item_id)
    assert answer["captions"] == [f"{item_id}#0", f"{item_id}#1"]


@pytest.mark.parametrize("item_id", HARD_IDS)
async def test_an_image_link_shows_the_image(client: httpx.AsyncClient, item_id: str) -> None:
    link = (await client.get(f"/items/{quote(item_id, safe='')}")).json()["image"]
    response = await client.get(link)
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["x-content-type-options"] == "nosniff"
    with Image.open(io.BytesIO(response.content)) as thumbnail:
        assert thumbnail.size == (16, 16)


async def test_a_slash_in_an_id_may_stay(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/items/street/corner%207%20%232")).json()
    assert answer["id"] == "street/corner 7 #2"


async def test_a_caption_names_its_image(client: httpx.AsyncClient, world: World) -> None:
    answer = (await client.get(f"/items/{quote('a/image#1', safe='')}")).json()
    assert answer["modality"] == "text"
    assert answer["caption"] == world.captions[2 * world.ids.index("a/image") + 1]
    assert answer["image_id"] == "a/image"
    assert answer["image"] == "/items/a%2Fimage/image"
    assert answer["metadata"]["row"] == world.ids.index("a/image")


async def test_the_full_size_is_the_source_file(client: httpx.AsyncClient, world: World) -> None:
    response = await client.get("/items/photo-07/image", params={"size": "full"})
    assert response.headers["content-type"] == "image/png"
    assert response.content == world.image_path(7).read_bytes()


async def test_another_size_is_refused_by_name(client: httpx.AsyncClient) -> None:
    response = await client.get("/items/photo-07/image", params={"size": "huge"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "query.size"


async def test_without_thumbnails_the_source_is_shown(
    regions_root: Path, open_client: OpenClient, world: World
) -> None:
    async with open_client(SearchEngine.open(regions_root)) as client:
        response = await client.get("/items/photo-09/image")
        assert response.content == world.image_path(9).read_bytes()


@pytest.mark.parametrize("content", [None, b"<script>alert(1)</script>"])
async def test_a_source_that_is_gone_or_no_picture_is_not_shown(
    client: httpx.AsyncClient, world: World, content: bytes | None
) -> None:
    path = world.image_path(11)
    kept = path.read_bytes()
    try:
        path.unlink() if content is None else path.write_bytes(content)
        response = await client.get("/items/photo-11/image", params={"size": "full"})
    finally:
        path.write_bytes(kept)
    assert response.status_code == 404
    assert response.json()["code"] == "no_image"
    assert str(world.directory) not in response.text


async def test_a_caption_has_no_picture_of_its_own(client: httpx.AsyncClient) -> None:
    response = await client.get("/items/photo-07%231/image")
    assert (response.status_code, response.json()["code"]) == (404, "no_image")


@pytest.mark.parametrize("path", ["nobody", "", "..%2F..%2Fetc%2Fpasswd"])
async def test_an_unknown_id_is_a_problem(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(f"/items/{path}")
    assert (response.status_code, response.json()["code"]) == (404, "unknown_item")
    assert (await client.get(f"/items/{path}/image")).status_code == 404
