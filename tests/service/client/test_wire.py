"""What goes over the wire and comes back, against a server that does as it is told."""

import json
import pickle
import socket
import struct
from collections.abc import Iterable
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path

import msgpack
import numpy as np
import pytest

from model.core.errors import InputError
from service.client import (
    AccessRefusedError,
    AsyncMeetClient,
    Call,
    ForeignAnswerError,
    MeetClient,
    NotFoundError,
    Problem,
    ProblemError,
    RequestRefusedError,
    RetryPolicy,
    SearchAnswer,
    ServerFaultError,
    TimedOutError,
    UnavailableError,
    UnreachableError,
)
from service.client.calls import (
    index,
    item,
    ready,
    request,
    search_image,
    search_images,
    search_text,
    search_texts,
    similar,
    thumbnail,
)
from tests.service.client.conftest import Style
from tests.service.client.stub import ANSWER, JSON, Asked, Reply, Trouble, stubbed

QUICK = RetryPolicy(first_pause=0.01, jitter=0)
PROBLEM = {
    "type": "urn:meet:problem:text_rejected",
    "title": "The text cannot be used",
    "status": 422,
    "detail": "a query takes at most 256 words, got 300",
    "instance": "/search/text-to-image",
    "code": "text_rejected",
    "request_id": "abc-1",
    "errors": [{"field": "query", "rule": "at most 256 words", "value": "300"}],
    "limit": 256,
}


def refusal(status: int, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"content-type": "application/problem+json", **named}, b"{}")


def sent_json(asked: Asked) -> object:
    assert asked.headers["content-type"] == "application/json"
    return json.loads(asked.body)


def sent_packed(asked: Asked) -> object:
    assert asked.headers["content-type"] == "application/msgpack"
    return msgpack.unpackb(asked.body)


def sent_form(asked: Asked) -> dict[str, bytes]:
    head = f"content-type: {asked.headers['content-type']}\r\n\r\n".encode()
    form = message_from_bytes(head + asked.body, policy=HTTP)
    return {
        str(part.get_param("name", header="content-disposition")): part.get_content()
        if part.get_content_maintype() == "application"
        else part.get_content().encode()
        for part in form.iter_parts()
    }


@pytest.mark.parametrize(
    "reply",
    [
        refusal(429, retry_after="0"),
        refusal(503, retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
        Reply(503, {"content-type": "text/html"}, b"<h1>a proxy says no</h1>"),
        Trouble.DROPPED,
        Trouble.RESET,
        Trouble.CUT,
    ],
)
def test_what_fails_for_now_is_asked_again(style: Style, reply: Reply | Trouble) -> None:
    with stubbed(reply, reply) as stub:
        answer = style.ask(stub.url, search_image(b"picture", k=3), retry=QUICK)
    assert [hit.id for hit in answer.hits] == ["one"]
    first, *others = stub.asked
    assert [sent_form(one) for one in others] == 2 * [{"image": b"picture", "k": b"3"}]
    assert sent_form(first) == sent_form(others[0])


@pytest.mark.parametrize(
    ("style", "headers"),
    [
        (Style.BLOCKING, {"retry-after": "1"}),
        (
            Style.AWAITED,
            {
                "retry-after": "Sun, 06 Nov 1994 08:49:38 GMT",
                "date": "Sun, 06 Nov 1994 08:49:37 GMT",
            },
        ),
    ],
)
def test_the_server_says_how_long_to_wait(style: Style, headers: dict[str, str]) -> None:
    with stubbed(Reply(429, headers, b"")) as stub:
        style.ask(stub.url, search_text("a"), retry=QUICK)
    first, second = stub.asked
    assert second.moment - first.moment >= 1


def test_a_connection_that_is_always_dropped_ends_the_call(style: Style) -> None:
    with stubbed(*[Trouble.DROPPED] * 9) as stub, pytest.raises(UnreachableError) as caught:
        style.ask(stub.url, index(), retry=QUICK)
    assert len(stub.asked) == QUICK.tries
    assert stub.url in str(caught.value)


def test_nobody_listening_is_named(style: Style) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"http://127.0.0.1:{port}: "):
        style.ask(f"http://127.0.0.1:{port}", ready(), retry=QUICK)


def test_a_slow_server_is_asked_once(style: Style) -> None:
    with stubbed(Trouble.SLOW) as stub, pytest.raises(TimedOutError, match="ReadTimeout"):
        style.ask(stub.url, index(), timeout=0.05, retry=QUICK)
    assert len(stub.asked) == 1


@pytest.mark.parametrize("reply", [refusal(503, retry_after="0"), Trouble.DROPPED])
def test_an_admins_call_is_made_once_and_a_look_more_often(
    style: Style, reply: Reply | Trouble
) -> None:
    with stubbed(reply) as stub:
        with pytest.raises((UnavailableError, UnreachableError)):
            style.ask(stub.url, request("POST", "/index/activate", {"version": "v2"}), retry=QUICK)
        assert sent_json(stub.asked[0]) == {"version": "v2"}
        assert style.ask(stub.url, request("GET", "/versions"), retry=QUICK) == ANSWER
    assert len(stub.asked) == 2
    with stubbed(reply) as stub:
        assert style.ask(stub.url, request("GET", "/versions"), retry=QUICK) == ANSWER
    assert len(stub.asked) == 2


@pytest.mark.parametrize(("status", "is_ready"), [(200, True), (503, False)])
def test_readiness_is_asked_once(style: Style, status: int, is_ready: bool) -> None:
    with stubbed(refusal(status, retry_after="0")) as stub:
        assert style.ask(stub.url, ready(), retry=QUICK) is is_ready
    assert [one.path for one in stub.asked] == ["/readyz"]


CLASSES = {
    400: RequestRefusedError,
    401: AccessRefusedError,
    403: AccessRefusedError,
    404: NotFoundError,
    413: RequestRefusedError,
    422: RequestRefusedError,
    429: UnavailableError,
    500: ServerFaultError,
    503: UnavailableError,
    504: ServerFaultError,
}


@pytest.mark.parametrize("status", CLASSES)
def test_a_problem_is_an_error_that_says_all_of_it(style: Style, status: int) -> None:
    document = PROBLEM | {"status": status}
    headers = {"content-type": "application/problem+json", "retry-after": "3600"}
    reply = Reply(status, headers, json.dumps(document).encode())
    with stubbed(reply) as stub, pytest.raises(ProblemError) as caught:
        style.ask(stub.url, search_text("a"))
    error = caught.value
    assert type(error) is CLASSES[status]
    assert (error.status, error.code, error.request_id) == (status, "text_rejected", "abc-1")
    assert str(error) == f"{PROBLEM['detail']} ({status} text_rejected, request abc-1)"
    assert [one.field for one in error.violations] == ["query"]
    assert error.retry_after == 3600
    assert error.problem.model_extra == {"limit": 256}
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copied), str(copied)) == (type(error), str(error))


@pytest.mark.parametrize(
    ("status", "code", "title"), [(502, "bad_gateway", "Bad Gateway"), (599, "http_599", "Unknown")]
)
def test_a_proxys_own_page_is_an_error_by_its_status(
    style: Style, status: int, code: str, title: str
) -> None:
    reply = Reply(status, {"content-type": "text/html", "x-request-id": "seven"}, b"<h1>oops</h1>")
    with stubbed(reply) as stub, pytest.raises(ServerFaultError) as caught:
        style.ask(stub.url, index())
    assert (caught.value.code, caught.value.request_id) == (code, "seven")
    assert f"GET {stub.url}/index was answered with {status} {title}" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "reply", "reason"),
    [
        (search_text("a"), Reply(200, JSON, b"<h1>welcome</h1>"), "no SearchAnswer: body: "),
        (search_text("a"), Reply(200, JSON, b"{}"), "no SearchAnswer: index_version: "),
        (index(), Reply(302, {"location": "http://elsewhere"}, b""), "no answer of this API"),
        (thumbnail("a"), Reply(200, {"content-type": "text/html"}, b"<p>"), "text/html"),
        (thumbnail("a"), Reply(200, {}, b""), "not given"),
        (request("GET", "/"), Reply(200, {}, b"<p>"), "no JSON"),
    ],
)
def test_an_answer_of_something_else_is_no_answer(
    style: Style, call: Call[object], reply: Reply, reason: str
) -> None:
    with stubbed(reply) as stub, pytest.raises(ForeignAnswerError, match=reason):
        style.ask(stub.url, call)


def test_what_a_newer_server_says_beyond_the_schema_stays_reachable(style: Style) -> None:
    newer = ANSWER | {"as_told_by": ["a newer server"]}
    with stubbed(Reply(body=json.dumps(newer).encode())) as stub:
        answer = style.ask(stub.url, search_text("a"))
    assert answer.model_extra == {"as_told_by": ["a newer server"]}


def test_fields_are_sent_as_they_are_given_and_absent_ones_are_not(style: Style) -> None:
    with stubbed() as stub:
        call = search_text(
            "dogs", k=3, rerank=None, offset=20, filter={"year": {"gte": 2020}},
            min_score=0.5, exact=True, timeout_ms=200, minus="cats",
        )  # fmt: skip
        style.ask(stub.url, call)
    assert [sent_json(one) for one in stub.asked] == [
        {
            "query": "dogs",
            "k": 3,
            "offset": 20,
            "filter": {"year": {"gte": 2020}},
            "min_score": 0.5,
            "exact": True,
            "timeout_ms": 200,
            "minus": "cats",
        },
    ]
    assert {one.path for one in stub.asked} == {"/search/text-to-image"}


@pytest.mark.parametrize("vector", [(1, 2.5), [1.0, 2.5], np.array([1, 2.5]), range(1, 3)])
def test_a_vector_travels_as_its_float32_bytes(style: Style, vector: Iterable[float]) -> None:
    with stubbed() as stub:
        style.ask(stub.url, search_text(vector=vector, k=3, minus=["a", "b"]))
    [asked] = stub.asked
    second = list(vector)[1]
    told = {"vector": struct.pack("<2f", 1, second), "k": 3, "minus": ["a", "b"]}
    assert sent_packed(asked) == told


@pytest.mark.parametrize("vector", [[1e300, 1.0], [1e-30], [0.0, 0.0], [float("inf")], []])
def test_a_vector_that_float32_cannot_hold_travels_as_it_is(
    style: Style, vector: list[float]
) -> None:
    with stubbed() as stub:
        style.ask(stub.url, search_text(vector=vector))
    assert sent_json(stub.asked[0]) == {"vector": vector}


def test_several_queries_are_one_request_with_an_answer_or_a_problem_each(style: Style) -> None:
    told = {"answers": [ANSWER, PROBLEM]}
    with stubbed(*[Reply(body=json.dumps(told).encode())] * 2) as stub:
        texts = style.ask(
            stub.url, search_texts(["dogs", {"query": "cats", "minus": "dogs"}], k=3, exact=True)
        )
        style.ask(stub.url, search_images(["photo-1", b"picture", {"vector": [1.0]}]))
    first, second = texts
    assert isinstance(first, SearchAnswer)
    assert isinstance(second, Problem)
    assert (first.hits[0].id, second.code, second.model_extra) == (
        "one",
        "text_rejected",
        {"limit": 256},
    )
    assert sent_json(stub.asked[0]) == {
        "queries": ["dogs", {"query": "cats", "minus": "dogs"}], "k": 3, "exact": True,
    }  # fmt: skip
    images = ["photo-1", {"image": b"picture"}, {"vector": struct.pack("<f", 1)}]
    assert sent_packed(stub.asked[1]) == {"queries": images}
    assert [one.path for one in stub.asked] == ["/search/text-to-image", "/search/image-to-text"]


def test_more_like_an_item_is_asked_for_by_its_id(style: Style) -> None:
    with stubbed() as stub:
        style.ask(stub.url, similar("a/image", k=3, collapse=2))
        style.ask(stub.url, similar("a/image", to="text", why_not=["b"]))
    assert [sent_json(one) for one in stub.asked] == [
        {"id": "a/image", "k": 3, "collapse": 2},
        {"id": "a/image", "to": "text", "why_not": ["b"]},
    ]
    assert {one.path for one in stub.asked} == {"/search/similar"}


def test_an_image_travels_as_a_file_unless_a_field_fits_no_form(
    style: Style, tmp_path: Path
) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"\xff\xd8\xff picture")
    with stubbed() as stub:
        for image in (path, str(path), path.read_bytes()):
            style.ask(stub.url, search_image(image, explain=True, rerank="none"))
        style.ask(stub.url, search_image(path, filter={"licence": "CC0"}))
        style.ask(stub.url, search_image(id="a/image", k=2))
    *uploads, nested, by_id = stub.asked
    form = {"image": b"\xff\xd8\xff picture", "explain": b"true", "rerank": b"none"}
    assert [sent_form(one) for one in uploads] == 3 * [form]
    packed = {"image": b"\xff\xd8\xff picture", "filter": {"licence": "CC0"}}
    assert sent_packed(nested) == packed
    assert sent_json(by_id) == {"id": "a/image", "k": 2}
    assert {one.path for one in stub.asked} == {"/search/image-to-text"}


def test_a_file_that_is_not_there_is_an_error_before_anything_is_sent(
    style: Style, tmp_path: Path
) -> None:
    with stubbed() as stub, pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        style.ask(stub.url, search_image(tmp_path / "gone.jpg"))
    assert not stub.asked


def test_a_path_in_the_url_and_hard_ids_stay_what_they_are(style: Style) -> None:
    with stubbed(*[Reply(404)] * 2) as stub:
        for item_id in ("street/corner 7 #2?x=1%", ".."):
            with pytest.raises(NotFoundError):
                style.ask(f"{stub.url}/meet/", item(item_id))
    paths = [one.path for one in stub.asked]
    assert paths == ["/meet/items/street%2Fcorner%207%20%232%3Fx%3D1%25", "/meet/items/%2E%2E"]


def test_the_key_goes_into_its_header_and_nowhere_else(style: Style) -> None:
    with stubbed(Reply(401)) as stub:
        with pytest.raises(AccessRefusedError) as caught:
            style.ask(stub.url, index(), api_key="secret-7")
        style.ask(stub.url, search_text("a"))
    assert [one.headers.get("x-api-key") for one in stub.asked] == ["secret-7", None]
    assert "secret-7" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("key", ["", "  ", "schlüssel", "two\nlines"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str) -> None:
    with pytest.raises(InputError, match="printable ASCII") as caught:
        MeetClient("http://meet.test", api_key=key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://a", "http://", "http://a:port"])
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    for kind in (MeetClient, AsyncMeetClient):
        with pytest.raises(InputError, match="a server's URL"):
            kind(url)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_time_out_is_a_time(timeout: float) -> None:
    with pytest.raises(InputError, match="above 0 s and finite"):
        MeetClient("http://meet.test", timeout=timeout)


def test_a_key_is_never_carried_to_another_server() -> None:
    with pytest.raises(InputError, match="starts with /"):
        request("GET", "http://elsewhere/index")


def test_an_answer_cannot_be_changed(style: Style) -> None:
    with stubbed() as stub:
        answer: SearchAnswer = style.ask(stub.url, search_text("a"))
    for frozen, name in ((answer, "hits"), (answer.hits[0], "score")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(frozen, name, None)
