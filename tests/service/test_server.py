import base64
import http.client
import json
import shlex
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.core.types import Direction
from service.engine import SearchEngine
from tests.service.conftest import Launcher, Running, Starting
from tests.service.test_search import direct
from tests.service.world import World
from tests.support.redis_server import RedisServer

WAIT_SECONDS = 20
BACK_SECONDS = 60  # the longest pause of a breaker is 30


@pytest.fixture(scope="module")
def both(launcher: Launcher, index_root: Path) -> tuple[Starting, Starting]:
    """One server to ask and one to stop, loading side by side."""
    return launcher.start(index_root), launcher.start(index_root)


@pytest.fixture(scope="module")
def server(both: tuple[Starting, Starting]) -> Running:
    return both[0].ready()


def lookups(url: str, direction: Direction) -> dict[str, float]:
    """Reverse lists by the layer that gave them."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return {
        sample.labels["layer"]: sample.value
        for family in families
        if family.name == "meet_reverse_list_lookups"
        for sample in family.samples
        if sample.labels["direction"] == direction
    }


def test_the_greeting_names_the_address_and_two_commands_that_work(
    server: Running,
) -> None:
    first, *commands = server.greeting
    assert server.url in first
    assert len(commands) == 2
    for command, direction in zip(commands, Direction, strict=True):
        words = shlex.split(command)
        assert words[:2] == ["curl", "-s"]
        assert words[2] == f"{server.url}/search/{direction}"
        kind, body = words[words.index("-H") + 1], words[words.index("-d") + 1]
        name, _, value = kind.partition(": ")
        response = httpx.post(words[2], content=body, headers={name: value})
        assert len(response.json()["hits"]) == 3


def test_answers_over_http_equal_the_cascade_called_directly(
    server: Running, engine: SearchEngine, world: World
) -> None:
    for caption in world.captions[::12]:
        body = {"query": caption, "k": 5}
        answer = httpx.post(f"{server.url}/search/text-to-image", json=body).json()
        found = [(hit["id"], hit["score"]) for hit in answer["hits"]]
        expected = direct(
            engine, Direction.TEXT_TO_IMAGE, engine.encoder.encode_texts([caption]), 5
        )
        assert [one for one, _ in found] == [one for one, _ in expected]
        assert [s for _, s in found] == pytest.approx([s for _, s in expected], abs=1e-6)


def test_bad_requests_leave_the_process_answering(server: Running, world: World) -> None:
    url = f"{server.url}/search/image-to-text"
    good = {"image": world.image_path(3).read_bytes()}
    expected = httpx.post(url, files=good).json()["hits"]
    assert httpx.post(url, files={"image": b"no picture"}).status_code == 422
    assert httpx.post(url, content=b"{", headers={"content-type": "application/json"}).is_error
    assert httpx.get(f"{server.url}/items/nobody").status_code == 404
    assert httpx.post(url, files=good).json()["hits"] == expected


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_above_the_limit_gets_its_answer_before_the_connection_closes(
    server: Running, declared: bool
) -> None:
    size = 25 * 2**20
    chunks = (bytes(2**20) for _ in range(size // 2**20))
    headers = {"content-type": "application/json"}
    if declared:
        headers["content-length"] = str(size)
    response = httpx.post(f"{server.url}/search/text-to-image", content=chunks, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_a_caller_that_hangs_up_while_sending_harms_nobody(server: Running) -> None:
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port or 80)) as caller:
        caller.sendall(
            b"POST /search/text-to-image HTTP/1.1\r\nhost: meet\r\n"
            b"content-type: application/json\r\ncontent-length: 1000\r\n\r\n{"
        )
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_a_stop_lets_a_running_request_end_and_leaves_with_zero(
    both: tuple[Starting, Starting],
) -> None:
    running = both[1].ready()
    address = httpx.URL(running.url)
    where = (address.host, address.port or 80)
    body = b'{"query": "a red dog", "k": 5}'
    with socket.create_connection(where, timeout=WAIT_SECONDS) as caller:
        caller.sendall(
            b"POST /search/text-to-image HTTP/1.1\r\nhost: meet\r\nexpect: 100-continue\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        # The server says so once the request is running and its body is asked for.
        assert caller.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        running.process.terminate()
        wait_until_refused(where)
        caller.sendall(body)
        response = http.client.HTTPResponse(caller)
        response.begin()
        assert response.status == 200
        assert len(json.load(response)["hits"]) == 5
    assert running.process.wait(WAIT_SECONDS) == 0


def wait_until_refused(where: tuple[str, int]) -> None:
    """Return once nobody listens there any more."""
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        try:
            socket.create_connection(where, timeout=WAIT_SECONDS).close()
        except ConnectionError:
            return
        time.sleep(0.02)
    raise TimeoutError(f"somebody still listens at {where}")


@dataclass(frozen=True)
class Pair:
    """Two servers over one index that share a redis-server."""

    redis: RedisServer
    first: str
    second: str


@pytest.fixture(scope="module")
def pair(launcher: Launcher, lazy_root: Path) -> Iterator[Pair]:
    if not RedisServer.installed():
        pytest.skip("no redis-server on the PATH")
    redis = RedisServer()
    with pytest.MonkeyPatch.context() as patch:
        # What is shared is the question here, not how fast a busy machine shares it.
        patch.setenv("MEET_REDIS_TIMEOUT_MS", "10000")
        starting = [launcher.start(lazy_root, "--redis-url", redis.url) for _ in range(2)]
    try:
        first, second = (one.ready().url for one in starting)
        yield Pair(redis, first, second)
    finally:
        redis.close()


def sample(url: str, name: str, label: str) -> float:
    """One series by the value of its only label."""
    return next(
        one.value
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
        for one in family.samples
        if one.name == name and label in one.labels.values()
    )


@pytest.mark.redis
@pytest.mark.parametrize(
    ("direction", "query"),
    [
        (Direction.TEXT_TO_IMAGE, {"query": "a black lamp"}),
        (Direction.IMAGE_TO_TEXT, {"id": "photo-20"}),
    ],
)
def test_a_second_server_reads_what_the_first_one_computed(
    pair: Pair, direction: Direction, query: dict[str, str]
) -> None:
    # Other options each time, or the whole answer would come from Redis.
    first, second = (
        httpx.post(f"{url}/search/{direction}", json={**query, "k": k}).json()["hits"]
        for url, k in ((pair.first, 9), (pair.second, 10))
    )
    assert first == second[:9]
    own, shared = lookups(pair.first, direction), lookups(pair.second, direction)
    assert own["computed"] == shared["redis"] > 0
    assert own["redis"] == shared["computed"] == 0
    httpx.post(f"{pair.second}/search/{direction}", json={**query, "k": 8})
    assert lookups(pair.second, direction)["memory"] == shared["redis"]


@pytest.mark.redis
def test_a_second_server_gives_the_whole_answer_of_the_first(pair: Pair, world: World) -> None:
    query = {"image": base64.b64encode(world.image_path(7).read_bytes()).decode(), "explain": True}
    path = "search/image-to-text"
    first = httpx.post(f"{pair.first}/{path}", json=query).json()["hits"]
    wait_until(lambda: bool("".join(pair.redis.command("KEYS", "*:answer:*"))))
    # The first answer is written a moment after it was given.
    hits = ("meet_answer_lookups_total", "hit")
    before = sample(pair.second, *hits)
    wait_until(
        lambda: (
            httpx.post(f"{pair.second}/{path}", json=query).json()["hits"] == first
            and sample(pair.second, *hits) > before
        )
    )


def wait_until(happens: Callable[[], bool]) -> None:
    until = time.monotonic() + BACK_SECONDS
    while not happens():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.redis
def test_a_killed_redis_changes_no_answer_and_is_shared_again_once_it_is_back(
    pair: Pair, engine: SearchEngine, world: World
) -> None:
    breaker = ("meet_redis_breaker_open", "server")
    pair.redis.kill()
    for caption in world.captions[:20]:
        response = httpx.post(f"{pair.first}/search/text-to-image", json={"query": caption})
        expected = direct(engine, Direction.TEXT_TO_IMAGE, engine.encoder.encode_texts([caption]))
        assert [hit["id"] for hit in response.json()["hits"]] == [one for one, _ in expected]
    assert httpx.get(f"{pair.first}/readyz").status_code == 200
    assert sample(pair.first, *breaker) == 1
    pair.redis.start()

    def is_back() -> bool:
        """Whether both ask Redis again; only a search probes it."""
        for url in (pair.first, pair.second):
            httpx.post(f"{url}/search/text-to-image", json={"query": "a white hill"})
        return not any(sample(url, *breaker) for url in (pair.first, pair.second))

    wait_until(is_back)
    hits = ("meet_answer_lookups_total", "hit")
    before = sample(pair.first, *hits)
    wait_until(lambda: is_back() and sample(pair.first, *hits) > before)
