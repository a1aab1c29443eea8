from pathlib import Path

import numpy as np
import pytest

from index_builder.cli import main
from index_builder.warming import WarmOptions, warm
from model.artifact.manifest import ListsKind
from model.artifact.reader import Artifact, open_artifact
from model.cascade import Cascade
from model.core.types import Direction, Modality
from model.reverse_lists.compute import reverse_lists
from model.reverse_lists.layers import LayeredLists
from model.reverse_lists.redis_door import RedisDoor
from model.reverse_lists.redis_layer import RedisLayer
from model.reverse_lists.redis_options import RedisOptions
from tests.index_builder.conftest import DIM
from tests.support.redis_server import RedisServer

Captured = pytest.CaptureFixture[str]
COUNTS = {Modality.IMAGE: 60, Modality.TEXT: 120}


@pytest.fixture(scope="module")
def lazy(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return built(tmp_path_factory.mktemp("lazy"), "lazy")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return built(tmp_path_factory.mktemp("stored"), "stored")


@pytest.fixture(params=["lazy", "stored"])
def either(request: pytest.FixtureRequest) -> Artifact:
    artifact: Artifact = request.getfixturevalue(request.param)
    return artifact


def built(folder: Path, lists: str, *, captions: int = 120) -> Artifact:
    """An index of 60 image vectors and so many text vectors."""
    rng, gallery = np.random.default_rng(0), folder / "vectors"
    gallery.mkdir()
    np.save(gallery / "image.npy", rng.standard_normal((60, DIM)).astype(np.float32))
    if captions:
        np.save(gallery / "text.npy", rng.standard_normal((captions, DIM)).astype(np.float32))
        lines = "".join(f"caption {row}\n" for row in range(captions))
        (gallery / "captions.txt").write_text(lines)
    told = ["--gallery", gallery, "--encoder", "none", "--out", folder / "root", "--lists", lists]
    assert main([str(word) for word in told]) == 0
    return open_artifact(folder / "root")


def warming(artifact: Artifact, url: str, *flags: str) -> int:
    return main(["warm", "--index", str(artifact.root), "--redis-url", url, *flags])


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
def test_every_list_lies_under_the_key_that_servers_ask_for(
    either: Artifact, redis_server: RedisServer
) -> None:
    warmed = warm(either, WarmOptions(redis_url=redis_server.url), show_progress=False)
    is_lazy = either.manifest.lists is ListsKind.LAZY
    assert {one.modality: one.lists for one in warmed} == COUNTS
    assert [one.computed for one in warmed] == ([60, 120] if is_lazy else [0, 0])
    for modality, layered in asked_of_redis(either, redis_server).items():
        side, bank = either.side(modality), either.banks[modality.other]
        expected = reverse_lists(side.embeddings, bank, either.manifest.bank.z)
        np.testing.assert_array_equal(layered.lists(np.arange(len(side))), expected)
        if is_lazy:
            assert layered.lookups == {"memory": 0, "redis": len(side)}
    assert redis_server.command("DBSIZE") == ["180"]


@pytest.mark.redis
def test_a_second_run_computes_only_what_went_missing_and_lets_all_stay_longer(
    lazy: Artifact, redis_server: RedisServer, capsys: Captured
) -> None:
    assert warming(lazy, redis_server.url, "--keep-seconds", "50") == 0
    gone, kept = (f"meet:{lazy.version}:text-to-image:{row}" for row in (7, 8))
    before = redis_server.command("--no-raw", "GET", gone)
    redis_server.command("DEL", gone)
    capsys.readouterr()
    assert warming(lazy, redis_server.url) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"60 image lists of {lazy.version} in redis, 1 of them computed now",
        f"120 text lists of {lazy.version} in redis, 0 of them computed now",
    ]
    assert redis_server.command("--no-raw", "GET", gone) == before
    assert int(redis_server.command("TTL", kept)[0]) > 600_000


@pytest.mark.redis
def test_a_full_redis_is_one_sentence(
    either: Artifact, redis_server: RedisServer, capsys: Captured
) -> None:
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    assert warming(either, redis_server.url) == 2
    errors = capsys.readouterr().err
    assert "meet-build: redis took 0 of 60 image lists and no more: full: " in errors


def test_an_absent_redis_is_one_sentence_before_anything_is_computed(
    either: Artifact, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("model.reverse_lists.layers.ComputedLists.lists")
    assert warming(either, "redis://127.0.0.1:1") == 2
    assert "connection: " in capsys.readouterr().err


def test_bad_input_is_one_sentence(lazy: Artifact, capsys: Captured) -> None:
    url = "redis://localhost"
    assert warming(lazy, "localhost:6379") == 2
    assert "localhost:6379" in capsys.readouterr().err
    assert warming(lazy, url, "--keep-seconds", "0") == 2
    assert "--keep-seconds" in capsys.readouterr().err
    assert main(["warm", "--index", str(lazy.root)]) == 2
    assert "--redis-url" in capsys.readouterr().err
    assert warming(lazy, url, "--version", "v0") == 2
    assert "'v0'" in capsys.readouterr().err


def test_a_version_without_a_bank_has_no_lists_to_load(tmp_path: Path, capsys: Captured) -> None:
    artifact = built(tmp_path, "lazy", captions=0)
    assert warming(artifact, "redis://localhost") == 2
    assert "no bank" in capsys.readouterr().err
