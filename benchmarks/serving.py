"""What HTTP, the queue and the batcher cost, as ratios within one run on one machine.

    python -m benchmarks.serving --index demo/index

Three ratios, of real server processes on loopback: what a search over HTTP adds to the bare
cascade at one client, in p50s of a route that does nothing (at most 1.5); the throughput of
vector searches at 64 clients beside that route's under the same load (at least 0.4); and the
throughput of text searches with batches beside that without (at least 2). The first is given of
queries by id, which are short, and by vector, which have to be read and measured on the way. The
load comes from one process with plain sockets.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import httpx
import numpy as np

from benchmarks.smoke import Direct, serving
from model.cascade import SearchOptions
from model.core.types import Direction, FloatArray, Modality
from model.core.vectors import l2_normalised

MOST_ADDED, LEAST_SHARE, LEAST_GAIN = 1.5, 0.4, 2.0
NO_OP = "/healthz"
SEARCH = f"/search/{Direction.TEXT_TO_IMAGE}"
NO_BATCHES = {"MEET_BATCH__MAX_BATCH": "1"}
NOISE = 0.02


@dataclass(frozen=True)
class Load:
    """How much is asked."""

    clients: int
    alone: int  # requests of one client
    seconds: float  # of the load by all clients
    rounds: int
    block: int = 1  # requests of one client of the same kind in a row


@dataclass(frozen=True)
class Queries:
    """Captions of the gallery: their ids, vectors (Q, D) near theirs, and their words."""

    ids: list[str]
    vectors: FloatArray
    texts: list[str]


@dataclass(frozen=True)
class Requests:
    """Whole HTTP requests, as bytes."""

    no_op: list[bytes]
    ids: list[bytes]
    vectors: list[bytes]
    texts: list[bytes]

    @classmethod
    def of(cls, host: str, queries: "Queries") -> "Requests":
        """Requests for every id, query vector and text."""
        return cls(
            [f"GET {NO_OP} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()],
            [_post(host, {"id": one}) for one in queries.ids],
            [_post(host, {"vector": one.round(6).tolist()}) for one in queries.vectors],
            [_post(host, {"query": text}) for text in queries.texts],
        )


def _post(host: str, body: dict[str, object]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {SEARCH} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it was answered."""

    def __init__(self, requests: Sequence[bytes], first: int) -> None:
        self.requests, self.turn = requests, first
        self.seconds: list[float] = []
        self.stopped = False
        self.ended = asyncio.get_running_loop().create_future()
        self._received = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a client needs a stream, got {type(transport).__name__}")
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Note an answer that is whole, and ask the next."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self.ended.set_exception(RuntimeError(f"asked in vain: {self._received[:500]!r}"))
            return
        self.seconds.append(perf_counter() - self._began)
        self._received = b""
        if self.stopped:
            self._transport.close()
            self.ended.set_result(None)
        else:
            self._ask()

    def _ask(self) -> None:
        self.turn += 1
        self._began = perf_counter()
        self._transport.write(self.requests[self.turn % len(self.requests)])


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length: ")
    return int(rest.split(b"\r\n", 1)[0])


async def _load(url: httpx.URL, requests: Sequence[bytes], clients: int, seconds: float) -> float:
    """Answers a second to so many clients."""
    loop = asyncio.get_running_loop()
    asking = [Client(requests, 7 * place) for place in range(clients)]
    for client in asking:
        await loop.create_connection(partial(_same, client), url.host, url.port or 80)
    await asyncio.sleep(seconds / 4)
    before, began = _answers(asking), perf_counter()
    await asyncio.sleep(seconds)
    rate = (_answers(asking) - before) / (perf_counter() - began)
    for client in asking:
        client.stopped = True
    await asyncio.gather(*(client.ended for client in asking))
    return rate


def _same(client: Client) -> Client:
    return client


def _answers(asking: Sequence[Client]) -> int:
    return sum(len(client.seconds) for client in asking)


class Caller:
    """One blocking client on one connection."""

    def __init__(self, url: httpx.URL) -> None:
        self.socket = socket.create_connection((url.host, url.port or 80))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def seconds(self, requests: Sequence[bytes], count: int) -> list[float]:
        """How long each of so many answers took, one after another."""
        return [self.ask(requests[turn % len(requests)]) for turn in range(count)]

    def ask(self, request: bytes) -> float:
        """How long one answer took."""
        began = perf_counter()
        self.socket.sendall(request)
        received = b""
        while True:
            received += self.socket.recv(1 << 18)
            head, end, body = received.partition(b"\r\n\r\n")
            if end and len(body) >= _length(head):
                return perf_counter() - began


@dataclass(frozen=True)
class Alone:
    """Milliseconds at one client, medians."""

    no_op: float
    cascade: float
    by_id: float
    by_vector: float

    def added(self, search: float) -> float:
        """What a search costs beyond the cascade, in no-op answers."""
        return (search - self.cascade) / self.no_op


def measure_alone(direct: Direct, url: httpx.URL, queries: Queries, load: Load) -> Alone:
    """One client's medians over turns, in each of which all four are asked, in any order.

    So noise meets them alike, and each finds the caches as the others leave them: asked hundreds
    of times in a row all are faster, the bare cascade and the route that does nothing most.
    """
    caller, requests = Caller(url), Requests.of(url.netloc.decode(), queries)
    kinds = {
        "no_op": partial(_answered, caller, requests.no_op),
        "cascade": partial(_ranked, direct, queries.vectors),
        "by_id": partial(_answered, caller, requests.ids),
        "by_vector": partial(_answered, caller, requests.vectors),
    }
    spent: dict[str, list[float]] = {name: [] for name in kinds}
    order, draw_order = list(kinds), random.Random(0)
    for start in range(0, load.rounds * load.alone, load.block):
        draw_order.shuffle(order)
        for name in order:
            spent[name] += [kinds[name](start + turn) for turn in range(load.block)]
    return Alone(**{name: 1000 * median(seconds) for name, seconds in spent.items()})


def _answered(caller: Caller, requests: Sequence[bytes], turn: int) -> float:
    """How long one request takes."""
    return caller.ask(requests[turn % len(requests)])


def _ranked(direct: Direct, queries: FloatArray, turn: int) -> float:
    """How long a search takes with what every answer holds, calibrated scores among it."""
    options = SearchOptions(k=direct.k, budget=direct.artifact.manifest.budget, calibrate=True)
    query = queries[turn % len(queries)][None]
    began = perf_counter()
    direct.cascade.search(Direction.TEXT_TO_IMAGE, query, options)
    return perf_counter() - began


def measure_rates(
    url: httpx.URL, kinds: Mapping[str, Sequence[bytes]], load: Load
) -> dict[str, float]:
    """Answers a second of each kind of request to all clients, the best of some rounds.

    The best, since whatever else the machine does can only take away.
    """
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(load.rounds):
        for name, requests in kinds.items():
            rates[name].append(asyncio.run(_load(url, requests, load.clients, load.seconds)))
    return {name: max(found) for name, found in rates.items()}


@contextmanager
def environment(told: Mapping[str, str]) -> Iterator[None]:
    """These variables, for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in told}  # noqa: TID251 - of servers
    os.environ.update(told)  # noqa: TID251
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})  # noqa: TID251


def draw(direct: Direct, count: int) -> Queries:
    """Queries that captions of the gallery make."""
    rng = np.random.default_rng(0)
    side = direct.artifact.side(Modality.TEXT)
    rows = rng.choice(len(side), min(count, len(side)), replace=False)
    near = np.asarray(side.embeddings[np.sort(rows)], np.float32)
    near += NOISE * rng.standard_normal(near.shape).astype(np.float32)
    items = [side.items[int(row)] for row in rows]
    return Queries(
        [item.id for item in items], l2_normalised(near), [item.caption or "" for item in items]
    )


def measure(root: Path, load: Load) -> dict[str, float]:
    """All numbers by name, and the three ratios."""
    direct = Direct.open(root, 10)
    queries = draw(direct, 512)
    with serving(root) as address:
        url = httpx.URL(address)
        requests = Requests.of(url.netloc.decode(), queries)
        alone = measure_alone(direct, url, queries, load)
        kinds = {"no_op": requests.no_op, "vector": requests.vectors, "text": requests.texts}
        rates = measure_rates(url, kinds, load)
    with environment(NO_BATCHES), serving(root) as address:
        url = httpx.URL(address)
        single = measure_rates(url, {"text": requests.texts}, load)
    return {
        **{f"{name}_ms": value for name, value in asdict(alone).items()},
        "added_by_id": alone.added(alone.by_id),
        "added_by_vector": alone.added(alone.by_vector),
        **{f"{name}_per_second": value for name, value in rates.items()},
        "unbatched_text_per_second": single["text"],
        "share": rates["vector"] / rates["no_op"],
        "gain": rates["text"] / single["text"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all ratios hold, else 1."""
    options = _parser().parse_args(arguments)
    load = Load(options.clients, options.alone, options.seconds, options.rounds, options.block)
    found = measure(options.index, load)
    print(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=2))
    held = {
        f"added to the cascade by id: {found['added_by_id']:.2f} no-ops (at most {MOST_ADDED})": (
            found["added_by_id"] <= MOST_ADDED
        ),
        f"the same by vector: {found['added_by_vector']:.2f} (at most {MOST_ADDED})": (
            found["added_by_vector"] <= MOST_ADDED
        ),
        f"vectors beside no-ops: {found['share']:.2f} (at least {LEAST_SHARE})": (
            found["share"] >= LEAST_SHARE
        ),
        f"texts beside no batches: {found['gain']:.2f} (at least {LEAST_GAIN})": (
            found["gain"] >= LEAST_GAIN
        ),
    }
    for words, holds in held.items():
        print(f"{'holds' if holds else 'FAILS'}  {words}")
    return 0 if all(held.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What serving costs beside the bare cascade.")
    parser.add_argument("--index", type=Path, required=True, help="what meet-build wrote")
    parser.add_argument("--clients", type=int, default=64, help="connections at once")
    parser.add_argument("--alone", type=int, default=300, help="turns of one client a round")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a load by all clients")
    parser.add_argument("--block", type=int, default=1, help="requests of a kind in a row, a turn")
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured")
    return parser


if __name__ == "__main__":
    sys.exit(main())
