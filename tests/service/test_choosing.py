"""Filters, pages, exact searches, least scores and collapsing over HTTP."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.cascade import SearchOptions
from model.core.filters import Filter
from model.core.types import CandidateBudget, Direction, Modality, RerankMode
from model.rerankers.ordering import Reranked
from model.rerankers.second_stage import SecondStage, Shortlist
from service.answer_cache import AnswerKey
from service.deadlines import plans
from service.engine import SearchEngine
from service.limits import Limits
from service.schemas import ImageSearch, TextSearch
from tests.service.asking import text_search, together
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import problem
from tests.service.test_search import ask, pairs
from tests.service.world import BUDGET, DIM, World

pytestmark = pytest.mark.anyio
T2I, I2T = Direction.TEXT_TO_IMAGE, Direction.IMAGE_TO_TEXT
QUERY = "one cat that is red"
VECTOR = np.random.default_rng(5).normal(size=DIM).tolist()


def cascade_pairs(engine: SearchEngine, options: SearchOptions) -> list[tuple[str, float]]:
    """Ids and scores of the text's hits without the service."""
    embedding = engine.encoder.encode_texts([QUERY])
    [ranking] = engine.cascade.search(T2I, embedding, options)
    items = engine.artifact.side(Modality.IMAGE).items
    ids = [items.id(row) for row in ranking.rows.tolist()]
    return list(zip(ids, ranking.scores.tolist(), strict=True))


def row_of(hit: dict[str, Any]) -> int:
    return int(hit["metadata"]["row"])


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({"row": {"gte": 30}}, range(30, 60)),
        ({"row": {"gt": 7, "lte": 9}}, [8, 9]),
        ({"row": 5}, [5]),
        ({"row": {"in": [3, 4.0, "5", 99]}}, [3, 4]),
        ({"row": "5"}, []),
        ({"id": {"in": ["photo-07", "50%2Foff", "nobody"]}}, [2, 7]),
        ({"id": "photo-09", "row": {"lt": 3}}, []),
        ({"odd": None, "nobody": None, "row": {"lt": 2}}, [0, 1]),
        ({}, range(60)),
    ],
)
async def test_hits_fulfil_the_filter_and_are_all_that_do(
    client: httpx.AsyncClient, asked: dict[str, Any], rows: list[int]
) -> None:
    answer = await ask(client, T2I, query=QUERY, k=60, filter=asked)
    assert sorted(map(row_of, answer["hits"])) == list(rows)


async def test_a_filtered_answer_is_the_filtered_cascade_s(
    client: httpx.AsyncClient, engine: SearchEngine
) -> None:
    wanted = Filter.of({"row": {"gte": 12, "lt": 40}})
    for exact in (False, True):
        options = SearchOptions(8, budget=BUDGET, filter=wanted, exact=exact, offset=2)
        body = {"filter": {"row": {"gte": 12, "lt": 40}}, "exact": exact, "offset": 2}
        answer = await ask(client, T2I, query=QUERY, k=8, **body)
        assert pairs(answer) == cascade_pairs(engine, options)
        assert [hit["rank"] for hit in answer["hits"]] == list(range(2, 10))


async def test_a_caption_is_filtered_by_its_image_s_metadata_and_its_own_id(
    client: httpx.AsyncClient,
) -> None:
    by_row = await ask(client, I2T, id="photo-07", k=100, filter={"row": {"in": [4, 9]}})
    assert {row_of(hit) for hit in by_row["hits"]} == {4, 9}
    assert len(by_row["hits"]) == 4  # two captions each
    by_id = await ask(client, I2T, id="photo-07", filter={"id": "photo-09#1"})
    assert [hit["id"] for hit in by_id["hits"]] == ["photo-09#1"]


async def test_a_form_says_its_filter_as_json(client: httpx.AsyncClient, world: World) -> None:
    files = {"image": world.image_path(9).read_bytes()}
    data = {"filter": '{"row": {"lt": 5}}', "exact": "true", "offset": "1", "collapse": "0"}
    response = await client.post(f"/search/{I2T}", files=files, data={**data, "min_score": "0.01"})
    assert response.status_code == 200, response.text
    assert {row_of(hit) for hit in response.json()["hits"]} <= set(range(5))
    response = await client.post(f"/search/{I2T}", files=files, data={"filter": "{row: 3}"})
    [error] = problem(response, 422, "invalid_request")["errors"]
    assert error["field"] == "filter"


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"row": {"near": 1}}, "filter `row` takes eq, in, gt, gte, lt, lte, got 'near'"),
        ({"row": {"in": []}}, "filter `row.in` needs a list of at least one value, got []"),
        ({"row": {"gte": True}}, "filter `row.gte` needs a number or a text, got True"),
        ({"row": {}}, "filter `row` needs at least one of `eq`"),
        ({"row": {"eq": [1]}}, "filter `row.eq` needs a text"),
    ],
)
async def test_a_filter_that_breaks_a_rule_is_refused_by_rule_and_value(
    client: httpx.AsyncClient, asked: dict[str, Any], rule: str
) -> None:
    for path, body in ((T2I, {"query": QUERY}), (I2T, {"id": "photo-07"})):
        response = await client.post(f"/search/{path}", json={**body, "filter": asked})
        assert problem(response, 422, "filter_rejected")["detail"].startswith(rule)


LARGE: dict[str, tuple[dict[str, Any], str, int]] = {
    "offset + k": ({"offset": 8190, "k": 3}, "8192 (limits.max_candidates)", 8193),
    "collapse": ({"collapse": 17}, "16 (the bits of a hash code)", 17),
    "filter conditions": (
        {"filter": {f"f{n}": n for n in range(33)}},
        "32 (limits.max_filter_conditions)",
        33,
    ),
    "filter values": (
        {"filter": {"row": {"in": list(range(1001))}}},
        "1000 (limits.max_filter_values)",
        1001,
    ),
}


@pytest.mark.parametrize("field", LARGE)
async def test_a_limit_is_named_with_the_value(client: httpx.AsyncClient, field: str) -> None:
    body, most, value = LARGE[field]
    response = await client.post(f"/search/{T2I}", json={"query": QUERY, **body})
    [error] = problem(response, 422, "invalid_request")["errors"]
    assert error == {
        "field": field,
        "rule": f"Input should be at most {most}",
        "value": str(value),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offset", -1),
        ("min_score", 1.5),
        ("min_score", "high"),
        ("collapse", -1),
        ("exact", 1),
        ("filter", "row"),
        ("filter", ["row"]),
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(
    client: httpx.AsyncClient, name: str, value: object
) -> None:
    response = await client.post(f"/search/{T2I}", json={"query": QUERY, name: value})
    [error] = problem(response, 422, "invalid_request")["errors"]
    assert error["field"].startswith(name)


async def test_an_exact_search_of_more_than_the_limit_is_refused(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    body = {"query": QUERY, "exact": True}
    async with open_client(engine, limits=Limits(max_exact=30)) as client:
        response = await client.post(f"/search/{T2I}", json=body)
        [error] = problem(response, 422, "invalid_request")["errors"]
        assert error["field"] == "items of an exact search"
        assert error["rule"] == "Input should be at most 30 (limits.max_exact)"
        assert error["value"] == "60"
        fewer = await ask(client, T2I, **body, k=40, filter={"row": {"lt": 30}})
    assert len(fewer["hits"]) == 30


async def test_pages_over_http_are_the_ranking_at_once(client: httpx.AsyncClient) -> None:
    for more in ({}, {"collapse": 3}, {"filter": {"row": {"gte": 9}}, "min_score": 0.2}):
        whole = await ask(client, T2I, query=QUERY, k=60, **more)
        pages: list[Any] = []
        for offset in range(0, 60, 7):
            page = await ask(client, T2I, query=QUERY, k=7, offset=offset, **more)
            pages += page["hits"]
        assert pages == whole["hits"]


async def test_hits_say_how_far_they_stand_out(
    client: httpx.AsyncClient, engine: SearchEngine
) -> None:
    whole = await ask(client, T2I, query=QUERY, k=60)
    embedding = engine.encoder.encode_texts([QUERY])[0]
    bank = np.asarray(engine.artifact.banks[Modality.IMAGE], np.float32)
    images = np.asarray(engine.artifact.side(Modality.IMAGE).embeddings, np.float32)
    usual = bank @ embedding
    for hit in whole["hits"]:
        share = float(np.mean(usual < images[row_of(hit)] @ embedding))
        assert hit["calibrated"] == pytest.approx(share, abs=1.01 / 60)
    some = await ask(client, T2I, query=QUERY, k=60, min_score=0.7)
    kept = [hit["id"] for hit in whole["hits"] if hit["calibrated"] >= 0.7]
    assert [hit["id"] for hit in some["hits"]] == kept


async def test_without_a_bank_a_least_score_is_refused_and_none_is_told(
    vectors_root: Path, open_client: OpenClient
) -> None:
    body = {"vector": [1.0] + [0.0] * 31}
    async with open_client(SearchEngine.open(vectors_root)) as client:
        plain = await ask(client, T2I, **body)
        assert all("calibrated" not in hit for hit in plain["hits"])
        response = await client.post(f"/search/{T2I}", json={**body, "min_score": 0.5})
        assert "a bank with image items" in problem(response, 422, "uncalibrated")["detail"]


async def test_a_hit_says_what_it_stands_for(
    client: httpx.AsyncClient, engine: SearchEngine
) -> None:
    codes = np.unpackbits(engine.artifact.side(Modality.TEXT).hamming.codes(), axis=1)
    answer = await ask(client, I2T, id="photo-07", k=120, exact=True, collapse=3)
    ids = {hit["id"] for hit in answer["hits"]}
    rows = {engine.artifact.find(one)[1]: one for one in ids}
    total = len(ids)
    for hit in answer["hits"]:
        own = codes[engine.artifact.find(hit["id"])[1]]
        assert min(32, hit["n_duplicates"]) == len(hit["duplicates"])
        total += hit["n_duplicates"]
        for one in hit["duplicates"]:
            assert one not in ids
            assert (codes[engine.artifact.find(one)[1]] != own).sum() <= 3
    assert total == 120  # each item is a hit, or stands behind one
    assert min((codes[a] != codes[b]).sum() for a in rows for b in rows if a < b) > 3
    assert 1 < len(ids) < 60
    all_alike = await ask(client, T2I, query=QUERY, k=60, exact=True, collapse=16)
    [only] = all_alike["hits"]
    assert (only["n_duplicates"], len(only["duplicates"])) == (59, 32)
    plain = await ask(client, T2I, query=QUERY)
    assert not {"duplicates", "n_duplicates"} & set(plain["hits"][0])


async def test_searches_of_one_batch_keep_their_own_options(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    wishes: list[dict[str, Any]] = [
        {},
        {"filter": {"row": {"lt": 30}}},
        {"filter": {"row": {"gte": 30}}},
        {"filter": {"row": {"gte": 30}}, "exact": True},
        {"exact": True},
        {"offset": 4},
        {"min_score": 0.6},
        {"collapse": 3},
        {"filter": {"row": {"lt": 30}}, "collapse": 2, "rerank": "none", "offset": 1},
    ]
    async with open_client(engine) as client:
        alone = [await ask(client, T2I, vector=VECTOR, **wish) for wish in wishes]
        asked = [text_search(vector=VECTOR, **wish) for wish in wishes * 2]
        found = await together(client, asked)
    for response, expected in zip(found, alone * 2, strict=True):
        assert response.json()["hits"] == expected["hits"]


@pytest.fixture
def slow_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relationship always comes too late."""
    whole = SecondStage.rerank

    def slow(self: SecondStage, shortlist: Shortlist, asked: RerankMode | None, k: int) -> Reranked:
        if asked is RerankMode.RELATIONSHIP:
            time.sleep(0.6)
        return whole(self, shortlist, asked, k)

    monkeypatch.setattr(SecondStage, "rerank", slow)


@pytest.mark.usefixtures("slow_lists")
async def test_a_search_short_of_time_keeps_its_filter(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    body = {"query": QUERY, "k": 9, "filter": {"row": {"gte": 40}}, "offset": 2}
    async with open_client(engine) as client:
        await ask(client, T2I, **body)
        short = await ask(client, T2I, **body, timeout_ms=500)
        plain = await ask(client, T2I, **body, rerank="none")
    assert short["degraded"] == ["relationship"]
    assert short["hits"] == plain["hits"]
    assert min(map(row_of, short["hits"])) >= 40


def test_shorter_plans_keep_everything_but_the_stages() -> None:
    asked = SearchOptions(
        9,
        RerankMode.RELATIONSHIP,
        offset=5,
        filter=Filter.of({"row": 3}),
        exact=True,
        calibrate=True,
        min_score=0.5,
        collapse=2,
        reach=77,
    )
    found = plans(asked)
    assert [plan.degraded for plan in found] == [
        (),
        ("relationship",),
        ("relationship", "exact"),
        ("relationship", "exact", "candidates"),
    ]
    assert len({plan.kind for plan in found}) == 4
    for plan in found:
        kept = replace(plan.options, rerank=asked.rerank, exact=True, budget=asked.budget)
        assert kept == asked
    assert [plan.options.exact for plan in found] == [True, True, False, False]


OTHER_FIELDS: list[dict[str, Any]] = [
    {},
    {"offset": 1},
    {"filter": {"a": 1}},
    {"filter": {"a": True}},
    {"filter": {"a": "1"}},
    {"filter": {"b": 1}},
    {"exact": True},
    {"min_score": 0.5},
    {"collapse": 0},
    {"collapse": 1},
]


def test_answers_of_other_options_have_other_keys() -> None:
    keys = [
        AnswerKey("v1", T2I, TextSearch(query="a", **fields), CandidateBudget()).name
        for fields in OTHER_FIELDS
    ]
    image = ImageSearch(id="a", filter={"a": 1})
    keys.append(AnswerKey("v1", I2T, image, CandidateBudget()).name)
    keys.append(AnswerKey("v1", I2T, image, CandidateBudget(), 100).name)
    assert len(set(keys)) == len(keys)


async def test_a_filter_that_is_not_looked_up_in_time_is_late(
    engine: SearchEngine, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(
        type(engine.cascade), "selection", lambda *_: release.wait(20), raising=True
    )
    async with open_client(engine) as client:
        body = {"query": QUERY, "filter": {"row": {"gte": 2, "lt": 50}}, "timeout_ms": 50}
        problem(await client.post(f"/search/{T2I}", json=body), 504, "deadline")
        release.set()


async def test_the_index_says_what_can_be_filtered(client: httpx.AsyncClient) -> None:
    index = (await client.get("/index")).json()
    assert index["metadata_fields"] == ["odd", "row"]
    assert index["limits"]["max_exact"] == 20_000
