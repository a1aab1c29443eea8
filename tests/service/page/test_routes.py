import re

import httpx
import pytest

from service.engine import SearchEngine
from tests.service.conftest import OpenClient

pytestmark = pytest.mark.anyio

WRITES_MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\("
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize("accept", [*BROWSER.values(), "*/*", "text/*;q=0.5", ""])
async def test_whoever_takes_html_gets_the_page(client: httpx.AsyncClient, accept: str) -> None:
    page = await client.get("/", headers={"accept": accept})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["vary"] == "Accept"


async def test_others_get_the_404_of_any_unknown_route(client: httpx.AsyncClient) -> None:
    other = await client.get("/", headers={"accept": "application/json"})
    assert (other.status_code, other.json()["code"]) == (404, "not_found")


async def test_every_file_of_the_page_lies_under_the_strict_policy(
    client: httpx.AsyncClient,
) -> None:
    wanted = {
        "default-src": "'self'",
        "img-src": "'self' blob: data:",
        "script-src": "'self'",
        "style-src": "'self'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    page = await client.get("/", headers=BROWSER)
    linked = re.findall(r'(?:src|href)="(page/[\w.]+)', page.text)
    assert {"page/main.js", "page/base.css", "page/icons.svg"} <= set(linked)
    for response in [page, *[await client.get(f"/{name}") for name in linked]]:
        assert response.status_code == 200, response.url
        policy = response.headers["content-security-policy"]
        parts = dict(one.strip().split(" ", 1) for one in policy.split(";"))
        assert parts == wanted
        assert response.headers["x-content-type-options"] == "nosniff"


async def test_the_page_holds_no_inline_script_style_or_handler(client: httpx.AsyncClient) -> None:
    text = (await client.get("/", headers=BROWSER)).text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|https?://", text)


async def test_no_script_of_the_page_writes_markup(client: httpx.AsyncClient) -> None:
    text = (await client.get("/", headers=BROWSER)).text
    todo, seen = re.findall(r'src="page/([\w.]+)"', text), set[str]()
    while todo:
        name = todo.pop()
        script = (await client.get(f"/page/{name}")).text
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script
        )
        seen.add(name)
        todo += set(re.findall(r'from "\./([\w.]+)"', script)) - seen
    assert {"main.js", "hits.js", "bump.js"} <= seen


async def test_an_unchanged_file_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/page/main.js")
    again = await client.get("/page/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize(
    "name", ["index.html", "no.js", "..%2Fapp.py", "%2e%2e%2fapp.py", ".", "__pycache__"]
)
async def test_nothing_else_of_the_package_is_handed_out(
    engine: SearchEngine, open_client: OpenClient, name: str
) -> None:
    async with open_client(engine) as client:
        assert (await client.get(f"/page/{name}")).status_code == 404
