import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from service.engine import SearchEngine
from tests.service.conftest import LIMITS, OpenClient
from tests.service.world import DIM, World
from tests.support.pictures import huge_png

pytestmark = pytest.mark.anyio
T2I, I2T = "/search/text-to-image", "/search/image-to-text"
JSON = {"content-type": "application/json"}


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of a response that has to be this one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["type"] == f"urn:meet:problem:{code}"
    assert document["title"]
    assert document["instance"] == response.request.url.path
    assert document["request_id"] == response.headers["x-request-id"] != ""
    return document


def png(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return file.getvalue()


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(autouse=True)
async def _answers_afterwards(client: httpx.AsyncClient) -> AsyncIterator[None]:
    """Whatever a test did, the next good request is answered."""
    yield
    response = await client.post(T2I, json={"query": "a bus"})
    assert response.status_code == 200


@pytest.mark.parametrize("query", ["", "   \n", "\u3000"])
async def test_an_empty_query_is_refused(client: httpx.AsyncClient, query: str) -> None:
    problem(await client.post(T2I, json={"query": query}), 422, "text_rejected")


@pytest.mark.parametrize(
    ("query", "limit"), [("a " * 300, "256 words"), ("word " * 10_000, "2000 characters")]
)
async def test_a_long_query_is_refused_and_the_limit_named(
    client: httpx.AsyncClient, query: str, limit: str
) -> None:
    document = problem(await client.post(T2I, json={"query": query}), 422, "text_rejected")
    assert limit in document["detail"]


@pytest.mark.parametrize("k", [0, -1, 10**9, 10**30, 1.5, "ten", None, True])
async def test_a_k_that_breaks_its_rule_is_named(client: httpx.AsyncClient, k: object) -> None:
    for path, body in ((T2I, {"query": "a bus"}), (I2T, {"id": "photo-07"})):
        response = await client.post(path, json={**body, "k": k})
        error = problem(response, 422, "invalid_request")["errors"][0]
        assert error["field"] == "k"
        assert error["rule"]
        assert error["value"] == repr(k)


@pytest.mark.parametrize("name", ["k", "candidates", "timeout_ms"])
async def test_a_published_limit_is_named_where_it_is_broken(
    client: httpx.AsyncClient, name: str
) -> None:
    most = (await client.get("/index")).json()["limits"][f"max_{name}"]
    for path, body in ((T2I, {"query": "a bus"}), (I2T, {"id": "photo-07"})):
        assert (await client.post(path, json={**body, name: most})).status_code == 200
        response = await client.post(path, json={**body, name: most + 1})
        [error] = problem(response, 422, "invalid_request")["errors"]
        assert error["field"] == name
        assert error["rule"] == f"Input should be at most {most} (limits.max_{name})"
        assert error["value"] == str(most + 1)


@pytest.mark.parametrize("name", ["candidates", "timeout_ms"])
@pytest.mark.parametrize("value", [0, -5, 1.5, "ten", True])
async def test_a_number_that_breaks_its_rule_is_named(
    client: httpx.AsyncClient, name: str, value: object
) -> None:
    response = await client.post(T2I, json={"query": "a bus", name: value})
    [error] = problem(response, 422, "invalid_request")["errors"]
    assert (error["field"], error["value"]) == (name, repr(value))


async def test_an_upload_has_the_same_rule_for_k(client: httpx.AsyncClient) -> None:
    for k in ("0", "1000000000", "many"):
        response = await client.post(I2T, files={"image": jpeg()}, data={"k": k})
        assert problem(response, 422, "invalid_request")["errors"][0]["field"] == "k"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": "a bus", "vector": [1.0] * DIM},
        {"query": "a bus", "image_url": "http://example.com/a.jpg"},
        {"query": "a bus", "rerank": "magic"},
        {"query": "a bus", "explain": "yes"},
        {"query": 7},
        {"vector": []},
        {"vector": ["a"]},
        {"vector": {}},
        [],
        None,
        "a bus",
    ],
)
async def test_a_field_that_breaks_a_rule_is_named(client: httpx.AsyncClient, body: object) -> None:
    response = await client.post(T2I, content=json.dumps(body), headers=JSON)
    document = problem(response, 422, "invalid_request")
    assert all(error["field"] and error["rule"] for error in document["errors"])


async def test_a_mode_that_the_index_has_no_parts_for_is_refused(
    client: httpx.AsyncClient,
) -> None:
    for path, body in ((T2I, {"query": "a bus"}), (I2T, {"id": "photo-07"})):
        response = await client.post(path, json={**body, "rerank": "pillar"})
        detail = problem(response, 409, "unsupported_rerank")["detail"]
        assert "'pillar' needs an index built" in detail


@pytest.mark.parametrize(
    "body", ['{"vector": [NaN]}', '{"vector": [1e999]}', '{"vector": [-Infinity]}']
)
async def test_what_is_not_finite_is_refused(client: httpx.AsyncClient, body: str) -> None:
    response = await client.post(T2I, content=body, headers=JSON)
    document = problem(response, 422, "invalid_request")
    assert "finite" in document["errors"][0]["rule"]


@pytest.mark.parametrize("vector", [[0.0] * DIM, [1.0], [1.0] * (DIM + 1)])
async def test_a_vector_without_direction_or_of_another_width_is_refused(
    client: httpx.AsyncClient, vector: list[float]
) -> None:
    for path in (T2I, I2T):
        problem(await client.post(path, json={"vector": vector}), 422, "vector_rejected")


@pytest.mark.parametrize("body", ["", "{", "{'query': 1}", '{"query": "\\ud800"}', "[" * 9999])
async def test_broken_json_is_refused(client: httpx.AsyncClient, body: str) -> None:
    for path in (T2I, I2T):
        problem(await client.post(path, content=body, headers=JSON), 400, "broken_json")


async def test_a_wrong_content_type_is_refused_and_the_right_ones_named(
    client: httpx.AsyncClient,
) -> None:
    kinds = ("text/plain", "image/jpeg", "application/x-www-form-urlencoded", "", "ü", ";")
    for kind in kinds:
        headers = [(b"content-type", kind.encode("latin-1"))] if kind else []
        response = await client.post(T2I, content=b'{"query": "a bus"}', headers=headers)
        detail = problem(response, 415, "unsupported_media_type")["detail"]
        assert "application/json" in detail
        response = await client.post(I2T, content=jpeg(), headers=headers)
        detail = problem(response, 415, "unsupported_media_type")["detail"]
        assert "multipart/form-data" in detail


IMAGES = {
    "a text file renamed .jpg": (b"this is not a picture\n" * 50, "JPEG, PNG"),
    "no bytes": (b"", "no bytes"),
    "a truncated JPEG": (jpeg()[:-400], "broken or cut short"),
    "a JPEG's first bytes": (jpeg()[:20], "broken"),
    "a 1x1 image": (png((1, 1)), "1x1"),
    "a 30,000x30,000 PNG": (huge_png(30_000), "50000000 pixels, got 30000x30000"),
    "an SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "JPEG, PNG"),
    "random bytes behind a PNG's signature": (b"\x89PNG\r\n\x1a\n" + bytes(99), "broken"),
}


@pytest.mark.parametrize("name", IMAGES)
async def test_a_bad_image_is_refused_by_name(client: httpx.AsyncClient, name: str) -> None:
    data, reason = IMAGES[name]
    assert len(data) < LIMITS.max_body_bytes
    files = {"image": ("photo.jpg", data, "image/jpeg")}
    assert reason in problem(await client.post(I2T, files=files), 422, "image_rejected")["detail"]
    if len(data) < 100_000 and data:
        encoded = base64.b64encode(data).decode()
        problem(await client.post(I2T, json={"image": encoded}), 422, "image_rejected")


@pytest.mark.parametrize("text", ["", "not base64!", "aGFsbG8", "ü"])
async def test_what_is_no_base64_is_refused(client: httpx.AsyncClient, text: str) -> None:
    problem(await client.post(I2T, json={"image": text}), 422, "image_rejected")


async def test_a_form_without_its_file_is_refused(client: httpx.AsyncClient) -> None:
    cases: list[dict[str, Any]] = [
        {"files": {"photo": jpeg()}},
        {"files": {"k": (None, "3")}},
        {"files": {"image": (None, "text")}},
        {"files": {"k": ("k.txt", b"3")}},
        {"files": {"image": jpeg()}, "data": {"colour": "red"}},
    ]
    for case in cases:
        problem(await client.post(I2T, **case), 422, "invalid_request")


async def test_a_broken_form_is_refused(client: httpx.AsyncClient) -> None:
    two_files = [("image", jpeg()), ("image", jpeg())]
    problem(await client.post(I2T, files=two_files), 400, "broken_form")
    for boundary in ("", "; boundary=x"):
        headers = {"content-type": f"multipart/form-data{boundary}"}
        response = await client.post(I2T, content=b"--x\r\nno header\r\n", headers=headers)
        problem(response, 400, "broken_form")


async def test_a_body_above_the_limit_is_refused_by_its_declared_length(
    client: httpx.AsyncClient,
) -> None:
    body = json.dumps({"query": "a" * LIMITS.max_body_bytes})
    for path in (T2I, I2T):
        document = problem(
            await client.post(path, content=body, headers=JSON), 413, "body_too_large"
        )
        assert str(LIMITS.max_body_bytes) in document["detail"]
    files = {"image": bytes(LIMITS.max_body_bytes)}
    problem(await client.post(I2T, files=files), 413, "body_too_large")


async def test_a_body_without_a_length_is_counted(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * (LIMITS.max_body_bytes // 50)

    response = await client.post(T2I, content=chunks(), headers=JSON)
    problem(response, 413, "body_too_large")


async def test_an_unknown_id_is_named(client: httpx.AsyncClient) -> None:
    for item_id in ("nobody", "photo-07#9", ""):
        document = problem(await client.post(I2T, json={"id": item_id}), 404, "unknown_item")
        assert repr(item_id) in document["detail"]


async def test_a_caption_is_no_image_to_ask_with(client: httpx.AsyncClient) -> None:
    document = problem(await client.post(I2T, json={"id": "photo-07#1"}), 404, "unknown_item")
    assert "caption" in document["detail"]


async def test_unknown_routes_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nope"), 404, "not_found")
    problem(await client.get("/docs/assets/nope.js"), 404, "not_found")
    problem(await client.get("/index/"), 404, "not_found")
    response = await client.get(T2I)
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


async def test_a_gallery_of_regions_takes_no_upload(
    regions_root: Path, open_client: OpenClient
) -> None:
    async with open_client(SearchEngine.open(regions_root)) as client:
        response = await client.post(I2T, files={"image": jpeg()})
        assert "regions" in problem(response, 409, "unsupported_input")["detail"]
        assert (await client.get("/index")).json()["accepts"]["image-to-text"] == ["id", "vector"]
        assert (await client.post(I2T, json={"id": "photo-07"})).status_code == 200


async def test_a_gallery_of_vectors_takes_vectors_only(
    vectors_root: Path, open_client: OpenClient
) -> None:
    async with open_client(SearchEngine.open(vectors_root)) as client:
        problem(await client.post(T2I, json={"query": "a bus"}), 409, "unsupported_input")
        problem(await client.post(I2T, files={"image": jpeg()}), 409, "unsupported_input")
        answer = (await client.post(T2I, json={"vector": [1.0] * DIM, "explain": True})).json()
        assert answer["rerank"] == "consistency_only"
        explanation = answer["hits"][0]["explanation"]
        assert "reverse_rank" not in explanation
        assert (await client.get("/readyz")).status_code == 200


async def test_a_gallery_without_captions_has_none_to_find(
    images_root: Path, open_client: OpenClient, world: World
) -> None:
    async with open_client(SearchEngine.open(images_root)) as client:
        document = problem(
            await client.post(I2T, json={"id": world.ids[7]}), 409, "missing_modality"
        )
        assert "text" in document["detail"]
        problem(await client.post(I2T, files={"image": jpeg()}), 409, "missing_modality")
        assert (await client.post(T2I, json={"query": "a bus"})).status_code == 200
        assert (await client.get("/index")).json()["accepts"]["image-to-text"] == []
        assert (await client.get("/readyz")).status_code == 200


async def test_an_unexpected_error_shows_its_id_and_nothing_else(
    engine: SearchEngine, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    async with open_client(engine) as client:
        with monkeypatch.context() as patch:
            patch.setattr(engine.cascade, "search", broken)
            response = await client.post(T2I, json={"query": "a bus"})
            ready = await client.get("/readyz")
        document = problem(response, 500, "internal")
        assert document["request_id"] in document["detail"]
        assert "secret" not in response.text
        assert "RuntimeError" not in response.text
        problem(ready, 503, "not_ready")
        assert (await client.get("/readyz")).status_code == 200
