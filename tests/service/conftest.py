import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from model.artifact.manifest import ListsKind
from model.core.types import Modality
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.reranker import PillarReranker
from service.app import create_app
from service.engine import SearchEngine
from service.limits import Limits
from service.settings import ServiceSettings
from tests.service.versions import add_version
from tests.service.world import World, make_encoder, make_index, make_world

LIMITS = Limits(max_body_bytes=200_000)
ADMIN_KEY = "open-sesame-open-sesame"
START_SECONDS = 180.0
OpenClient = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of whoever runs the tests stay out of them."""
    for name in ServiceSettings.model_fields:
        monkeypatch.delenv(f"MEET_{name.upper()}", raising=False)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("gallery") / "images")


@pytest.fixture(scope="session")
def encoder_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder") / "tiny", seed=1)


@pytest.fixture(scope="session")
def index_root(
    tmp_path_factory: pytest.TempPathFactory, world: World, encoder_source: Path
) -> Path:
    return make_index(tmp_path_factory.mktemp("stored") / "root", world, encoder_source)


@pytest.fixture(scope="session")
def lazy_root(tmp_path_factory: pytest.TempPathFactory, world: World, encoder_source: Path) -> Path:
    root = tmp_path_factory.mktemp("lazy") / "root"
    return make_index(root, world, encoder_source, lists=ListsKind.LAZY)


@pytest.fixture(scope="session")
def regions_root(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    directory = tmp_path_factory.mktemp("regions")
    encoder = make_encoder(directory / "encoder", seed=2, sees_images=False)
    return make_index(directory / "root", world, encoder, thumbnails=False)


@pytest.fixture(scope="session")
def vectors_root(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    root = tmp_path_factory.mktemp("vectors") / "root"
    return make_index(root, world, None, lists=ListsKind.NONE, thumbnails=False)


@pytest.fixture(scope="session")
def images_root(
    tmp_path_factory: pytest.TempPathFactory, world: World, encoder_source: Path
) -> Path:
    root = tmp_path_factory.mktemp("images") / "root"
    return make_index(root, world, encoder_source, modalities=(Modality.IMAGE,))


@pytest.fixture(scope="session")
def pillar_engine(
    tmp_path_factory: pytest.TempPathFactory, world: World, encoder_source: Path
) -> SearchEngine:
    """An index with a pillar re-ranker."""
    reranker = PillarReranker.untrained(PillarConfig(width=8, heads=2), seed=0)
    root = tmp_path_factory.mktemp("pillar") / "root"
    return SearchEngine.open(make_index(root, world, encoder_source, pillar=reranker))


@pytest.fixture(scope="session")
def engine(index_root: Path) -> SearchEngine:
    return SearchEngine.open(index_root)


@pytest.fixture(scope="session")
def open_client() -> OpenClient:
    """A client of a running app over any engine."""

    @asynccontextmanager
    async def opened(
        engine: SearchEngine, headers: Mapping[str, str] | None = None, **given: object
    ) -> AsyncIterator[httpx.AsyncClient]:
        quiet = {"watch_seconds": 0, "shadow_share": 0}
        told: dict[str, Any] = {"limits": LIMITS, "probe_seconds": 2, **quiet, **given}
        settings = ServiceSettings(index=engine.artifact.root, **told)
        app = create_app(settings, engine)
        del engine  # another version may take its place
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=transport, base_url="http://meet.test", headers=headers
            ) as client,
        ):
            yield client

    return opened


@pytest.fixture(scope="session")
def open_admin(open_client: OpenClient) -> OpenClient:
    """The same with an admin key, which the client sends."""
    return partial(open_client, headers={"X-API-Key": ADMIN_KEY}, admin_keys=ADMIN_KEY)


@pytest.fixture
async def client(engine: SearchEngine, open_client: OpenClient) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(engine) as opened:
        yield opened


@pytest.fixture
async def admin(engine: SearchEngine, open_admin: OpenClient) -> AsyncIterator[httpx.AsyncClient]:
    async with open_admin(engine) as opened:
        yield opened


@dataclass(frozen=True)
class Running:
    """A server process that said where it is."""

    process: subprocess.Popen[str]
    url: str
    greeting: tuple[str, ...]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


@dataclass(frozen=True)
class Starting:
    """A server process that still loads."""

    process: subprocess.Popen[str]
    output: Path

    def ready(self) -> Running:
        until = time.monotonic() + START_SECONDS
        while len(lines := self.output.read_text().splitlines()) < 3:
            assert self.process.poll() is None, "the server ended before it was up"
            assert time.monotonic() < until, "the server did not come up in time"
            time.sleep(0.05)
        found = re.search(r"at (http://\S+)", lines[0])
        assert found is not None
        return Running(self.process, found[1], tuple(lines))


class Launcher:
    """Starts server processes on free ports and ends what is still running."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[tuple[subprocess.Popen[str], IO[str]]] = []

    def start(self, root: Path, *flags: str, log: Path | None = None) -> Starting:
        """Start one; with `log` its stderr goes to that file."""
        output = self.directory / f"stdout-{len(self.started)}"
        file = output.open("w")
        command = [sys.executable, "-m", "service.cli", "--index", str(root), "--port", "0", *flags]
        with ExitStack() as opened:
            errors = None if log is None else opened.enter_context(log.open("w"))
            process = subprocess.Popen(command, stdout=file, stderr=errors, text=True)
        self.started.append((process, file))
        return Starting(process, output)

    def close(self) -> None:
        for process, file in self.started:
            process.kill()
            process.wait()
            file.close()


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    opened = Launcher(tmp_path_factory.mktemp("servers"))
    yield opened
    opened.close()


@pytest.fixture
def copied_root(index_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_root, tmp_path / "root"))


@pytest.fixture(scope="session")
def _versions(tmp_path_factory: pytest.TempPathFactory, world: World, encoder_source: Path) -> Path:
    root = tmp_path_factory.mktemp("versions") / "root"
    for version in ("v2", "v1"):
        add_version(root, world, encoder_source, version)
    return root


@pytest.fixture
def two_versions(_versions: Path, tmp_path: Path) -> Path:
    """An index of a test's own with versions v1, which is published, and v2."""
    return Path(shutil.copytree(_versions, tmp_path / "root"))
