"""A user's program as mypy sees it: `make check` holds the types, the tests run the same lines.

An ignored error that is none any more is an error itself.
"""

import asyncio
import inspect
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias, assert_type, get_args

import pytest
from pydantic import BaseModel, JsonValue

from service.client import (
    AsyncMeetClient,
    Hit,
    ImageQuery,
    IndexAnswer,
    ItemAnswer,
    MeetClient,
    PictureFile,
    Problem,
    SearchAnswer,
    SearchParams,
    TextQuery,
    calls,
)
from service.schemas import (
    ImageQueryFields,
    ImageSearch,
    SimilarSearch,
    TextQueryFields,
    TextSearch,
)
from tests.service.client.stub import Reply, stubbed
from tests.service.world import World

Many: TypeAlias = list[SearchAnswer | Problem]


def blocking(url: str, picture: Path) -> list[Hit]:
    wide: SearchParams = {"k": 2, "explain": True}
    with MeetClient(url, api_key=None, timeout=30) as client:
        answer = client.search_text("two dogs", **wide)
        assert_type(answer, SearchAnswer)
        assert_type(answer.hits[0].score, float)
        assert_type(client.search_image(picture, k=1), SearchAnswer)
        assert_type(client.search_texts(["two dogs", {"id": "photo-07#1"}]), Many)
        assert_type(client.search_images(["photo-07", picture.read_bytes()], k=1), Many)
        assert_type(client.similar("photo-07", to="text"), SearchAnswer)
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
        assert_type(await client.search_texts(["two dogs"], minus="cats"), Many)
        assert_type(await client.search_images([{"id": "photo-07"}]), Many)
        assert_type(await client.similar("photo-07"), SearchAnswer)
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
    client.search_texts([{"words": "two dogs"}])  # type: ignore[list-item]
    client.similar("photo-07", to="sound")  # type: ignore[arg-type]


def test_a_program_runs_as_it_is_typed(url: str, world: World) -> None:
    picture = world.image_path(3)
    assert blocking(url, picture) == asyncio.run(awaited(url, picture))


CALLS = (
    "search_text", "search_texts", "search_image", "search_images", "similar", "index", "item",
    "thumbnail", "original", "ready", "request",
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
        client.search_text("two dogs", colour="red")  # type: ignore[call-arg]
    assert stub.asked[0].body == b'{"query": "two dogs", "colour": "red"}'


def keywords(call: Callable[..., object]) -> set[str]:
    """What a call can be told by name."""
    own = set(inspect.signature(call).parameters) - {"params"}
    return own | set(SearchParams.__annotations__)


@pytest.mark.parametrize(
    ("call", "schema", "elsewhere"),
    [
        (calls.search_text, TextSearch, {"queries"}),
        (calls.search_image, ImageSearch, {"queries"}),
        (calls.similar, SimilarSearch, set()),
    ],
)
def test_a_call_names_the_fields_that_the_server_takes(
    call: Callable[..., object], schema: type[BaseModel], elsewhere: set[str]
) -> None:
    assert keywords(call) == set(schema.model_fields) - elsewhere


@pytest.mark.parametrize(
    ("told", "schema"), [(TextQuery, TextQueryFields), (ImageQuery, ImageQueryFields)]
)
def test_one_of_several_queries_names_the_fields_that_the_server_takes(
    told: type, schema: type[BaseModel]
) -> None:
    assert set(told.__annotations__) == set(schema.model_fields)


def test_the_packages_say_that_they_are_typed() -> None:
    for package in ("service", "model"):
        assert files(package).joinpath("py.typed").is_file()
