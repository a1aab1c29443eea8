"""Who may ask: keys from variables and files, in both headers, and what is said to whom."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, Depends
from pydantic import ValidationError

from service.access import presented, require_admin
from service.app import create_app
from service.cli import main
from service.engine import SearchEngine
from service.keys import KeyRing, fingerprint, listed_keys, read_keys
from service.settings import ServiceSettings
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import problem
from tests.service.test_operations import metrics
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio
T2I = "/search/text-to-image"
KEY, OTHER, ADMIN = "search-key-1", "search-key-2", "admin-key-1"
GUARDED = {"search_keys": f"{KEY}, {OTHER}", "admin_keys": ADMIN}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def asked(client: httpx.AsyncClient, headers: dict[str, str]) -> int:
    body = {"query": "a bus", "k": 1}
    return (await client.post(T2I, json=body, headers=headers)).status_code


async def test_without_keys_searching_is_open(client: httpx.AsyncClient) -> None:
    assert await asked(client, {}) == 200
    assert await asked(client, bearer("whatever")) == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer(KEY), 200),
        (bearer(OTHER), 200),
        (bearer(ADMIN), 200),
        ({"X-API-Key": KEY}, 200),
        ({"Authorization": f"bEaReR   {KEY} "}, 200),
        (bearer(KEY[:-1]), 401),
        (bearer(f"{KEY}1"), 401),
        (bearer(KEY.upper()), 401),
        (bearer(""), 401),
        ({"Authorization": KEY}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": "Basic dTpw", "X-API-Key": KEY}, 200),
        ({"X-API-Key": f"{KEY},{OTHER}"}, 401),
    ],
)
async def test_a_search_needs_one_of_the_keys(
    engine: SearchEngine, open_client: OpenClient, headers: dict[str, str], status: int
) -> None:
    async with open_client(engine, **GUARDED) as client:
        assert await asked(client, headers) == status


async def test_what_shows_the_gallery_is_guarded_and_nothing_else_is(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    guarded = ["/index", "/items/photo-07", "/items/photo-07/image", "/items/nobody"]
    html = {"accept": "text/html"}
    async with open_client(engine, **GUARDED) as client:
        for path in guarded:
            problem(await client.get(path), 401, "unauthorized")
            assert (await client.get(path, headers=bearer(KEY))).status_code in {200, 404}
        # An image upload is refused before its body is looked at.
        answer = await client.post("/search/image-to-text", content=b"no form")
        problem(answer, 401, "unauthorized")
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/"):
            assert (await client.get(path, headers=html)).status_code == 200, path


async def test_a_refusal_says_how_to_come_in(engine: SearchEngine, open_client: OpenClient) -> None:
    async with open_client(engine, **GUARDED) as client:
        without = await client.get("/index")
        wrong = await client.get("/index", headers=bearer("wrong-key"))
    assert without.headers["www-authenticate"] == 'Bearer realm="meet"'
    assert wrong.headers["www-authenticate"] == 'Bearer realm="meet", error="invalid_token"'
    assert "wrong-key" not in wrong.text
    assert KEY not in wrong.text


@asynccontextmanager
async def with_admin_route(
    engine: SearchEngine, **told: object
) -> AsyncIterator[httpx.AsyncClient]:
    settings = ServiceSettings.model_validate({"index": engine.artifact.root, **told})
    app = create_app(settings, engine)
    router = APIRouter()

    @router.post("/index/test")
    async def changed() -> str:
        return "changed"

    app.include_router(router, dependencies=[Depends(require_admin)])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://meet.test") as client:
        yield client


@pytest.mark.parametrize(
    ("told", "headers", "status", "code"),
    [
        ({}, {}, 403, "forbidden"),
        ({}, bearer(ADMIN), 403, "forbidden"),
        ({"search_keys": KEY}, bearer(KEY), 403, "forbidden"),
        (GUARDED, {}, 401, "unauthorized"),
        (GUARDED, bearer(KEY), 401, "unauthorized"),
        (GUARDED, bearer("no"), 401, "unauthorized"),
        (GUARDED, {"X-API-Key": ADMIN}, 200, ""),
        ({"admin_keys": ADMIN}, bearer(ADMIN), 200, ""),
    ],
)
async def test_an_admin_route_opens_for_an_admin_key_alone(
    engine: SearchEngine, told: dict[str, str], headers: dict[str, str], status: int, code: str
) -> None:
    async with with_admin_route(engine, **told) as client:
        answer = await client.post("/index/test", headers=headers)
    if code:
        problem(answer, status, code)
    else:
        assert (answer.status_code, answer.json()) == (200, "changed")


async def test_metrics_can_be_guarded_by_any_key(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine, **GUARDED, guard_metrics=True) as client:
        problem(await client.get("/metrics"), 401, "unauthorized")
        for key in (KEY, ADMIN):
            assert (await client.get("/metrics", headers=bearer(key))).status_code == 200


async def test_guarded_metrics_without_a_key_do_not_start(index_root: Path) -> None:
    with pytest.raises(ValidationError, match="needs search keys or admin keys"):
        ServiceSettings(index=index_root, guard_metrics=True)


async def test_no_key_is_shown_anywhere(
    engine: SearchEngine, open_client: OpenClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "keys"
    file.write_text("filed-key-9\n")
    told = {**GUARDED, "search_keys_file": file}
    seen = [repr(ServiceSettings.model_validate({"index": engine.artifact.root, **told}))]
    async with open_client(engine, **told) as client:
        access = client._transport.app.state.access  # type: ignore[attr-defined]
        seen += [repr(access), repr(vars(access)), repr([vars(one) for one in rings(access)])]
        for key in (KEY, "filed-key-9", ADMIN, "guessed-key"):
            answers = [await client.get("/index", headers=bearer(key))]
            answers.append(await client.get("/metrics", headers=bearer(key)))
            seen += [str(one.headers) + one.text for one in answers]
    fields = [str(getattr(record, "fields", "")) for record in caplog.records]
    assert any(fingerprint(KEY.encode()) in one for one in fields)
    seen += [*caplog.messages, *fields]
    for secret in (KEY, OTHER, ADMIN, "filed-key-9", "guessed-key"):
        assert not any(secret in one for one in seen), secret


def rings(access: object) -> list[KeyRing]:
    return [one for one in vars(access).values() if isinstance(one, KeyRing)]


async def test_refusals_are_counted_as_such(engine: SearchEngine, open_client: OpenClient) -> None:
    async with open_client(engine, **GUARDED) as client:
        await client.get("/index")
        samples = await metrics(client)
    assert samples["meet_rejects_total", "unauthorized"] == 1
    assert samples["meet_problems_total", "unauthorized"] == 1


def test_a_file_of_keys_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n\n  one-key  \r\n\ttwo,key\n   # none\nthree#key\n")
    assert read_keys(file) == ["one-key", "two,key", "three#key"]
    assert listed_keys(" a, b,,c ") == ["a", "b", "c"]


def test_a_file_is_read_again_when_it_changes_and_stays_when_it_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text("old-key\n")
    ring = KeyRing(["fixed"], file, clock)
    assert (ring.admits(b"old-key"), ring.admits(b"new-key")) == (True, False)
    file.write_text("a-new-key\n")
    assert ring.admits(b"old-key"), "the file is looked at once a second"
    clock.now += 1.0
    assert (ring.admits(b"old-key"), ring.admits(b"a-new-key")) == (False, True)
    file.unlink()
    clock.now += 1.0
    assert ring.admits(b"a-new-key")
    assert "API keys stay as they were" in caplog.text
    file.write_text("# all keys were taken back\n")
    clock.now += 1.0
    assert not ring.admits(b"a-new-key")
    assert ring.guards, "an empty file closes the door, it does not open it"
    assert ring.admits(b"fixed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "holds none"),
        (b"# a comment\n", "holds none"),
        (b"\xff\xfe", "UTF-8"),
        (b"two words\n", "visible ASCII without spaces"),
        ("schlüssel\n".encode(), "visible ASCII"),
    ],
)
def test_a_server_does_not_start_with_a_bad_file_of_keys(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    message: str,
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("MEET_SEARCH_KEYS_FILE", str(file))
    assert main(["--index", str(tmp_path)]) == 2
    [sentence] = capfd.readouterr().err.splitlines()
    assert "MEET_SEARCH_KEYS_FILE" in sentence
    assert message in sentence


def test_variables_hold_keys_as_a_comma_list_that_no_message_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEET_SEARCH_KEYS", "a-key,b-key")
    monkeypatch.setenv("MEET_ADMIN_KEYS", "secret word")
    with pytest.raises(ValidationError, match="visible ASCII") as failed:
        ServiceSettings(index=tmp_path)
    assert "secret word" not in str(failed.value)
    monkeypatch.setenv("MEET_ADMIN_KEYS", " , ")
    with pytest.raises(ValidationError, match="at least one key"):
        ServiceSettings(index=tmp_path)


def test_every_key_of_a_ring_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(["first", "second", "third"])
    compared: list[bytes] = []

    def counted(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("service.keys.hmac.compare_digest", counted)
    assert ring.admits(b"first")
    assert len(compared) == 3
    assert all(len(one) == 32 for one in compared), "digests are compared, never keys"


def test_keys_of_both_headers_are_presented() -> None:
    headers = [(b"authorization", b"Bearer one"), (b"x-api-key", b"two"), (b"x-api-key", b" ")]
    assert presented({"headers": headers}) == [b"one", b"two"]
