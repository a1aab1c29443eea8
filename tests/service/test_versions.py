"""Versions of an index activated under a running server: every request sees exactly one."""

import asyncio
import itertools
import logging
import os
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from model.artifact.store import VersionStore
from service import activation
from service.activation import Activator
from service.engine import Picture, SearchEngine
from service.errors import MissingModalityError
from service.queries import Search
from service.serving import Outcome
from tests.service.asking import I2T, POISON, T2I, Ask, busy, faulty, parts_of, text_search, until
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import problem
from tests.service.test_operations import metrics
from tests.service.versions import (
    activate,
    add_version,
    flip,
    mapped,
    no_collection,
    open_files,
    publish,
    resident_bytes,
    served,
    watched,
)
from tests.service.world import World, make_encoder

pytestmark = pytest.mark.anyio
SWAPS, CALLERS, GROWTH = 20, 6, 16 << 20


class Found(NamedTuple):
    version: str
    hits: list[tuple[str, int]]
    numbers: list[float]


@pytest.fixture
async def two(two_versions: Path, open_admin: OpenClient) -> AsyncIterator[httpx.AsyncClient]:
    async with open_admin(SearchEngine.open(two_versions)) as client:
        yield client


def asked(world: World) -> list[Ask]:
    """Searches of every kind, whose explanations tell one version's codes from another's."""
    told: dict[str, Any] = {"k": 5, "explain": True}
    found = [text_search(query=caption, **told) for caption in world.captions[::30]]
    found += [_by_id(one, told) for one in world.ids[::20]]
    picture = world.image_path(7).read_bytes()
    form = {"k": "5", "explain": "true"}
    return [*found, lambda client: client.post(I2T, files={"image": picture}, data=form)]


def _by_id(item_id: str, told: dict[str, Any]) -> Ask:
    return lambda client: client.post(I2T, json={"id": item_id, **told})


def comparable(response: httpx.Response) -> Found:
    """The version, what it found, and the numbers."""
    assert response.status_code == 200, response.text
    answer = response.json()
    told = [hit["explanation"] for hit in answer["hits"]]
    hits = [
        (hit["id"], one["hamming_distance"]) for hit, one in zip(answer["hits"], told, strict=True)
    ]
    numbers = [hit["score"] for hit in answer["hits"]] + [one["pq_score"] for one in told]
    return Found(answer["index_version"], hits, numbers)


async def one_at_a_time(client: httpx.AsyncClient, asks: Sequence[Ask]) -> list[Found]:
    return [comparable(await ask(client)) for ask in asks]


async def test_twenty_swaps_under_load_lose_no_request_and_mix_no_versions(
    two_versions: Path, open_admin: OpenClient, world: World
) -> None:
    asks, answers, engines = asked(world), [], []
    async with open_admin(SearchEngine.open(two_versions), shadow_share=0.2) as client:
        serving = parts_of(client).serving
        expected = {}
        for version in ("v1", "v2"):
            assert (await activate(client, version)).status_code == 200
            expected[version] = await one_at_a_time(client, asks)
        for one, other in zip(*expected.values(), strict=True):
            assert not np.allclose(one.numbers, other.numbers, atol=1e-3)
        done = asyncio.Event()

        async def caller(first: int) -> None:
            for turn in itertools.count(first):
                if done.is_set():
                    return
                place = turn % len(asks)
                answers.append((place, comparable(await asks[place](client))))

        callers = [asyncio.create_task(caller(first)) for first in range(CALLERS)]
        sizes = []
        for turn in range(SWAPS):
            engines.append(watched(serving.engine))
            response = await activate(client, ("v1", "v2")[turn % 2])
            assert response.json()["version"] == ("v1", "v2")[turn % 2], response.text
            await until(lambda: not any(there() for there in engines))
            sizes.append((open_files(), resident_bytes()))
        done.set()
        await asyncio.gather(*callers)
        assert mapped(two_versions) == {"v2"}
        counted = await metrics(client)
    for place, found in answers:
        alone = expected[found.version][place]
        assert found.hits == alone.hits
        np.testing.assert_allclose(found.numbers, alone.numbers, atol=1e-5)
    assert {found.version for _, found in answers} == {"v1", "v2"}
    assert len(answers) > SWAPS * CALLERS
    # Descriptors: a flock and a connection come and go. Memory: allocators settle in the first.
    assert sizes[-1][0] <= sizes[2][0] + 2
    assert sizes[-1][1] <= sizes[4][1] + GROWTH
    assert counted["meet_index_activations_total", "activated"] == SWAPS + 1


async def test_a_request_is_answered_by_the_version_that_was_served_when_it_came(
    two: httpx.AsyncClient, two_versions: Path
) -> None:
    parts = parts_of(two)
    async with busy(two):
        before = asyncio.create_task(two.post(T2I, json={"query": "a red dog"}))
        await until(lambda: parts.dispatcher.waiting == 1)
        parts.serving.replace(SearchEngine.open(two_versions, "v2"))
        after = asyncio.create_task(two.post(T2I, json={"query": "a red dog"}))
        await until(lambda: parts.dispatcher.waiting == 2)
    assert (await before).json()["index_version"] == "v1"
    assert (await after).json()["index_version"] == "v2"


async def test_a_version_by_name_is_published_and_one_that_is_published_is_followed(
    two: httpx.AsyncClient, two_versions: Path
) -> None:
    answer = (await activate(two, "v2")).json()
    assert (answer["version"], answer["previous"]) == ("v2", "v1")
    assert 0 < answer["seconds"] < 60
    assert (await served(two), VersionStore(two_versions).current()) == ("v2", "v2")
    publish(two_versions, "v1")
    assert await served(two) == "v2"
    assert (await activate(two)).json()["version"] == "v1"
    assert await served(two) == "v1"
    again = (await two.post("/index/activate", json={})).json()
    assert (again["version"], again["previous"]) == ("v1", "v1")
    samples = await metrics(two)
    results = {name: samples["meet_index_activations_total", name] for name in Outcome}
    assert results == {"activated": 2, "unchanged": 1, "refused": 0}


async def test_metrics_follow_the_version_and_counters_go_on(
    two: httpx.AsyncClient,
) -> None:
    layer = ("meet_reverse_list_lookups_total", "text-to-image", "stored")
    await two.post(T2I, json={"query": "a red dog"})
    before = await metrics(two)
    await activate(two, "v2")
    after = await metrics(two)
    assert [labels for labels in after if labels[0] == "meet_index_info"] == [
        ("meet_index_info", "tiny-1", "v2")
    ]
    assert after["meet_index_age_seconds",] > 24 * 3600
    assert after[layer] >= before[layer] > 0


async def test_an_engine_closes_with_the_last_request_that_uses_it(
    two: httpx.AsyncClient, two_versions: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, release, thumbnail = parts_of(two), threading.Event(), SearchEngine.thumbnail

    def slow(self: SearchEngine, item_id: str) -> Picture:
        release.wait(20)
        return thumbnail(self, item_id)

    monkeypatch.setattr(SearchEngine, "thumbnail", slow)
    for ask in asked(world):
        assert (await ask(two)).status_code == 200
    assert (await two.get("/readyz")).status_code == 200
    with no_collection():
        there = watched(parts.serving.engine)
        picture = asyncio.create_task(two.get(f"/items/{world.ids[9]}/image"))
        await asyncio.sleep(0.05)
        assert (await activate(two, "v2")).status_code == 200
        assert (await two.post(T2I, json={"query": "a bus"})).json()["index_version"] == "v2"
        assert there()
        assert mapped(two_versions) == {"v1", "v2"}
        release.set()
        assert (await picture).headers["content-type"] == "image/webp"
        await until(lambda: not there())
        assert mapped(two_versions) == {"v2"}


async def test_what_a_failed_search_holds_on_to_is_collected(
    two_versions: Path, open_admin: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "FINISHING_SECONDS", 0.01)
    async with open_admin(faulty(SearchEngine.open(two_versions))[0]) as client:
        there = watched(parts_of(client).serving.engine)
        with no_collection():
            problem(await client.post(T2I, json={"query": POISON}), 422, "text_rejected")
            assert (await activate(client, "v2")).status_code == 200
            await until(lambda: not there())


async def test_the_encoder_is_loaded_again_only_where_it_is_another(
    two: httpx.AsyncClient, two_versions: Path, world: World, tmp_path: Path
) -> None:
    serving = parts_of(two).serving
    first = serving.engine.encoder
    await activate(two, "v2")
    assert serving.engine.encoder is first
    add_version(two_versions, world, make_encoder(tmp_path / "other", seed=7), "v3")
    await activate(two)
    assert (await two.get("/index")).json()["encoder"]["name"] == "tiny-7"
    assert serving.engine.encoder is not first
    assert await served(two) == "v3"


def broken_embeddings(two_versions: Path) -> Path:
    path = two_versions / "versions" / "v2" / "image" / "embeddings.npy"
    flip(path)
    return path


def broken_manifest(two_versions: Path) -> Path:
    path = two_versions / "versions" / "v2" / "manifest.json"
    path.unlink()
    return path


def broken_digests(two_versions: Path) -> Path:
    path = two_versions / "versions" / "v2" / "digests.json"
    path.write_text("{")
    return path


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("broken", [broken_embeddings, broken_manifest, broken_digests])
async def test_a_version_that_is_not_whole_is_refused_and_the_old_one_serves_on(
    two: httpx.AsyncClient,
    two_versions: Path,
    caplog: pytest.LogCaptureFixture,
    broken: Any,  # noqa: ANN401
    by_name: bool,
) -> None:
    path = broken(two_versions)
    if not by_name:
        publish(two_versions, "v2")
    with caplog.at_level(logging.WARNING, "service"):
        document = problem(await activate(two, "v2" if by_name else None), 409, "index_refused")
    assert path.name in document["detail"]
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("index version")
    assert "v1 serves on" in line
    assert await served(two) == "v1"
    assert VersionStore(two_versions).current() == ("v1" if by_name else "v2")
    assert (await metrics(two))["meet_index_activations_total", "refused"] == 1
    assert mapped(two_versions) == {"v1"}


async def test_a_version_that_is_not_there_is_named(
    two: httpx.AsyncClient, two_versions: Path
) -> None:
    document = problem(await activate(two, "v9"), 404, "version_not_found")
    assert document["detail"].endswith("has no version 'v9', it has v1, v2")
    problem(await activate(two, "../versions/v2"), 404, "version_not_found")
    publish(two_versions, "v9")
    problem(await activate(two), 409, "index_refused")
    VersionStore(two_versions).layout.current.unlink()
    problem(await activate(two), 409, "index_refused")
    assert await served(two) == "v1"


async def test_another_encoder_than_the_one_it_was_built_with_is_refused(
    two: httpx.AsyncClient, two_versions: Path
) -> None:
    [weights] = (two_versions / "encoders").glob("*/encoder.safetensors")
    flip(weights)
    document = problem(await activate(two, "v2"), 409, "index_refused")
    assert "encoder.safetensors" in document["detail"]
    assert await served(two) == "v1"


async def test_a_version_that_answers_no_probe_is_refused(
    two: httpx.AsyncClient, two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = SearchEngine.probe

    def failing(self: SearchEngine) -> Search:
        if self.version == "v2":
            raise MissingModalityError("a probe needs items to find, this gallery holds none")
        return probe(self)

    monkeypatch.setattr(SearchEngine, "probe", failing)
    document = problem(await activate(two, "v2"), 409, "index_refused")
    assert "a probe needs items" in document["detail"]
    assert (await served(two), VersionStore(two_versions).current()) == ("v1", "v1")


async def test_a_version_that_the_device_has_no_time_for_may_be_asked_for_again(
    two_versions: Path, open_admin: OpenClient
) -> None:
    async with open_admin(SearchEngine.open(two_versions), probe_seconds=0.05) as client:
        async with busy(client):
            document = problem(await activate(client, "v2"), 503, "not_ready")
            assert "at most 0.05 s" in document["detail"]
        assert VersionStore(two_versions).current() == "v1"


async def test_where_current_cannot_be_written_nothing_changes(
    two: httpx.AsyncClient, two_versions: Path
) -> None:
    lock = VersionStore(two_versions).layout.lock
    lock.unlink(missing_ok=True)
    lock.mkdir()
    document = problem(await activate(two, "v2"), 409, "index_read_only")
    assert "meet-build activate" in document["detail"]
    assert await served(two) == "v1"
    publish(two_versions, "v2")  # by somebody who can
    assert (await activate(two)).json()["version"] == "v2"


async def test_where_only_current_itself_cannot_be_written_the_old_version_serves_on(
    two: httpx.AsyncClient, two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "FINISHING_SECONDS", 0.01)
    (two_versions / f".CURRENT.partial-{os.getpid()}").mkdir()
    problem(await activate(two, "v2"), 409, "index_read_only")
    assert (await served(two), VersionStore(two_versions).current()) == ("v1", "v1")
    await until(lambda: mapped(two_versions) == {"v1"})


async def test_an_index_that_cannot_be_read_is_refused(
    two: httpx.AsyncClient, two_versions: Path
) -> None:
    current = VersionStore(two_versions).layout.current
    current.unlink()
    current.mkdir()
    problem(await activate(two), 409, "index_refused")
    assert await served(two) == "v1"


async def test_while_another_process_writes_no_version_is_published(
    two: httpx.AsyncClient, two_versions: Path
) -> None:
    with VersionStore(two_versions).lock():
        problem(await activate(two, "v2"), 409, "index_busy")
    assert (await activate(two, "v2")).status_code == 200


async def test_activations_at_once_happen_one_after_the_other(two: httpx.AsyncClient) -> None:
    wanted = ["v2", "v1", "v2", None, "v1", "v2"]
    answers = [one.json() for one in await asyncio.gather(*(activate(two, v) for v in wanted))]
    assert [one["version"] for one in answers] == ["v2", "v1", "v2", "v2", "v1", "v2"]
    assert [one["previous"] for one in answers] == ["v1", "v2", "v1", "v2", "v2", "v1"]
    assert await served(two) == "v2"


async def test_no_version_takes_the_place_of_another_while_a_server_stops(
    two: httpx.AsyncClient, two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, release, open_one = threading.Event(), threading.Event(), Activator._open

    def slow(self: Activator, version: str, whole: bool) -> SearchEngine:
        begun.set()
        release.wait(20)
        return open_one(self, version, whole)

    monkeypatch.setattr(Activator, "_open", slow)
    under_way = asyncio.create_task(activate(two, "v2"))
    await until(begun.is_set)
    parts_of(two).drain()
    problem(await activate(two, "v2"), 503, "stopping")
    release.set()
    problem(await under_way, 503, "stopping")
    assert VersionStore(two_versions).current() == "v1"
    assert (await two.post(T2I, json={"query": "a bus"})).json()["index_version"] == "v1"


async def test_an_activation_goes_on_when_its_caller_hangs_up(two: httpx.AsyncClient) -> None:
    asked_for = asyncio.create_task(activate(two, "v2"))
    await asyncio.sleep(0.01)
    asked_for.cancel()
    serving = parts_of(two).serving
    await until(lambda: serving.engine.version == "v2")


async def test_what_is_no_version_is_refused_by_its_field(two: httpx.AsyncClient) -> None:
    for body in ({"version": ""}, {"version": 3}, {"versoin": "v2"}):
        problem(await two.post("/index/activate", json=body), 422, "invalid_request")
