"""rSum over the served index: equal to `meet-eval --index`, and to answers counted by hand."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from index_builder.cli import main as meet_build
from model.core.types import Modality
from model.training.eval_cli import main as meet_eval
from service.engine import SearchEngine
from tests.service.asking import I2T, T2I, busy, parts_of, until
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import problem
from tests.service.world import CAPTIONS_EACH, World

pytestmark = pytest.mark.anyio
ROUTE = "/index/evaluate"


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, world: World, encoder_source: Path
) -> tuple[Path, Path]:
    """A data set on disk, and what `meet-build` makes of it."""
    data, root = world.directory, tmp_path_factory.mktemp("built") / "root"
    lines = [
        {"id": f"i{row}", "path": f"{row}.png", "captions": _captions(world, row)}
        for row in range(len(world.ids))
    ]
    (data / "dev.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = ["--gallery", f"{data}:dev", "--encoder", str(encoder_source), "--out", str(root)]
    assert meet_build(told) == 0
    return data, root


def _captions(world: World, row: int) -> list[str]:
    return list(world.captions[CAPTIONS_EACH * row : CAPTIONS_EACH * (row + 1)])


async def test_it_is_what_meet_eval_says_of_the_same_index(
    built: tuple[Path, Path], open_admin: OpenClient, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = built
    capsys.readouterr()
    told = ["--index", str(root), "--data", str(data), "--split", "dev", "--json"]
    assert meet_eval([*told, "--bootstrap", "0"]) == 0
    expected = json.loads(capsys.readouterr().out)["cascade"]
    async with open_admin(SearchEngine.open(root)) as client:
        found = (await client.post(ROUTE)).json()
    assert found["queries"] == {"i2t": 60, "t2i": 120}
    assert 20 < found["rsum"] < 550
    for name in ("i2t", "t2i", "rsum"):
        assert found[name] == pytest.approx(expected[name])


async def counted(client: httpx.AsyncClient, engine: SearchEngine) -> dict[str, list[float]]:
    """Recalls of searches asked one by one, by the ids that they find."""
    hits: dict[str, list[list[bool]]] = {"i2t": [], "t2i": []}
    items = engine.artifact.side(Modality.IMAGE).items
    texts = engine.artifact.side(Modality.TEXT)
    for row in range(len(items)):
        answer = await client.post(I2T, json={"id": items.id(row)})
        true = {texts.items.id(one) for one in items[row].caption_rows}
        hits["i2t"].append([hit["id"] in true for hit in answer.json()["hits"]])
        for caption in items[row].caption_rows:
            vector = texts.embeddings[caption].astype(float).tolist()
            answer = await client.post(T2I, json={"vector": vector})
            hits["t2i"].append([hit["id"] == items.id(row) for hit in answer.json()["hits"]])
    return {
        name: [100 * sum(any(one[:cut]) for one in rows) / len(rows) for cut in (1, 5, 10)]
        for name, rows in hits.items()
    }


async def test_it_is_what_searches_one_by_one_find(
    engine: SearchEngine, open_admin: OpenClient
) -> None:
    async with open_admin(engine) as client:
        expected = await counted(client, engine)
        found = (await client.post(ROUTE, json={"queries": 1000})).json()
    assert found["i2t"] == pytest.approx(expected["i2t"])
    assert found["t2i"] == pytest.approx(expected["t2i"])
    assert found["rsum"] == pytest.approx(sum(map(sum, expected.values())))
    assert (found["index_version"], found["rerank"]) == ("v1", "relationship")


async def test_a_sample_is_drawn_by_its_seed(admin: httpx.AsyncClient) -> None:
    async def figures(**body: int) -> dict[str, Any]:
        found: dict[str, Any] = (await admin.post(ROUTE, json=body)).json()
        assert found.pop("seconds") > 0
        return found

    first = await figures(queries=7, seed=3)
    assert first["queries"] == {"i2t": 7, "t2i": 7}
    assert await figures(queries=7, seed=3) == first
    others = [await figures(queries=7, seed=seed) for seed in range(4)]
    assert any(one != first for one in others)


async def test_progress_is_told_and_searches_go_first(
    engine: SearchEngine, open_admin: OpenClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "service"):
        async with open_admin(engine) as client:
            async with busy(client):
                asked = asyncio.create_task(client.post(ROUTE, json={"queries": 10}))
                await asyncio.sleep(0.02)
                searches = [client.post(T2I, json={"query": "a bus"}) for _ in range(3)]
                together = asyncio.gather(*searches)
                await until(lambda: parts_of(client).dispatcher.waiting == 3)
            await together
            assert not asked.done()
            assert (await asked).status_code == 200
    told = [one for one in caplog.messages if one.startswith("evaluation of index v1")]
    assert told[0] == "evaluation of index v1: 2 of 20 queries"
    assert told[9] == "evaluation of index v1: 20 of 20 queries"
    assert len(told) == 11


async def test_one_evaluation_runs_at_a_time(engine: SearchEngine, open_admin: OpenClient) -> None:
    async with open_admin(engine) as client:
        async with busy(client):
            first = asyncio.create_task(client.post(ROUTE))
            await until(lambda: parts_of(client).evaluator._busy)
            problem(await client.post(ROUTE), 409, "evaluation_running")
        assert (await first).status_code == 200
        hung_up = asyncio.create_task(client.post(ROUTE))
        await until(lambda: parts_of(client).evaluator._busy)
        hung_up.cancel()
        await until(lambda: not parts_of(client).evaluator._busy)
        assert (await client.post(ROUTE, json={"queries": 1})).status_code == 200


@pytest.mark.parametrize("root", ["images_root", "vectors_root"])
async def test_a_gallery_without_pairs_is_told_so(
    request: pytest.FixtureRequest, open_admin: OpenClient, root: str
) -> None:
    engine = SearchEngine.open(request.getfixturevalue(root))
    async with open_admin(engine) as client:
        response = await client.post(ROUTE)
        if root == "images_root":
            document = problem(response, 422, "no_pairs")
            assert (
                document["detail"] == "rSum needs images with their captions, this gallery has none"
            )
        else:
            assert response.json()["queries"] == {"i2t": 60, "t2i": 120}


async def test_a_version_that_is_replaced_is_not_evaluated_to_the_end(
    two_versions: Path, open_admin: OpenClient
) -> None:
    async with open_admin(SearchEngine.open(two_versions)) as client:
        async with busy(client):
            asked = asyncio.create_task(client.post(ROUTE))
            await until(lambda: parts_of(client).evaluator._running is not None)
            parts_of(client).serving.replace(SearchEngine.open(two_versions, "v2"))
        document = problem(await asked, 409, "index_replaced")
        assert document["detail"] == "index version v1 is not served any more"


async def test_an_evaluation_ends_when_the_server_stops(
    engine: SearchEngine, open_admin: OpenClient
) -> None:
    async with open_admin(engine) as client:
        async with busy(client):
            asked = asyncio.create_task(client.post(ROUTE))
            await until(lambda: parts_of(client).evaluator._running is not None)
            parts_of(client).drain()
            problem(await asked, 503, "stopping")
        problem(await client.post(ROUTE), 503, "stopping")


async def test_fields_that_break_a_rule_are_named(admin: httpx.AsyncClient) -> None:
    for body in ({"queries": 0}, {"queries": "10"}, {"seed": -1}, {"sample": 3}):
        problem(await admin.post(ROUTE, json=body), 422, "invalid_request")
