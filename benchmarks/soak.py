"""Thousands of mixed requests and many swaps of versions: nothing lost, nothing mixed, memory flat.

    python -m benchmarks.soak --index runs/soak

The index needs two versions. A real server answers texts, vectors, items, pictures, filtered and
several queries, and requests that are wrong, from many connections at once, while versions are
activated at even distances. Every answer has to have the status that its request deserves, and
the hits that its version gave before the load. Memory is what the process holds for itself
(RssAnon): the median of the run's last quarter against that of its second.
"""

import argparse
import asyncio
import json
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

from benchmarks.serving import environment
from benchmarks.smoke import started
from model.artifact.reader import Artifact, open_artifact
from model.artifact.store import VersionStore
from model.core.errors import InputError, MeetError
from model.core.types import FloatArray, Modality

T2I, I2T = "/search/text-to-image", "/search/image-to-text"
GROWTH = 0.05
SAMPLES = 80
KINDS = 40  # different requests of each kind
K = 5


@dataclass(frozen=True)
class Ask:
    """A request, and the status that it deserves."""

    kind: str
    method: str
    path: str
    status: int = 200
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def searches(self) -> bool:
        """Whether its answer names hits of one version."""
        return self.status == 200 and self.path.startswith("/search")

    async def send(self, client: httpx.AsyncClient) -> httpx.Response:
        """The server's answer."""
        return await client.request(self.method, self.path, **self.told)


def requests_of(artifact: Artifact) -> list[Ask]:
    """Every kind of request over the items of an index, in turns."""
    rng = np.random.default_rng(0)
    images, texts = (artifact.side(modality) for modality in Modality)
    rows = rng.integers(0, len(images), KINDS)
    captions = [texts.items[int(row)].caption or "" for row in rng.integers(0, len(texts), KINDS)]
    ids = [images.items.id(int(row)) for row in rows]
    vectors: FloatArray = np.asarray(texts.embeddings[:KINDS], np.float32)
    pictures = [artifact.thumbnail(int(row)) for row in rows]
    turns = zip(captions, ids, vectors, pictures, strict=True)
    return [ask for turn in turns for ask in _turn(*turn)]


def _turn(caption: str, image_id: str, vector: FloatArray, picture: bytes | None) -> list[Ask]:
    """One request of each kind."""
    found = [
        _search("text", T2I, query=caption),
        _search("vector", T2I, vector=vector.round(5).tolist()),
        _search("explained", T2I, query=caption, explain=True, offset=3, collapse=2),
        _search("filtered", T2I, query=caption, filter={"id": {"in": [image_id]}}),
        _search("several", T2I, queries=[caption, caption[::-1]]),
        _search("item", I2T, id=image_id),
        _search("similar", "/search/similar", id=image_id),
        Ask("wrong", "POST", T2I, 422, {"json": {"query": caption, "k": 0}}),
        Ask("unknown", "GET", "/items/there-is-no-such-item", 404),
        Ask("thumbnail", "GET", f"/items/{quote(image_id, safe='')}/image"),
    ]
    if picture is not None:
        told = {"files": {"image": picture}, "data": {"k": str(K)}}
        found.append(Ask("picture", "POST", I2T, told=told))
    return found


def _search(kind: str, path: str, **body: object) -> Ask:
    return Ask(kind, "POST", path, told={"json": {"k": K, **body}})


@dataclass
class Tally:
    """What happened so far."""

    answered: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    swaps: int = 0
    memory: list[tuple[int, int]] = field(default_factory=list)  # requests so far, bytes
    seconds: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Answers so far."""
        return self.answered.total()

    @property
    def growth(self) -> float:
        """The last quarter's memory over the second quarter's, less one."""
        sizes = [size for _, size in self.memory]
        quarter = max(1, len(sizes) // 4)
        return median(sizes[-quarter:]) / median(sizes[quarter : 2 * quarter]) - 1


class Soak:
    """One run against one server."""

    def __init__(self, client: httpx.AsyncClient, asks: Sequence[Ask], pid: int) -> None:
        self.client, self.asks, self.pid = client, asks, pid
        self.tally = Tally()
        self._expected: dict[tuple[str, int], list[list[str]]] = {}

    async def learn(self, versions: Sequence[str]) -> None:
        """Note what each version answers when it is asked alone."""
        for version in versions:
            await self.activate(version)
            for place, ask in enumerate(self.asks):
                if ask.searches:
                    answer = (await ask.send(self.client)).raise_for_status().json()
                    self._expected[version, place] = _hits(answer)

    async def activate(self, version: str) -> None:
        """Serve this one."""
        told = await self.client.post("/index/activate", json={"version": version})
        told.raise_for_status()

    async def run(self, total: int, clients: int, swaps: int, versions: Sequence[str]) -> None:
        """So many requests by so many clients, with swaps at even distances."""
        callers = [asyncio.create_task(self._call(first, total)) for first in range(clients)]
        watching = asyncio.create_task(self._watch(total))
        for turn in range(swaps):
            while self.tally.requests < (turn + 1) * total // (swaps + 1):
                await asyncio.sleep(0.01)
                if all(one.done() for one in callers):
                    break
            await self.activate(versions[turn % len(versions)])
            self.tally.swaps += 1
        await asyncio.gather(*callers)
        watching.cancel()

    async def _call(self, first: int, total: int) -> None:
        turn = first * 17
        while self.tally.requests < total:
            turn += 1
            place = turn % len(self.asks)
            began = perf_counter()
            answer = await self.asks[place].send(self.client)
            self.tally.seconds.append(perf_counter() - began)
            self._count(place, answer)

    def _count(self, place: int, answer: httpx.Response) -> None:
        ask, tally = self.asks[place], self.tally
        tally.answered[ask.kind] += 1
        if answer.status_code != ask.status:
            tally.wrong[f"{ask.kind}: {answer.status_code} for {ask.status}"] += 1
        elif ask.searches:
            told = answer.json()
            if _hits(told) != self._expected.get((_version(told), place)):
                tally.wrong[f"{ask.kind}: not what version {_version(told)} answers"] += 1

    async def _watch(self, total: int) -> None:
        """Note the server's memory at even distances."""
        step = max(1, total // SAMPLES)
        while True:
            if self.tally.requests >= len(self.tally.memory) * step:
                self.tally.memory.append((self.tally.requests, anonymous_bytes(self.pid)))
            await asyncio.sleep(0.005)


def _hits(told: dict[str, Any]) -> list[list[str]]:
    return [[hit["id"] for hit in one["hits"]] for one in told.get("answers", [told])]


def _version(told: dict[str, Any]) -> str:
    """The version that all answers come from, or several."""
    return " and ".join(sorted({one["index_version"] for one in told.get("answers", [told])}))


def anonymous_bytes(pid: int) -> int:
    """Memory that a process holds for itself, without mapped files (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


async def soak(root: Path, total: int, clients: int, swaps: int) -> Tally:
    """Serve the index, ask, swap.

    Raises:
        InputError: the index has fewer than two versions.
    """
    versions = VersionStore(root).names()[-2:]
    if len(versions) < 2:
        raise InputError(f"a soak swaps two versions, {root} has {len(versions)}: build again")
    key = secrets.token_hex(16)
    told = {"MEET_ADMIN_KEYS": key, "MEET_LOG_LEVEL": "warning", "MEET_WATCH_SECONDS": "0"}
    with environment(told), started(root) as (process, url):
        limits = httpx.Limits(max_connections=clients)
        async with httpx.AsyncClient(
            base_url=url, headers={"X-API-Key": key}, timeout=60, limits=limits
        ) as client:
            run = Soak(client, requests_of(open_artifact(root)), process.pid)
            await run.learn(versions)
            await run.run(total, clients, swaps, versions)
            return run.tally


def report(tally: Tally) -> str:
    """What was asked, what went wrong, how long it took, and the memory by requests."""
    p50, p99 = np.percentile(tally.seconds, (50, 99)) * 1000
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tally.answered.items()))
    wrong = "; ".join(f"{count} of {what}" for what, count in tally.wrong.items()) or "none"
    lines = [
        f"{tally.requests:,} requests ({kinds}), {tally.swaps} swaps; wrong answers: {wrong}.",
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms. Memory of its own: {tally.growth:+.1%} from the "
        f"second quarter of the run to the last (at most ±{GROWTH:.0%}).",
        "",
        "| requests | MiB |",
        "| ---: | ---: |",
        *(f"| {at:,} | {size / 2**20:.1f} |" for at, size in tally.memory[:: SAMPLES // 10]),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every answer was right and memory is flat, else 1; 2 for bad input."""
    told = _parser().parse_args(arguments)
    try:
        tally = asyncio.run(soak(told.index, told.requests, told.clients, told.swaps))
    except (MeetError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    growth = tally.growth
    held = not tally.wrong and tally.swaps == told.swaps and abs(growth) <= GROWTH
    words = {
        "requests": tally.requests,
        "swaps": tally.swaps,
        "growth": round(growth, 4),
        "wrong": dict(tally.wrong),
    }
    print(json.dumps(words) if told.json else report(tally))
    return 0 if held else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--index", type=Path, required=True, help="an index with two versions")
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--clients", type=int, default=16, help="connections at once")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="the verdict alone, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
