"""What refusals say: one rule, the field by name, what to send instead, and no long echo."""

import gzip
import json
from base64 import b64encode

import httpx
import pytest

from model.core.brief import shortened
from tests.service.test_bad_input import I2T, T2I, jpeg, problem
from tests.service.world import World

pytestmark = pytest.mark.anyio
SIMILAR = "/search/similar"
A_TEXT = "Input should be a text or a list of at most 16 texts"
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("name", ["plus", "minus"])
@pytest.mark.parametrize("told", [3, True, [1, 2], {"a": 1}, ["a", None], ["a"] * 17])
async def test_a_field_of_several_kinds_breaks_one_rule(
    client: httpx.AsyncClient, name: str, told: object
) -> None:
    for path, query in ((T2I, {"query": "a bus"}), (SIMILAR, {"id": "photo-07"})):
        response = await client.post(path, json={**query, name: told})
        [error] = problem(response, 422, "invalid_request")["errors"]
        assert (error["field"], error["rule"]) == (name, A_TEXT)


async def test_a_moving_text_in_a_form_or_an_entry_breaks_the_same_rule(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post(I2T, files={"image": jpeg()}, data={"plus": "[1]"})
    [error] = problem(response, 422, "invalid_request")["errors"]
    assert (error["field"], error["rule"], error["value"]) == ("plus", A_TEXT, "[1]")
    entries = [{"query": "a bus", "plus": 3}]
    [found] = (await client.post(T2I, json={"queries": entries})).json()["answers"]
    assert [(one["field"], one["rule"]) for one in found["errors"]] == [("plus", A_TEXT)]


@pytest.mark.parametrize("told", [{"plus": ""}, {"minus": ["a bus", " "]}, {"query": "\n"}])
async def test_an_empty_text_is_named(client: httpx.AsyncClient, told: dict[str, object]) -> None:
    response = await client.post(T2I, json={"query": "a bus", **told})
    detail = problem(response, 422, "text_rejected")["detail"]
    assert detail == f"`{next(iter(told))}` needs at least one word, got none"


@pytest.mark.parametrize(
    ("body", "there"),
    [
        ({}, "none was given"),
        ({"query": "a", "vector": [1.0]}, "`query` and `vector` were given"),
        ({"query": "a", "id": "b", "queries": ["c"]}, "`query` and `id` and `queries` were given"),
    ],
)
async def test_what_was_given_of_the_queries_is_said_once(
    client: httpx.AsyncClient, body: dict[str, object], there: str
) -> None:
    document = problem(await client.post(T2I, json=body), 422, "invalid_request")
    rule = "exactly one of `query`, `id`, `vector`, `queries` is needed"
    assert document["errors"][0]["rule"] == f"{rule}, {there}"
    assert document["detail"].count("got") == 1


@pytest.mark.parametrize(
    "head",
    ["data:image/png;base64", "data:image/svg+xml;charset=utf-8;base64", " DATA:image/x;BASE64"],
)
async def test_a_data_url_of_an_image_is_read(
    client: httpx.AsyncClient, world: World, head: str
) -> None:
    coded = b64encode(world.image_path(7).read_bytes()).decode()
    plain = await client.post(I2T, json={"image": coded})
    found = await client.post(I2T, json={"image": f"{head},{coded}"})
    assert found.json()["hits"] == plain.json()["hits"]


@pytest.mark.parametrize(
    "url",
    [
        "data:text/plain;base64,aGFsbG8=",
        "data:image/png,rawbytes",
        "data:,",
        "data:image/png;base64,not base64!",
        "https://example.com/a.jpg",
        "not base64, at all",
    ],
)
async def test_what_else_is_in_place_of_an_image_is_told_what_to_send(
    client: httpx.AsyncClient, url: str
) -> None:
    detail = problem(await client.post(I2T, json={"image": url}), 422, "image_rejected")["detail"]
    assert "takes an image file in base64, or as a data URL (data:image/png;base64,…)" in detail
    assert "URLs are not fetched" in detail


async def test_a_form_that_breaks_off_is_no_smaller_form(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    whole = head + jpeg() + b'\r\n--x\r\nContent-Disposition: form-data; name="k"\r\n\r\n3\r\n--x--'
    assert (await client.post(I2T, content=whole, headers=headers)).status_code == 200
    for length in (0, 3, 40, len(head), len(head) + 99, len(whole) - 40, len(whole) - 2):
        response = await client.post(I2T, content=whole[:length], headers=headers)
        detail = problem(response, 400, "broken_form")["detail"]
        assert detail == "the form breaks off: its last boundary is missing"


async def test_a_field_of_a_form_is_given_once(client: httpx.AsyncClient) -> None:
    told = {"k": ["1", "2"], "minus": ["a", "b"], "explain": "true"}
    response = await client.post(I2T, files={"image": jpeg()}, data=told)
    errors = problem(response, 422, "invalid_request")["errors"]
    rule = "is given once, lists are sent as JSON"
    assert [(one["field"], one["rule"]) for one in errors] == [("k", rule), ("minus", rule)]


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity", "x" * 5000])
async def test_a_packed_body_is_refused_and_its_header_named(
    client: httpx.AsyncClient, coding: str
) -> None:
    packed = gzip.compress(json.dumps({"query": "a bus"}).encode())
    headers = {**JSON, "content-encoding": coding}
    forms = {**headers, "content-type": "multipart/form-data; boundary=x"}
    for path, told in ((T2I, headers), (I2T, headers), (I2T, forms), (SIMILAR, headers)):
        response = await client.post(path, content=packed, headers=told)
        detail = problem(response, 415, "unsupported_media_type")["detail"]
        assert "without Content-Encoding" in detail
        assert len(detail) < 200


async def test_an_identity_coding_is_no_packing(client: httpx.AsyncClient) -> None:
    headers = {**JSON, "content-encoding": " Identity "}
    response = await client.post(T2I, content=b'{"query": "a bus"}', headers=headers)
    assert response.status_code == 200


LONG = "x" * 5000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (I2T, {"id": LONG}),
        (SIMILAR, {"id": LONG}),
        (T2I, {"query": "a", LONG: 1}),
        (T2I, {"query": "a", "rerank": LONG}),
        (T2I, {"query": "a", "filter": {LONG: {"zz": 1}}}),
        (T2I, {"query": "a", "filter": {LONG: {"gt": LONG, "lt": 1}}}),
        (T2I, {"query": "a", "filter": {"a": {LONG: 1}}}),
        (T2I, {"query": "a", "filter": {"a": [LONG] * 99}}),
        (T2I, {LONG: {LONG: [LONG] * 99}}),
        (I2T, {"image": LONG + "!"}),
        (SIMILAR, {"id": "photo-07", "to": LONG}),
    ],
)
async def test_what_is_long_is_not_echoed_whole(
    client: httpx.AsyncClient, path: str, body: dict[str, object]
) -> None:
    response = await client.post(path, json=body)
    assert 400 <= response.status_code < 500
    assert len(response.text) < 1500
    assert "x" * 81 not in response.text


@pytest.mark.parametrize("path", ["/items/{}", "/items/{}/image", "/nope/{}", "/page/{}"])
async def test_a_long_path_is_shortened(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path.format(LONG))
    document = response.json()
    assert response.status_code == document["status"] == 404
    assert document["instance"] == shortened(path.format(LONG))
    assert len(response.text) < 600


async def test_a_long_size_or_type_or_liking_is_shortened(client: httpx.AsyncClient) -> None:
    size = await client.get("/items/photo-07/image", params={"size": LONG})
    media = await client.post(T2I, content=b"{}", headers={"content-type": f"text/{LONG}"})
    liking = await client.post(T2I, json={"query": "a"}, headers={"accept": f"text/{LONG}"})
    assert [one.status_code for one in (size, media, liking)] == [422, 415, 406]
    assert all(len(one.text) < 700 for one in (size, media, liking))


@pytest.mark.parametrize("charset", ["unicode_escape", "undefined", "punycode", "utf-7"])
@pytest.mark.parametrize("name", ["plus", "filter"])
async def test_a_form_is_utf_8_whatever_it_says(
    client: httpx.AsyncClient, charset: str, name: str
) -> None:
    value = r'{"a": "\ud800"}' if name == "filter" else r"\ud800"
    parts = (
        f'--x\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        '--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\nno\r\n--x--\r\n'
    )
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    response = await client.post(I2T, content=parts.encode(), headers=headers)
    assert response.status_code == 422
