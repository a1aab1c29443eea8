from pathlib import Path

import numpy as np
import pytest

from index_builder.cli import main
from index_builder.warming import WarmOptions, warm
from model.artifact.reader import Artifact, open_artifact
from model.cascade import Cascade
from model.core.types import Direction, Modality
from model.reverse_lists.compute import reverse_lists
from model.reverse_lists.layers import LayeredLists
from model.reverse_lists.redis_door import RedisDoor
from model.reverse_lists.redis_layer import RedisLayer
from model.reverse_lists.redis_options import RedisOptions
from tests.index_builder.conftest import Built
from tests.support.redis_server import RedisServer

Captured = pytest.CaptureFixture[str]
COUNTS = {Modality.IMAGE: 60, Modality.TEXT: 120}
BOTH = pytest.mark.parametrize("lists", ["lazy", "stored"])


def root_of(artifact: Artifact) -> str:
    return str(artifact.root)


def asked_of_redis(artifact: Artifact, server: RedisServer) -> dict[Modality, LayeredLists]:
    """The lists as a server with an empty memory asks for them."""
    door = RedisDoor(server.url, RedisOptions(timeout_seconds=10.0))
    sides = Cascade.from_artifact(artifact, cache_bytes=0).sides
    found = {}
    for direction in Direction:
        lists = sides[direction.candidate].lists
        assert isinstance(lists, LayeredLists)
        z = artifact.manifest.bank.z
        lists.share(RedisLayer(door, artifact.version, direction, z))
        found[direction.candidate] = lists
    return found


@pytest.mark.redis
@BOTH
def test_every_list_lies_under_the_key_that_servers_ask_for(
    build: Built, vectors: Path, redis_server: RedisServer, lists: str
) -> None:
    artifact = build(vectors, lists=lists)
    warmed = warm(artifact, WarmOptions(redis_url=redis_server.url), show_progress=False)
    assert {one.modality: one.lists for one in warmed} == COUNTS
    assert [one.computed for one in warmed] == ([60, 120] if lists == "lazy" else [0, 0])
    for modality, layered in asked_of_redis(artifact, redis_server).items():
        side, bank = artifact.side(modality), artifact.banks[modality.other]
        expected = reverse_lists(side.embeddings, bank, artifact.manifest.bank.z)
        np.testing.assert_array_equal(layered.lists(np.arange(len(side))), expected)
        if lists == "lazy":
            assert layered.lookups == {"memory": 0, "redis": len(side)}
    assert redis_server.command("DBSIZE") == ["180"]


@pytest.mark.redis
def test_a_second_run_computes_only_what_went_missing_and_lets_all_stay_longer(
    build: Built, vectors: Path, redis_server: RedisServer, capsys: Captured
) -> None:
    artifact = build(vectors, lists="lazy")
    told = ["warm", "--index", root_of(artifact), "--redis-url", redis_server.url]
    assert main([*told, "--keep-seconds", "50"]) == 0
    gone, kept = (f"meet:{artifact.version}:text-to-image:{row}" for row in (7, 8))
    before = redis_server.command("--no-raw", "GET", gone)
    redis_server.command("DEL", gone)
    capsys.readouterr()
    assert main(told) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"60 image lists of {artifact.version} in redis, 1 of them computed now",
        f"120 text lists of {artifact.version} in redis, 0 of them computed now",
    ]
    assert redis_server.command("--no-raw", "GET", gone) == before
    assert int(redis_server.command("TTL", kept)[0]) > 600_000


@pytest.mark.redis
@BOTH
def test_a_full_redis_is_one_sentence(
    build: Built, vectors: Path, redis_server: RedisServer, capsys: Captured, lists: str
) -> None:
    artifact = build(vectors, lists=lists)
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    assert main(["warm", "--index", root_of(artifact), "--redis-url", redis_server.url]) == 2
    errors = capsys.readouterr().err
    assert "meet-build: redis took 0 of 60 image lists and no more: full: " in errors


@BOTH
def test_an_absent_redis_is_one_sentence_before_anything_is_computed(
    build: Built, vectors: Path, capsys: Captured, lists: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = build(vectors, lists=lists)
    monkeypatch.delattr("model.reverse_lists.layers.ComputedLists.lists")
    url = "redis://127.0.0.1:1"
    assert main(["warm", "--index", root_of(artifact), "--redis-url", url]) == 2
    assert "connection: " in capsys.readouterr().err


def test_bad_input_is_one_sentence(build: Built, vectors: Path, capsys: Captured) -> None:
    root = root_of(build(vectors, lists="lazy"))
    assert main(["warm", "--index", root, "--redis-url", "localhost:6379"]) == 2
    assert "localhost:6379" in capsys.readouterr().err
    url = "redis://localhost"
    assert main(["warm", "--index", root, "--redis-url", url, "--keep-seconds", "0"]) == 2
    assert "--keep-seconds" in capsys.readouterr().err
    assert main(["warm", "--index", root]) == 2
    assert "--redis-url" in capsys.readouterr().err
    assert main(["warm", "--index", root, "--redis-url", url, "--version", "v0"]) == 2
    assert "'v0'" in capsys.readouterr().err


def test_a_version_without_a_bank_has_no_lists_to_load(
    build: Built, vectors: Path, capsys: Captured
) -> None:
    (vectors / "text.npy").unlink()
    (vectors / "captions.txt").unlink()
    artifact = build(vectors)
    assert open_artifact(artifact.root).banks.keys() <= {Modality.IMAGE}
    url = "redis://localhost"
    assert main(["warm", "--index", root_of(artifact), "--redis-url", url]) == 2
    assert "no bank" in capsys.readouterr().err
