"""What answers say where part of a search meant nothing here."""

from typing import Any

import httpx
import pytest

from service.client import AsyncMeetClient
from service.engine import SearchEngine
from tests.service.asking import parts_of, until
from tests.service.conftest import OpenClient
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio
T2I, I2T, SIMILAR = "/search/text-to-image", "/search/image-to-text", "/search/similar"
ROW = "no item has a value in the metadata field `rwo`, did you mean `row`?"
ASKED = ((T2I, {"query": "a bus"}), (I2T, {"id": "photo-07"}), (SIMILAR, {"id": "photo-07"}))


async def found(client: httpx.AsyncClient, path: str, **body: object) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_field_that_no_item_has_is_named_beside_those_alike(
    client: httpx.AsyncClient,
) -> None:
    for path, query in ASKED:
        answer = await found(client, path, **query, filter={"rwo": {"gte": 3}})
        assert (answer["hits"], answer["notices"]) == ([], [ROW])


@pytest.mark.parametrize(
    ("asked", "notices"),
    [
        ({"licence": "CC0"}, ["field `licence`, there are `odd`, `row`"]),
        # Every value of it is null, or a number that is not finite.
        ({"odd": 1}, ["field `odd`, there are `row`"]),
        ({"ROW": 3, "row": 3, "rows": 3}, ["`ROW`, did you mean `row`", "`rows`, did you mean"]),
        ({"row.deep": 3}, ["`row.deep`, did you mean `row`?"]),
        ({"x" * 5000: 3}, ["..."]),
        ({"row": "3"}, ["no item has a text in the metadata field `row`, it holds numbers"]),
        ({"row": {"in": ["3", True]}}, ["has a text or a truth value in the metadata field `row`"]),
        ({"id": 7}, ["no item has a number in the metadata field `id`, it holds texts"]),
    ],
)
async def test_each_such_field_has_its_notice(
    client: httpx.AsyncClient, asked: dict[str, object], notices: list[str]
) -> None:
    told = (await found(client, T2I, query="a bus", filter=asked))["notices"]
    assert len(told) == len(notices)
    assert all(part in one for part, one in zip(notices, told, strict=True))
    assert all(len(one) < 200 for one in told)


@pytest.mark.parametrize(
    "asked",
    [
        {"rwo": None},
        {"rwo": {"in": [None, 3]}, "row": -1},
        {"row": -1},
        {"row": {"in": ["3", -1]}},
        {"row": 3},
        {"id": "nobody"},
        {},
    ],
)
async def test_what_is_no_mistake_is_not_noticed(
    client: httpx.AsyncClient, asked: dict[str, object]
) -> None:
    for path, query in ASKED:
        assert "notices" not in await found(client, path, **query, filter=asked)


@pytest.mark.parametrize("text", ["zxcv qwerty", "zxcv, qwerty!", "?", "犬"])
async def test_a_text_without_a_known_word_is_noticed(client: httpx.AsyncClient, text: str) -> None:
    answer = await found(client, T2I, query=text)
    assert answer["notices"] == [f"the encoder knows none of the words in “{text}”"]
    assert answer["hits"]


async def test_one_known_word_is_enough(client: httpx.AsyncClient) -> None:
    assert "notices" not in await found(client, T2I, query="a zxcv")
    assert "notices" not in await found(client, T2I, query="qwerty DOG")


async def test_texts_that_move_a_query_are_noticed_too(client: httpx.AsyncClient) -> None:
    moved = {"plus": ["zxcv", "a bus"], "minus": ["qwerty", "zxcv"], "filter": {"rwo": 1}}
    answer = await found(client, SIMILAR, id="photo-07", **moved)
    words = [f"the encoder knows none of the words in “{word}”" for word in ("zxcv", "qwerty")]
    assert answer["notices"] == [*words, ROW]


async def test_each_of_several_queries_has_its_own_notices(client: httpx.AsyncClient) -> None:
    response = await client.post(
        T2I, json={"queries": ["zxcv", "a bus", {"id": "photo-07#0"}], "filter": {"rwo": 1}}
    )
    told = [answer["notices"] for answer in response.json()["answers"]]
    assert told == [["the encoder knows none of the words in “zxcv”", ROW], [ROW], [ROW]]


async def test_an_index_without_metadata_says_so(
    open_client: OpenClient, engine: SearchEngine
) -> None:
    bare = SearchEngine(engine.artifact, engine.encoder, engine.cascade)
    bare.__dict__["metadata_fields"] = []
    async with open_client(bare) as client:
        [told] = (await found(client, T2I, query="a bus", filter={"licence": "CC0"}))["notices"]
    assert told == "no item has a value in the metadata field `licence`, nor in any other"


async def test_the_client_s_types_have_the_notices(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with (
        open_client(engine) as opened,
        AsyncMeetClient("http://meet.test", transport=opened._transport) as meet,
    ):
        answer = await meet.search_text("zxcv", filter={"rwo": 1})
        assert answer.notices == ["the encoder knows none of the words in “zxcv”", ROW]
        assert (await meet.search_text("a bus")).notices is None


@pytest.mark.redis
async def test_notices_are_kept_with_the_answer(
    engine: SearchEngine, open_client: OpenClient, redis_server: RedisServer
) -> None:
    given = {"redis_url": redis_server.url, "redis_timeout_ms": 5000}
    body = {"query": "zxcv", "filter": {"rwo": 1}}
    async with open_client(engine, **given) as client:
        first = await found(client, T2I, **body)
        await until(lambda: bool(redis_server.command("KEYS", "*:answer:*")))
        again = await found(client, T2I, **body)
        assert sum(parts_of(client).answers.lookups.values()) == 2
    assert again["milliseconds"]["queue"] == 0.0  # it was not made again
    assert again["notices"] == first["notices"] != []
