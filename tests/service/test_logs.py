"""The log's lines: one record each, whole, and without what nobody should read."""

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import logs, notes
from service.engine import SearchEngine
from service.keys import fingerprint
from service.settings import LogFormat, LogLevel
from tests.service.conftest import OpenClient
from tests.service.test_access import GUARDED, KEY, bearer
from tests.service.test_bad_input import JSON, T2I

pytestmark = pytest.mark.anyio
NAMES = ("", *logs.OWN, logs.SERVER)
QUERY = "a very private bus"


@contextmanager
def logged(
    kind: LogFormat = LogFormat.JSON, level: LogLevel = LogLevel.INFO
) -> Iterator[io.StringIO]:
    """What a process would write to stderr; afterwards everything is as it was."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(one, list(one.handlers), one.level, one.propagate) for one in loggers]
    stream = io.StringIO()
    try:
        logs.install(kind, level, stream)
        yield stream
    finally:
        flush()
        logging.captureWarnings(capture=False)
        for logger, handlers, was, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(was)


def flush() -> None:
    """Have all lines written that wait for others."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    flush()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_a_search_is_one_json_line(engine: SearchEngine, open_client: OpenClient) -> None:
    async with open_client(engine, **GUARDED) as client:
        with logged() as stream:
            await client.post(
                T2I, json={"query": QUERY}, headers={**bearer(KEY), "X-Request-ID": "r-1"}
            )
    [line] = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert 0 < line.pop("seconds") < 60
    assert line == {
        "level": "info",
        "logger": "service.requests",
        "message": "POST /search/text-to-image 200",
        "request_id": "r-1",
        "method": "POST",
        "route": "/search/text-to-image",
        "status": 200,
        "index_version": "v1",
        "key": fingerprint(KEY.encode()),
        "client": "127.0.0.1",
    }


async def test_the_route_is_logged_and_never_the_path(client: httpx.AsyncClient) -> None:
    with logged() as stream:
        await client.get("/items/photo-07")
        await client.get("/items/secret%1Bid")
        await client.get("/no%7Froute?token=secret")
        await client.request("BREW", "/index")
    told = lines(stream)
    assert [one["route"] for one in told] == ["/items/{item_id:path}"] * 2 + ["unmatched", "/index"]
    assert [one.get("code") for one in told] == [
        *(None, "unknown_item", "not_found", "method_not_allowed"),
    ]
    assert told[-1]["method"] == "other"
    assert "secret" not in stream.getvalue()


async def test_probes_that_succeed_are_logged_at_debug_alone(client: httpx.AsyncClient) -> None:
    paths = ("/healthz", "/readyz", "/metrics")
    for level, expected in ((LogLevel.INFO, []), (LogLevel.DEBUG, list(paths))):
        with logged(level=level) as stream:
            for path in paths:
                await client.get(path)
        told = [one for one in lines(stream) if one["logger"] == "service.requests"]
        assert [one["route"] for one in told] == expected


async def test_a_slow_search_is_told_by_stage_without_its_words(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    body = {"query": QUERY, "k": 7, "candidates": 30}
    async with open_client(engine, slow_query_seconds=0) as client:
        with logged(level=LogLevel.WARNING) as stream:
            answer = (await client.post(T2I, json=body)).json()
            await client.post(T2I, content="{", headers=JSON)
            await client.get("/index")
    [line] = lines(stream)
    assert (line["logger"], line["level"]) == ("service.slow", "warning")
    assert (line["direction"], line["k"], line["rerank"]) == ("text-to-image", 7, "relationship")
    assert (line["candidates"]["max_pq"], line["batch_size"]) == (30, 1)
    wanted = {"queue", "encode", "hash", "pq", "rerank", "total"}
    assert set(line["milliseconds"]) == wanted
    assert line["milliseconds"]["total"] == answer["milliseconds"]["total"]
    assert line["request_id"]
    assert QUERY not in stream.getvalue()


@pytest.mark.parametrize("kind", list(LogFormat))
async def test_the_words_of_a_slow_query_are_told_where_that_is_wanted(
    engine: SearchEngine, open_client: OpenClient, kind: LogFormat
) -> None:
    forged = 'a bus\n{"level": "error"}\r\x1b[2J\u2028\u009b31m'
    async with open_client(engine, slow_query_seconds=0, log_queries=True) as client:
        with logged(kind, LogLevel.WARNING) as stream:
            await client.post(T2I, json={"query": forged})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.removesuffix("\n").isprintable()
    if kind is LogFormat.JSON:
        assert lines(stream)[0]["query"] == forged
    else:
        assert r"a bus\n" in text


async def test_a_search_in_time_is_not_slow(client: httpx.AsyncClient) -> None:
    with logged(level=LogLevel.WARNING) as stream:
        await client.post(T2I, json={"query": QUERY})
    assert stream.getvalue() == ""


@given(words=st.text(), kind=st.sampled_from(list(LogFormat)))
def test_no_words_make_a_second_line_or_an_unprintable_one(words: str, kind: LogFormat) -> None:
    with logged(kind) as stream:
        logging.getLogger("service.test").info("got %s", words, extra={"fields": {"q": words}})
    text = stream.getvalue()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert text.removesuffix("\n").isprintable()
    if kind is LogFormat.JSON:
        line = lines(stream)[0]
        assert line["message"] == f"got {words}"
        assert line.get("q", "") == words


@pytest.mark.parametrize("kind", list(LogFormat))
def test_a_traceback_begins_no_record_of_its_own(kind: LogFormat) -> None:
    with logged(kind) as stream:
        error = LookupError("one\n2026-01-01T00:00:00.000Z error forged: two")
        logging.getLogger("service.test").error("it failed", exc_info=error)
    head, *rest = stream.getvalue().splitlines()
    assert "it failed" in head
    assert all(line.startswith(logs.INDENT) for line in rest)
    if kind is LogFormat.JSON:
        assert rest == []
        assert "LookupError: one\n2026-01" in json.loads(head)["traceback"]


def test_a_record_made_for_a_request_has_its_id() -> None:
    notes.begin(notes.Notes("r-7"))
    try:
        with logged(LogFormat.TEXT) as stream:
            logging.getLogger("model.test").warning("redis is not used")
    finally:
        notes.begin(notes.Notes(""))
    assert stream.getvalue().endswith("warning model.test: redis is not used request_id=r-7\n")


def test_the_servers_own_records_and_warnings_take_the_same_way() -> None:
    with logged() as stream:
        logging.getLogger("uvicorn.error").error("Exception in ASGI application")
        logging.getLogger("httpx").info("a library's chatter")
        with pytest.warns(UserWarning, match="odd"):
            __import__("warnings").warn("an odd picture", UserWarning, stacklevel=1)
        logging.getLogger("py.warnings").warning("an odd picture")
    assert [one["logger"] for one in lines(stream)] == ["uvicorn.error", "py.warnings"]


def test_half_a_surrogate_pair_is_written_out() -> None:
    with logged() as stream:
        logging.getLogger("service.test").warning("no file %s", "/data/\udcff.jpg")
    [line] = lines(stream)
    assert line["message"] == "no file /data/\udcff.jpg"
