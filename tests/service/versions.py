"""Several versions of an index below one root, and what a process holds of them."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from model.artifact.store import VersionStore
from service.engine import SearchEngine
from tests.service.asking import T2I
from tests.service.world import World, make_index

SEEDS = {"v1": 3, "v2": 4, "v3": 5}  # of the heads: other codes, so other candidates


def add_version(root: Path, world: World, encoder: Path, version: str) -> Path:
    """Publish a version whose answers are its own."""
    return make_index(root, world, encoder, version=version, heads_seed=SEEDS[version])


def publish(root: Path, version: str) -> None:
    """Let CURRENT name a version, whatever it is worth."""
    VersionStore(root).point_to(version)


def flip(path: Path, at: int = -1) -> None:
    """Break one byte of a file, or mend it again."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


async def activate(client: httpx.AsyncClient, version: str | None = None) -> httpx.Response:
    body = None if version is None else {"version": version}
    return await client.post("/index/activate", json=body)


async def served(client: httpx.AsyncClient) -> str:
    """The version, as everything that names it does."""
    answer = await client.post(T2I, json={"query": "a red dog"})
    named = {
        (await client.get("/index")).json()["version"],
        (await client.get("/readyz")).json()["index_version"],
        answer.json()["index_version"],
    }
    assert len(named) == 1
    return str(named.pop())


def mapped(root: Path) -> set[str]:
    """Versions with a file below `root` that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    inside = (line.partition(f"{root}/versions/")[2] for line in lines)
    return {path.partition("/")[0] for path in inside if path}


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    """Anonymous memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise AssertionError("no RssAnon in /proc/self/status")


def watched(engine: SearchEngine) -> Callable[[], bool]:
    """Whether an engine is still there; holds on to nothing."""
    held = weakref.ref(engine)
    return lambda: held() is not None


@contextmanager
def no_collection() -> Iterator[None]:
    """Only what nothing refers to any more is freed: no cycles are looked for."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
