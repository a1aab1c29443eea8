"""A user's program as mypy sees it: `make check` holds the types, the tests run the same lines.

An ignored error that is none any more is an error itself.
"""

import asyncio
import inspect
from importlib.resources import files
from pathlib import Path
from typing import assert_type, get_args

import pytest
from pydantic import JsonValue

from service.client import (
    AsyncMeetClient,
    Hit,
    IndexAnswer,
    ItemAnswer,
    MeetClient,
    PictureFile,
    SearchAnswer,
    SearchParams,
    calls,
)
from tests.service.client.stub import Reply, stubbed
from tests.service.world import World


def blocking(url: str, picture: Path) -> list[Hit]:
    wide: SearchParams = {"k": 2, "explain": True}
    with MeetClient(url, api_key=None, timeout=30) as client:
        answer = client.search_text("two dogs", **wide)
        assert_type(answer, SearchAnswer)
        assert_type(answer.hits[0].score, float)
        assert_type(client.search_image(picture, k=1), SearchAnswer)
        assert_type(client.index(), IndexAnswer)
        assert_type(client.item("photo-07"), ItemAnswer)
        assert_type(client.thumbnail("photo-07"), PictureFile)
        assert_type(client.original("photo-07"), PictureFile)
        assert_type(client.ready(), bool)
        assert_type(client.request("GET", "/healthz"), JsonValue)
    return answer.hits


async def awaited(url: str, picture: Path) -> list[Hit]:
    async with AsyncMeetClient(url) as client:
        answer = await client.search_text("two dogs", k=2, explain=True)
        assert_type(answer, SearchAnswer)
        assert_type(await client.search_image(str(picture), k=1), SearchAnswer)
        assert_type(await client.index(), IndexAnswer)
        assert_type(await client.item("photo-07"), ItemAnswer)
        assert_type(await client.thumbnail("photo-07"), PictureFile)
        assert_type(await client.original("photo-07"), PictureFile)
        assert_type(await client.ready(), bool)
        assert_type(await client.request("GET", "/healthz"), JsonValue)
    return answer.hits


def mistaken(client: MeetClient) -> None:
    client.search_text("two dogs", k="2")  # type: ignore[arg-type]
    client.search_text("two dogs", rerank="magic")  # type: ignore[arg-type]
    client.search_text("two dogs", amount=2)  # type: ignore[call-arg]
    client.search_image(7)  # type: ignore[arg-type]


def test_a_program_runs_as_it_is_typed(url: str, world: World) -> None:
    picture = world.image_path(3)
    assert blocking(url, picture) == asyncio.run(awaited(url, picture))


CALLS = (
    "search_text", "search_image", "index", "item", "thumbnail", "original", "ready", "request",
)  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("client", [MeetClient, AsyncMeetClient])
def test_both_clients_explain_every_call_in_its_own_words(client: type, name: str) -> None:
    method, call = getattr(client, name), getattr(calls, name)
    assert method.__doc__ == call.__doc__
    assert method.__name__ == name
    shown, own = inspect.signature(method), inspect.signature(call)
    assert list(shown.parameters) == ["self", *own.parameters]
    assert get_args(own.return_annotation) == (shown.return_annotation,)


def test_a_field_that_no_type_knows_is_sent_all_the_same() -> None:
    with stubbed(Reply()) as stub, MeetClient(stub.url) as client:
        client.search_text("two dogs", collapse=3)  # type: ignore[call-arg]
    assert stub.asked[0].body == b'{"query": "two dogs", "collapse": 3}'


def test_the_packages_say_that_they_are_typed() -> None:
    for package in ("service", "model"):
        assert files(package).joinpath("py.typed").is_file()
