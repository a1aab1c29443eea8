"""What every answer says to a browser, and to which pages of other origins."""

from dataclasses import replace

import httpx
import pytest
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from service.app import create_app
from service.engine import SearchEngine
from service.headers import POLICY
from service.settings import ServiceSettings
from tests.service.asking import FaultyTexts
from tests.service.conftest import OpenClient
from tests.service.test_access import GUARDED, KEY
from tests.service.test_bad_input import JSON, T2I, problem
from tests.service.test_rates import SLOWLY

pytestmark = pytest.mark.anyio
PAGE = {"origin": "https://page.example"}
ASKING = {
    **PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "x-api-key,content-type",
}
WANTED = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def secured(response: httpx.Response) -> None:
    """Check that the answer has every header, each once."""
    for name, value in WANTED.items():
        assert response.headers.get_list(name) == [value], (response.url, name)
    assert "geolocation=()" in response.headers["permissions-policy"]
    assert len(response.headers.get_list("x-request-id")) == 1


def broken(engine: SearchEngine) -> SearchEngine:
    """The engine with a text tower that fails as no caller can make it fail."""
    assert engine.encoder.text is not None
    tower = FaultyTexts(engine.encoder.text, 0, LookupError("a secret of the server"), [])
    encoder = replace(engine.encoder, text=tower)
    return SearchEngine(engine.artifact, encoder, engine.cascade)


async def test_every_answer_is_secured(client: httpx.AsyncClient) -> None:
    html = {"accept": "text/html"}
    gets = ["/", "/page/main.js", "/docs", "/docs/start.js", "/openapi.json", "/healthz", "/index"]
    gets += ["/metrics", "/items/photo-07", "/items/photo-07/image", "/items/nobody", "/nowhere"]
    for path in gets:
        secured(await client.get(path, headers=html))
    unchanged = {"if-none-match": (await client.get("/page/main.js")).headers["etag"]}
    answer = await client.get("/page/main.js", headers=unchanged)
    assert answer.status_code == 304
    secured(answer)
    for body in ('{"query": "a bus"}', "{", '{"query": "a bus", "k": 0}', " " * 300_000):
        secured(await client.post(T2I, content=body, headers=JSON))
    secured(await client.request("BREW", "/index"))


async def test_refusals_and_faults_are_secured(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(broken(engine), **GUARDED, rate_limit=SLOWLY) as client:
        for headers, status in (({}, 401), ({"X-API-Key": KEY}, 500)):
            answer = await client.post(T2I, json={"query": "a bus"}, headers=headers)
            assert answer.status_code == status
            secured(answer)


async def test_a_fault_is_counted_logged_and_tells_nothing(
    engine: SearchEngine, open_client: OpenClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_client(broken(engine), cors_origins=PAGE["origin"]) as client:
        answer = await client.post(
            T2I, json={"query": "a bus"}, headers={"X-Request-ID": "mine", **PAGE}
        )
        assert problem(answer, 500, "internal")["request_id"] == "mine"
        assert answer.headers["access-control-allow-origin"] == PAGE["origin"]
        text = (await client.get("/metrics")).text
    assert "secret" not in answer.text
    [failure] = [record for record in caplog.records if "request mine failed" in record.message]
    assert failure.exc_info is not None
    assert 'meet_problems_total{code="internal"} 1.0' in text
    assert 'route="/search/text-to-image",status="500"} 1.0' in text


async def test_pages_of_other_origins_are_not_let_in(client: httpx.AsyncClient) -> None:
    assert (await client.options(T2I, headers=ASKING)).status_code == 405
    answer = await client.get("/index", headers=PAGE)
    assert not any(name.startswith("access-control") for name in answer.headers)


async def test_an_origin_that_is_named_is_let_in(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    told = {"cors_origins": "https://page.example, http://localhost:3000", **GUARDED}
    async with open_client(engine, **told) as client:
        preflight = await client.options(T2I, headers=ASKING)
        assert preflight.status_code == 200
        allowed = preflight.headers["access-control-allow-headers"].lower()
        assert "x-api-key" in allowed
        assert preflight.headers["access-control-allow-origin"] == PAGE["origin"]
        assert "access-control-allow-credentials" not in preflight.headers
        # A refusal can be read by the page, too.
        refusal = await client.post(T2I, json={"query": "a bus"}, headers=PAGE)
        problem(refusal, 401, "unauthorized")
        assert refusal.headers["access-control-allow-origin"] == PAGE["origin"]
        assert "X-Request-ID" in refusal.headers["access-control-expose-headers"]
        assert refusal.headers["cross-origin-resource-policy"] == "cross-origin"
        foreign = await client.options(T2I, headers={**ASKING, "origin": "https://else.example"})
        rule = "the preflight asks for what pages of other origins may not: "
        assert problem(foreign, 400, "bad_request")["detail"] == f"{rule}origin"
        assert "access-control-allow-origin" not in foreign.headers
        unusual = {**ASKING, "access-control-request-method": "PUT"}
        put = await client.options(T2I, headers=unusual)
        assert problem(put, 400, "bad_request")["detail"] == f"{rule}method"
        assert "HEAD" in put.headers["access-control-allow-methods"]


@pytest.mark.parametrize("origin", ["page.example", "https://page.example/", "https://a/b", "x"])
async def test_an_origin_is_scheme_and_host(engine: SearchEngine, origin: str) -> None:
    with pytest.raises(ValidationError, match="needs origins such as"):
        ServiceSettings.model_validate({"index": engine.artifact.root, "cors_origins": origin})


async def test_an_answer_that_has_begun_is_broken_off(engine: SearchEngine) -> None:
    app = create_app(ServiceSettings(index=engine.artifact.root), engine)

    async def half(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise LookupError("too late for another status")

    app.mount("/half", half)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://meet.test") as client:
        with pytest.raises(LookupError):
            await client.get("/half/")
