"""Query arithmetic: what is searched for is the documented formula on unit embeddings."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.core.errors import VectorRejectedError
from model.core.types import Direction, FloatArray, Modality
from model.core.vectors import l2_normalised, shifted
from service.engine import SearchEngine
from tests.service.asking import POISON, faulty, text_search, together
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import I2T, T2I, problem
from tests.service.test_search import ask, direct, pairs
from tests.service.world import DIM, World

pytestmark = pytest.mark.anyio
TO_IMAGE, TO_TEXT = Direction.TEXT_TO_IMAGE, Direction.IMAGE_TO_TEXT


def by_hand(
    query: FloatArray, plus: FloatArray, minus: FloatArray, more: float = 0.5, less: float = 0.5
) -> FloatArray:
    """The formula of the API's description, in double precision."""
    moved = query.astype(np.float64)
    moved = moved + (more * plus.mean(axis=0) if len(plus) else 0)
    moved = moved - (less * minus.mean(axis=0) if len(minus) else 0)
    return np.asarray(moved / np.linalg.norm(moved), dtype=np.float32)[None]


def same(answer: dict[str, Any], expected: list[tuple[str, float]]) -> None:
    assert [one for one, _ in pairs(answer)] == [one for one, _ in expected]
    np.testing.assert_allclose(
        [score for _, score in pairs(answer)], [score for _, score in expected], atol=1e-5
    )


@pytest.mark.parametrize(
    ("fields", "plus", "minus", "weights"),
    [
        ({"minus": "a red hill"}, [], ["a red hill"], (0.5, 0.5)),
        ({"minus": ["a red hill", "one bus"]}, [], ["a red hill", "one bus"], (0.5, 0.5)),
        ({"plus": "a tree", "plus_weight": 1}, ["a tree"], [], (1, 0.5)),
        (
            {"plus": ["a tree"], "minus": "a lamp", "minus_weight": 0.25},
            ["a tree"],
            ["a lamp"],
            (0.5, 0.25),
        ),
        ({"minus": "a lamp", "minus_weight": 0}, [], ["a lamp"], (0.5, 0)),
        ({"minus": []}, [], [], (0.5, 0.5)),
    ],
)
async def test_a_text_moves_as_the_formula_says(
    client: httpx.AsyncClient,
    engine: SearchEngine,
    fields: dict[str, object],
    plus: list[str],
    minus: list[str],
    weights: tuple[float, float],
) -> None:
    answer = await ask(client, TO_IMAGE, query="one cat that is red", **fields)
    rows = engine.encoder.encode_texts(["one cat that is red", *plus, *minus])
    moved = by_hand(rows[0], rows[1 : 1 + len(plus)], rows[1 + len(plus) :], *weights)
    same(answer, direct(engine, TO_IMAGE, moved))


async def test_images_ids_and_vectors_are_moved_by_texts(
    client: httpx.AsyncClient, engine: SearchEngine, world: World
) -> None:
    minus = engine.encoder.encode_texts(["a green door"])
    none = minus[:0]
    stored = engine.artifact.side(Modality.IMAGE).embeddings[8].astype(np.float32)
    answer = await ask(client, TO_TEXT, id=world.ids[8], minus="a green door")
    same(answer, direct(engine, TO_TEXT, by_hand(l2_normalised(stored[None])[0], none, minus)))
    vector = np.random.default_rng(3).normal(size=DIM).astype(np.float32)
    answer = await ask(client, TO_IMAGE, vector=vector.tolist(), minus=["a green door"])
    same(answer, direct(engine, TO_IMAGE, by_hand(l2_normalised(vector[None])[0], none, minus)))


async def test_a_form_takes_one_text_or_a_list_as_json(
    client: httpx.AsyncClient, world: World
) -> None:
    files = {"image": world.image_path(4).read_bytes()}
    for told, meant in (
        ("a green door", "a green door"),
        ('["a green door", "a bus"]', ["a green door", "a bus"]),
        ("[no list", "[no list"),
    ):
        form = await client.post(I2T, files=files, data={"minus": told})
        body = {"image": b64encode(files["image"]).decode(), "minus": meant}
        assert pairs(form.json()) == pairs((await client.post(I2T, json=body)).json())


async def test_nothing_left_of_a_query_is_refused(client: httpx.AsyncClient, world: World) -> None:
    for path, body in (
        (T2I, {"query": "a bus", "minus": "a bus"}),
        (T2I, {"id": "photo-07#0", "minus": world.captions[14]}),
    ):
        response = await client.post(path, json={**body, "minus_weight": 1})
        assert "direction" in problem(response, 422, "vector_rejected")["detail"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"minus": " "}, "text_rejected"),
        ({"plus": ["fine", "word " * 300]}, "text_rejected"),
        ({"minus": ["a"] * 17}, "invalid_request"),
        ({"minus": 7}, "invalid_request"),
        ({"minus": "a", "minus_weight": 1.5}, "invalid_request"),
        ({"minus": "a", "plus_weight": -0.1}, "invalid_request"),
    ],
)
async def test_texts_that_break_a_rule_are_refused(
    client: httpx.AsyncClient, fields: dict[str, object], code: str
) -> None:
    problem(await client.post(T2I, json={"query": "a bus", **fields}), 422, code)


async def test_all_texts_of_a_batch_are_encoded_in_one_call_and_a_bad_one_fails_alone(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    broken, sizes = faulty(engine)
    async with open_client(broken) as client:
        asked = [
            text_search(query=f"a {thing}", minus=["a hill", "a bus"]) for thing in ("dog",) * 5
        ]
        responses = await together(client, asked)
        assert [one.status_code for one in responses] == [200] * 5
        assert sizes == [15]
        asked[2] = text_search(query="a dog", minus=["a hill", POISON])
        statuses = [one.status_code for one in await together(client, asked)]
    assert statuses == [200, 200, 422, 200, 200]


async def test_texts_need_an_encoder_that_takes_them(
    vectors_root: Path, open_client: OpenClient
) -> None:
    async with open_client(SearchEngine.open(vectors_root)) as client:
        body = {"vector": [1.0] * DIM, "minus": "a bus"}
        problem(await client.post(T2I, json=body), 409, "unsupported_input")


def test_the_rounding_of_a_query_is_no_direction() -> None:
    unit = l2_normalised(np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32))
    rounded = unit.astype(np.float16).astype(np.float32)
    with pytest.raises(VectorRejectedError, match=r"a length of 0\.001"):
        shifted(unit[0], unit[:0], rounded, (0.5, 1.0))
