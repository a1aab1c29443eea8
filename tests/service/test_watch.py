"""What is published next to a running server: followed, or refused once until it changes."""

import asyncio
import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from index_builder.cli import main as meet_build
from model.artifact.store import VersionStore
from model.core.errors import MeetError
from service.aside import aside
from service.engine import SearchEngine
from service.errors import IndexRefusedError, NotReadyError, StoppingError
from service.serving import Outcome, Serving
from service.watch import RETRY_SECONDS, Watcher, watching
from tests.service.asking import parts_of, until
from tests.service.conftest import OpenClient
from tests.service.test_operations import metrics
from tests.service.versions import flip, publish, served

pytestmark = pytest.mark.anyio


class Attempts:
    """Counts, and fails as long as it is told to."""

    def __init__(self) -> None:
        self.count, self.error = 0, None

    error: MeetError | None

    async def __call__(self) -> None:
        self.count += 1
        if self.error is not None:
            raise self.error


@pytest.fixture(scope="module")
def serving(index_root: Path) -> Serving:
    return Serving(SearchEngine.open(index_root))


async def test_nothing_is_tried_while_current_names_what_is_served(
    serving: Serving, two_versions: Path
) -> None:
    tried = Attempts()
    watcher = Watcher(serving, tried, two_versions)
    for _ in range(3):
        await watcher.look()
    publish(two_versions, "v1")  # the file is another one, what it says is not
    await watcher.look()
    assert tried.count == 0


async def test_what_was_refused_is_tried_again_once_it_changes(
    serving: Serving, two_versions: Path
) -> None:
    tried = Attempts()
    tried.error = IndexRefusedError("broken")
    watcher = Watcher(serving, tried, two_versions)
    publish(two_versions, "v2")
    for _ in range(4):
        await watcher.look()
    assert tried.count == 1
    flip(two_versions / "versions" / "v2" / "image" / "embeddings.npy")
    for _ in range(3):
        await watcher.look()
    assert tried.count == 2
    publish(two_versions, "v2")
    await watcher.look()
    assert tried.count == 3
    publish(two_versions, "v9")
    for _ in range(3):
        await watcher.look()
    assert tried.count == 4
    (two_versions / "versions" / "v9").mkdir()
    tried.error = None
    for _ in range(3):
        await watcher.look()
    assert tried.count == 5
    VersionStore(two_versions).layout.current.unlink()
    for _ in range(3):
        await watcher.look()
    assert tried.count == 6


async def test_what_had_no_time_or_memory_is_tried_again_after_a_while(
    serving: Serving, two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = Attempts()
    tried.error = NotReadyError("a probe takes at most 5 s, it took longer")
    watcher = Watcher(serving, tried, two_versions)
    publish(two_versions, "v2")
    for _ in range(3):
        await watcher.look()
    assert tried.count == 1
    later = time.monotonic() + RETRY_SECONDS
    monkeypatch.setattr("service.watch.monotonic", lambda: later)
    tried.error = None
    for _ in range(3):
        await watcher.look()
    assert tried.count == 2


async def test_a_change_while_one_is_tried_is_tried_as_well(
    serving: Serving, two_versions: Path
) -> None:
    tried: list[str | None] = []

    async def changing() -> None:
        tried.append(VersionStore(two_versions).current())
        publish(two_versions, "v3" if len(tried) == 1 else "v1")

    watcher = Watcher(serving, changing, two_versions)
    publish(two_versions, "v2")
    for _ in range(4):
        await watcher.look()
    assert tried == ["v2", "v3"]


async def test_watching_ends_with_the_service_and_outlives_an_index_that_is_away(
    serving: Serving,
    two_versions: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried, stat = Attempts(), Path.stat
    away = threading.Event()

    def failing(path: Path, *, follow_symlinks: bool = True) -> object:
        if away.is_set() and path.name == "CURRENT":
            raise OSError(116, "Stale file handle")
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", failing)
    away.set()
    tried.error = StoppingError("the service is stopping")
    with caplog.at_level(logging.WARNING, "service"):
        async with asyncio.timeout(20), watching(Watcher(serving, tried, two_versions), 0.005):
            await until(lambda: "Stale file handle" in caplog.text)
            publish(two_versions, "v2")
            away.clear()
            await until(lambda: tried.count == 1)
            await asyncio.sleep(0.05)
    assert tried.count == 1
    async with watching(Watcher(serving, tried, two_versions), 0):
        await asyncio.sleep(0.02)
    assert tried.count == 1


async def test_a_server_follows_what_meet_build_publishes_and_what_it_rolls_back_to(
    tmp_path: Path, open_client: OpenClient
) -> None:
    gallery, root, names = tmp_path / "gallery", tmp_path / "root", []
    gallery.mkdir()
    rng = np.random.default_rng(0)
    for modality in ("image", "text"):
        np.save(gallery / f"{modality}.npy", rng.standard_normal((40, 16)).astype(np.float32))

    def build(seed: int) -> str:
        told = ["--gallery", str(gallery), "--encoder", "none", "--out", str(root)]
        assert meet_build([*told, "--seed", str(seed)]) == 0
        return VersionStore(root).require()

    names.append(build(seed=0))
    async with open_client(SearchEngine.open(root), watch_seconds=0.02) as client:
        serving = parts_of(client).serving
        names.append(await aside(build, seed=1))
        await until(lambda: serving.engine.version == names[1])
        vector = {"vector": [1.0] * 16}
        answer = (await client.post("/search/text-to-image", json=vector)).json()
        assert answer["index_version"] == names[1] != names[0]
        told = ["activate", "--index", str(root), names[0]]
        assert await aside(meet_build, told) == 0
        await until(lambda: serving.engine.version == names[0])
        assert (await metrics(client))["meet_index_activations_total", "activated"] == 2


async def test_a_server_serves_on_while_a_broken_version_is_published_and_then_mended(
    two_versions: Path, open_client: OpenClient, caplog: pytest.LogCaptureFixture
) -> None:
    path = two_versions / "versions" / "v2" / "text" / "pq_codes.npy"
    flip(path)
    with caplog.at_level(logging.WARNING, "service"):
        async with open_client(SearchEngine.open(two_versions), watch_seconds=0.01) as client:
            outcomes = parts_of(client).serving.outcomes
            publish(two_versions, "v2")
            await until(lambda: outcomes[Outcome.REFUSED] == 1)
            await asyncio.sleep(0.1)
            assert await served(client) == "v1"
            assert outcomes == {"refused": 1}
            assert len(caplog.records) == 1
            assert "pq_codes.npy" in caplog.text
            flip(path)
            await until(lambda: outcomes[Outcome.ACTIVATED] == 1)
            assert await served(client) == "v2"
