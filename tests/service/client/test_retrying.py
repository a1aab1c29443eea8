"""When a call is tried again: by hand counts and a clock that only pauses move."""

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.client import Problem, RetryPolicy, UnavailableError
from service.client.calls import index, request, search_text
from service.client.effects import Effect, Pause, Send
from service.client.errors import ClientError, ForeignAnswerError, RequestRefusedError, unanswered
from service.client.exchange import exchange
from service.client.retry_after import seconds_to_wait

T = TypeVar("T")
NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
STEADY = RetryPolicy(tries=6, seconds=100, jitter=0)


def unavailable(retry_after: float | None = None) -> UnavailableError:
    problem = Problem(
        type="about:blank", title="", status=503, detail="", instance="/", code="", request_id=""
    )
    return UnavailableError(problem, retry_after)


class World:
    """Answers every request from a list; its clock moves by pauses and by answers' own time."""

    def __init__(self, *outcomes: int | dict[str, str] | Exception, seconds: float = 0) -> None:
        self.outcomes = list(outcomes)
        self.seconds = seconds
        self.time = 0.0
        self.pauses: list[float] = []
        self.sent = 0

    def run(self, call: Coroutine[Effect[Any], Any, T]) -> T:
        value: object = None
        try:
            while True:
                effect = call.send(value)
                outcome = self.happen(effect)
                while isinstance(outcome, Exception):
                    outcome = self.happen(call.throw(outcome))
                value = outcome
        except StopIteration as done:
            result: T = done.value
            return result

    def happen(self, effect: Effect[Any]) -> object:
        if isinstance(effect, Pause):
            self.pauses.append(effect.seconds)
            self.time += effect.seconds
            return None
        assert isinstance(effect, Send)
        self.sent += 1
        self.time += self.seconds
        asked = httpx.Request(effect.method, f"http://meet.test{effect.path}")
        outcome = self.outcomes.pop(0)
        match outcome:
            case int():
                return httpx.Response(outcome, request=asked, json={})
            case dict():
                return httpx.Response(429, headers=outcome, request=asked)
            case httpx.RequestError():
                outcome.request = asked
        return outcome


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT", "date": NOW}, 30),
        ({"retry-after": "Sunday, 06-Nov-94 08:50:07 GMT", "date": NOW}, 30),
        ({"retry-after": "Sun Nov  6 08:50:07 1994", "date": NOW}, 30),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:07 GMT", "date": NOW}, 0),
        ({"retry-after": NOW}, 0),
        ({"retry-after": NOW, "date": "yesterday"}, 0),
        ({"retry-after": "9" * 400}, 366 * 86_400),
    ],
)
def test_both_forms_of_retry_after_give_seconds(headers: dict[str, str], seconds: float) -> None:
    assert seconds_to_wait(httpx.Headers(headers)) == seconds


def test_a_date_without_the_servers_own_counts_from_this_clock() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    seconds = seconds_to_wait({"retry-after": soon})
    assert seconds is not None
    assert 90 < seconds <= 100


@pytest.mark.parametrize(
    "said", ["", "-1", "1.5", "soon", "²", "٣", "Sun, 99 Nov 1994 08:49:37 GMT", "1e3"]
)
def test_what_is_neither_seconds_nor_a_date_says_nothing(said: str) -> None:
    assert seconds_to_wait({"retry-after": said}) is None
    assert seconds_to_wait({}) is None


def test_pauses_double_up_to_the_longest() -> None:
    policy = RetryPolicy(tries=8, first_pause=0.5, longest_pause=3, jitter=0)
    pauses = [policy.pause(unavailable(), tried, 0, draw=0.9) for tried in range(1, 9)]
    assert pauses == [0.5, 1, 2, 3, 3, 3, 3, None]


@settings(max_examples=25)
@given(st.integers(1, 99), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1000))
def test_jitter_shortens_an_own_pause_and_only_lengthens_one_that_was_asked_for(
    tried: int, draw: float, asked: float | None
) -> None:
    policy = RetryPolicy(tries=100, seconds=1e6, first_pause=0.1, longest_pause=5, jitter=0.5)
    pause = policy.pause(unavailable(asked), tried, 0, draw)
    own = min(5, 0.1 * 2 ** (tried - 1))
    assert pause is not None
    if asked is None:
        assert own / 2 <= pause <= own
    else:
        assert asked <= pause <= asked + own / 2


def test_nothing_is_tried_that_could_not_begin_in_time() -> None:
    policy = RetryPolicy(tries=9, seconds=10, jitter=0)
    assert policy.pause(unavailable(4), 1, 6, 0) == 4
    assert policy.pause(unavailable(4), 1, 6.1, 0) is None


def test_a_call_is_given_up_after_its_tries_with_the_last_error() -> None:
    world = World(503, 429, *[503] * 9)
    with pytest.raises(UnavailableError) as caught:
        world.run(exchange(search_text("a"), STEADY, lambda: world.time))
    assert caught.value.status == 503
    assert world.sent == 6
    assert world.pauses == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_a_call_is_given_up_when_its_time_is_over() -> None:
    world = World(*[503] * 99, seconds=4)
    policy = RetryPolicy(tries=50, seconds=10, first_pause=1, jitter=0)
    with pytest.raises(UnavailableError):
        world.run(exchange(search_text("a"), policy, lambda: world.time))
    # Tries begin after 0 and 4 + 1 seconds; the next one would after 9 + 2.
    assert world.pauses == [1]
    assert world.sent == 2


def test_a_wait_longer_than_the_time_there_is_ends_at_once() -> None:
    world = World({"retry-after": "3600"})
    with pytest.raises(UnavailableError) as caught:
        world.run(exchange(search_text("a"), STEADY, lambda: world.time))
    assert caught.value.retry_after == 3600
    assert (world.sent, world.pauses) == (1, [])


PASSING = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"),
    httpx.ReadError("reset"),
    httpx.WriteError("broken pipe"),
    httpx.RemoteProtocolError("cut"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_a_lost_connection_is_tried_again(error: httpx.RequestError) -> None:
    world = World(error, {"retry-after": "3"}, error, 400)
    with pytest.raises(RequestRefusedError):
        world.run(exchange(index(), STEADY, lambda: world.time))
    assert world.pauses == [0.1, 3, 0.4]


LASTING: list[int | Exception] = [
    400, 401, 404, 422, 500, 502, 504, 302,
    httpx.ReadTimeout("slow"), httpx.PoolTimeout("busy"), httpx.LocalProtocolError("bad header"),
]  # fmt: skip


@pytest.mark.parametrize("outcome", LASTING, ids=str)
def test_what_would_fail_again_or_add_to_the_load_is_not_tried_again(
    outcome: int | Exception,
) -> None:
    world = World(outcome)
    with pytest.raises(ClientError):
        world.run(exchange(search_text("a"), STEADY, lambda: world.time))
    assert world.sent == 1


@pytest.mark.parametrize("outcome", [429, 503, *PASSING], ids=str)
def test_an_admins_call_is_made_once(outcome: int | Exception) -> None:
    world = World(outcome)
    with pytest.raises(ClientError):
        world.run(exchange(request("POST", "/index/activate", {}), STEADY, lambda: world.time))
    assert world.sent == 1


def every_request_error(root: type[Exception] = httpx.RequestError) -> list[type[Exception]]:
    return [root, *(one for child in root.__subclasses__() for one in every_request_error(child))]


@pytest.mark.parametrize("kind", every_request_error())
def test_every_error_below_becomes_one_of_this_client(kind: type[httpx.RequestError]) -> None:
    asked = httpx.Request("GET", "http://somebody:secret@meet.test:81/index")
    words = str(unanswered(kind("why", request=asked)))
    assert "no answer from http://meet.test:81" in words
    assert "secret" not in words


def test_an_answer_that_no_route_gives_is_named() -> None:
    world = World(200)
    with pytest.raises(ForeignAnswerError, match=r"GET http://meet.test/index .* 200.*version"):
        world.run(exchange(index(), STEADY, lambda: world.time))
