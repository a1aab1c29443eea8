"""JSON or msgpack, both ways: which form a caller gets, and that both say the same."""

import json
from base64 import b64encode
from contextlib import suppress
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import NotAcceptableError
from service.formats import Form, accepted, in_form, json_of
from tests.service.test_bad_input import I2T, T2I, problem
from tests.service.world import DIM, World

pytestmark = pytest.mark.anyio
PACKED = {"content-type": "application/msgpack"}


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/msgpack", "application/msgpack"),
        ("application/x-msgpack", "application/x-msgpack"),
        ("Application/MsgPack ; q=0.5", "application/msgpack"),
        ("application/json, application/msgpack", "application/json"),
        ("application/json;q=0.5, application/msgpack", "application/msgpack"),
        ("application/json;q=0.5, application/msgpack;q=0.4", "application/json"),
        ("application/msgpack;q=0.1, */*;q=0.2", "application/json"),
        ("*/*;q=0.1, application/x-msgpack", "application/x-msgpack"),
        ("application/json;q=0, */*", "application/msgpack"),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", "application/json"),
        ("application/msgpack;q=high", "application/json"),
        ("nonsense", "application/json"),
        (", ,", "application/json"),
    ],
)
def test_the_form_that_is_liked_best_is_given(header: str, form: str) -> None:
    assert accepted(header) is Form(form)


@pytest.mark.parametrize("header", ["text/html", "application/json;q=0", "*/*;q=0", "image/*"])
def test_what_is_not_given_is_refused(header: str) -> None:
    with pytest.raises(NotAcceptableError, match="application/json or application/msgpack"):
        accepted(header)


@given(st.text())
def test_no_header_breaks_anything(header: str) -> None:
    with suppress(NotAcceptableError):
        assert accepted(header) in Form


@pytest.mark.parametrize("form", ["application/msgpack", "application/x-msgpack"])
async def test_both_forms_say_the_same(client: httpx.AsyncClient, form: str) -> None:
    for path, body in (
        (T2I, {"query": "a red dog", "k": 60, "explain": True, "why_not": ["photo-07"]}),
        (T2I, {"queries": ["a red dog", " "]}),
        (I2T, {"id": "photo-07"}),
        ("/search/similar", {"id": "photo-07"}),
    ):
        plain = await client.post(path, json=body)
        packed = await client.post(path, json=body, headers={"accept": form})
        assert plain.headers["content-type"] == "application/json"
        assert packed.headers["content-type"] == form
        assert plain.headers["vary"] == packed.headers["vary"] == "Accept"
        assert timeless(msgpack.unpackb(packed.content)) == timeless(plain.json())


def timeless(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without what differs from call to call."""
    each = answer.get("answers", [answer])
    kept = [{n: v for n, v in one.items() if n not in CHANGING} for one in each]
    return {"answers": kept}


CHANGING = {"milliseconds", "request_id"}


async def test_a_problem_is_a_problem_document_in_every_form(client: httpx.AsyncClient) -> None:
    headers = {"accept": "application/msgpack"}
    problem(await client.post(T2I, json={"query": " "}, headers=headers), 422, "text_rejected")
    response = await client.post(T2I, json={"query": "a bus"}, headers={"accept": "text/html"})
    assert "application/msgpack" in problem(response, 406, "not_acceptable")["detail"]


async def test_a_packed_request_is_the_same_request(
    client: httpx.AsyncClient, world: World
) -> None:
    vector = np.random.default_rng(1).normal(size=DIM).astype(np.float32)
    picture = world.image_path(9).read_bytes()
    cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (T2I, same := {"query": "a red dog", "k": 7, "rerank": "none", "explain": True}, same),
        (T2I, chosen := {"query": "a", "filter": {"row": {"gte": 3}}, "offset": 2}, chosen),
        (T2I, {"vector": vector.tobytes()}, {"vector": vector.tolist()}),
        (T2I, moved := {"vector": vector.tolist(), "minus": ["a bus"]}, moved),
        (I2T, {"image": picture}, {"image": b64encode(picture).decode()}),
        (
            T2I,
            {"queries": ["a red dog", {"vector": vector.tobytes()}], "k": 3},
            {"queries": ["a red dog", {"vector": vector.tolist()}], "k": 3},
        ),
    ]
    for path, packed, plain in cases:
        found = await client.post(path, content=msgpack.packb(packed), headers=PACKED)
        assert found.status_code == 200, found.text
        expected = await client.post(path, json=plain)
        assert timeless(found.json()) == timeless(expected.json())


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "broken_msgpack"),
        (b"\xc1", 400, "broken_msgpack"),
        (msgpack.packb({"query": "a bus"})[:-1], 400, "broken_msgpack"),
        (msgpack.packb({"query": "a bus"}) + b"\x00", 400, "broken_msgpack"),
        (b"\x91" * 5000 + b"\x90", 400, "broken_msgpack"),
        (b"\x81\xa5query\xa1\xff", 400, "broken_msgpack"),
        (msgpack.packb({"query": msgpack.ExtType(5, b"a")}), 400, "broken_msgpack"),
        (msgpack.packb({"query": b"a bus"}), 400, "broken_msgpack"),
        (msgpack.packb({"vector": b"abc"}), 400, "broken_msgpack"),
        (msgpack.packb({b"query": "a"}), 400, "broken_msgpack"),
        (msgpack.packb({7: "a"}), 400, "broken_msgpack"),
        (msgpack.packb(["a bus"]), 422, "invalid_request"),
        (msgpack.packb({"query": "a bus", "k": "7"}), 422, "invalid_request"),
        (msgpack.packb({"query": "a bus", "k": True}), 422, "invalid_request"),
        (msgpack.packb({"vector": [float("nan")]}), 422, "invalid_request"),
        (msgpack.packb({"vector": np.full(DIM, np.inf, np.float32).tobytes()}), 422, None),
        (msgpack.packb({"vector": b""}), 422, "invalid_request"),
    ],
    ids=range(17),
)
async def test_a_packed_request_that_breaks_a_rule_is_named(
    client: httpx.AsyncClient, body: bytes, status: int, code: str | None
) -> None:
    response = await client.post(T2I, content=body, headers=PACKED)
    problem(response, status, code or "invalid_request")


def test_numbers_beyond_64_bits_come_as_text() -> None:
    answer = {"metadata": {"wide": 10**30, "far": float("inf"), "near": 2**63}}
    packed = msgpack.unpackb(in_form(answer, Form.MSGPACK).body)
    assert packed == {"metadata": {"wide": str(10**30), "far": None, "near": 2**63}}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=8,
    )
)
def test_whatever_json_holds_passes_through_msgpack(value: object) -> None:
    assert json.loads(json_of(msgpack.packb(value))) == value


async def test_the_description_names_every_form(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for name in (T2I, I2T, "/search/similar"):
        described = paths[name]["post"]
        assert set(Form) <= set(described["requestBody"]["content"])
        assert set(described["responses"]["200"]["content"]) == set(Form)
        assert "406" in described["responses"]
