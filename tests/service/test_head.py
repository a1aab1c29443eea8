"""HEAD: the answer of GET without its body, wherever GET is answered."""

import httpx
import pytest

from service.engine import SearchEngine
from tests.service.asking import parts_of
from tests.service.conftest import OpenClient
from tests.service.test_access import GUARDED

pytestmark = pytest.mark.anyio
HTML = {"accept": "text/html"}
PATHS = (
    *("/", "/page/main.js", "/docs", "/docs/start.js", "/docs/assets/favicon.png"),
    *("/openapi.json", "/healthz", "/readyz", "/index", "/items/photo-07", "/items/nobody"),
    *("/items/photo-07/image", "/items/photo-07/image?size=full", "/nowhere", "/page/nothing.js"),
)
OWN = {"x-request-id", "date"}  # what differs between any two answers


def told(response: httpx.Response) -> dict[str, str]:
    return {name: one for name, one in response.headers.items() if name not in OWN}


@pytest.mark.parametrize("path", PATHS)
async def test_the_head_of_a_get_comes_without_its_body(
    client: httpx.AsyncClient, path: str
) -> None:
    whole, head = [await client.request(m, path, headers=HTML) for m in ("GET", "HEAD")]
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert told(head) == told(whole)
    assert int(head.headers["content-length"]) == len(whole.content) > 0


async def test_metrics_answer_it_too(client: httpx.AsyncClient) -> None:
    head = await client.head("/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/plain")


async def test_what_was_read_before_is_not_sent_again(client: httpx.AsyncClient) -> None:
    etag = (await client.head("/page/main.js")).headers["etag"]
    head = await client.head("/page/main.js", headers={"if-none-match": etag})
    assert head.status_code == 304


@pytest.mark.parametrize("path", ["/search/text-to-image", "/index/activate"])
async def test_what_is_only_posted_has_no_head(client: httpx.AsyncClient, path: str) -> None:
    head = await client.head(path)
    assert (head.status_code, head.content) == (405, b"")
    assert head.headers["allow"] == "POST"


async def test_what_may_be_asked_of_a_route_names_it(client: httpx.AsyncClient) -> None:
    refused = await client.post("/index")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, HEAD"


async def test_keys_hold_for_it(engine: SearchEngine, open_client: OpenClient) -> None:
    async with open_client(engine, **GUARDED) as client:
        assert (await client.head("/index")).status_code == 401


async def test_it_is_counted_under_its_own_name(client: httpx.AsyncClient) -> None:
    await client.head("/index")
    read = parts_of(client).metrics.registry.get_sample_value
    labels = {"method": "HEAD", "route": "/index"}
    assert read("meet_request_duration_seconds_count", labels) == 1
    assert read("meet_requests_total", {**labels, "status": "200"}) == 1


async def test_the_description_does_not_list_it(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {method for operations in paths.values() for method in operations} == {"get", "post"}
