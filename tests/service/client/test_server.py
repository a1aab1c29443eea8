"""Both clients against a real server: their answers are those of the cascade called directly."""

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.core.types import Direction, FloatArray, Modality
from model.core.vectors import l2_normalised
from service.client import (
    AsyncMeetClient,
    Call,
    MeetClient,
    NotFoundError,
    RequestRefusedError,
    SearchAnswer,
)
from service.client.calls import (
    index,
    item,
    original,
    ready,
    request,
    search_image,
    search_text,
    thumbnail,
)
from service.engine import SearchEngine
from service.local import LocalIndex
from tests.service.client.conftest import Style
from tests.service.test_search import direct
from tests.service.world import DIM, HARD_IDS, World

T2I, I2T = Direction.TEXT_TO_IMAGE, Direction.IMAGE_TO_TEXT
VECTOR = np.random.default_rng(4).normal(size=DIM).astype(np.float32)


def of_text(engine: SearchEngine, _: World) -> FloatArray:
    return engine.encoder.encode_texts(["one cat that is red"])


def of_vector(_: SearchEngine, __: World) -> FloatArray:
    return l2_normalised(VECTOR[None])


def of_picture(engine: SearchEngine, world: World) -> FloatArray:
    with Image.open(world.image_path(9)) as image:
        return engine.encoder.encode_images([image.convert("RGB")])


def of_stored(engine: SearchEngine, _: World) -> FloatArray:
    stored = engine.artifact.side(Modality.IMAGE).embeddings[2].astype(np.float32)
    return l2_normalised(stored[None])


Embed = Callable[[SearchEngine, World], FloatArray]
SEARCHES: dict[str, tuple[Direction, Embed, Callable[[World], Call[SearchAnswer]]]] = {
    "text": (T2I, of_text, lambda _: search_text("one cat that is red", k=6)),
    "text vector": (T2I, of_vector, lambda _: search_text(vector=VECTOR, k=6)),
    "path": (I2T, of_picture, lambda world: search_image(world.image_path(9), k=6)),
    "bytes": (I2T, of_picture, lambda world: search_image(world.image_path(9).read_bytes(), k=6)),
    "id": (I2T, of_stored, lambda _: search_image(id=HARD_IDS[2], k=6)),
    "image vector": (I2T, of_vector, lambda _: search_image(vector=VECTOR.tolist(), k=6)),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_both_clients_and_an_opened_index_give_what_the_cascade_gives(
    url: str, engine: SearchEngine, local: LocalIndex, world: World, name: str
) -> None:
    direction, embed, make = SEARCHES[name]
    expected = direct(engine, direction, embed(engine, world), 6)
    answers = [style.ask(url, make(world)) for style in Style] + [local.ask(make(world))]
    for answer in answers:
        assert [hit.id for hit in answer.hits] == [one for one, _ in expected]
        scores = [hit.score for hit in answer.hits]
        assert scores == pytest.approx([score for _, score in expected], abs=1e-6)
        assert answer.direction is direction
        assert set(answer.milliseconds) == set(answers[0].milliseconds)
    assert answers[0].hits == answers[1].hits == answers[2].hits


def test_an_explanation_comes_whole(style: Style, url: str) -> None:
    answer = style.ask(url, search_text("a white boat", explain=True, rerank="reference"))
    assert answer.rerank == "reference"
    shown = [hit.explanation for hit in answer.hits]
    assert [one.rank_after_rerank for one in shown if one is not None] == list(range(10))


@pytest.mark.parametrize("item_id", HARD_IDS)
def test_items_and_their_pictures(
    style: Style, url: str, engine: SearchEngine, world: World, item_id: str
) -> None:
    found = style.ask(url, item(item_id))
    assert found.id == item_id
    assert found.captions == [f"{item_id}#0", f"{item_id}#1"]
    small = style.ask(url, thumbnail(item_id))
    assert small.media_type == "image/webp"
    assert small.data == engine.thumbnail(item_id).data
    full = style.ask(url, original(item_id))
    assert full.media_type == "image/png"
    assert full.data == world.image_path(world.ids.index(item_id)).read_bytes()


def test_the_index_says_what_can_be_asked(style: Style, url: str, engine: SearchEngine) -> None:
    answer = style.ask(url, index())
    assert answer.version == engine.version
    assert answer.counts == engine.artifact.manifest.counts
    assert answer.budget == engine.budget
    assert answer.limits.max_k == 1000
    assert style.ask(url, ready()) is True
    assert style.ask(url, request("GET", "/healthz")) == {"status": "ok"}


@pytest.mark.parametrize("item_id", ["nobody", "..", ".", "../index", ""])
def test_an_unknown_id_is_an_error_that_names_it(style: Style, url: str, item_id: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        style.ask(url, item(item_id))
    assert caught.value.code == "unknown_item"
    assert len(caught.value.request_id) == 32
    assert caught.value.request_id in str(caught.value)


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        (search_text("a bus", k=0), "invalid_request", "k: "),
        (
            search_text(),
            "invalid_request",
            "exactly one of `query`, `id`, `vector`, `queries` is needed, none was given",
        ),
        (search_text("a bus", vector=VECTOR), "invalid_request", "`query` and `vector` were given"),
        (search_text(vector=[float("nan")] * DIM), "invalid_request", "finite"),
        (search_text(vector=[1.0]), "vector_rejected", f"D={DIM}"),
        (search_text("word " * 300), "text_rejected", "256 words"),
        (search_text("a bus", rerank="pillar"), "unsupported_rerank", "pillar"),
        (search_image(b"no picture"), "image_rejected", "JPEG, PNG"),
        (search_image(b"no picture", id="a/image"), "invalid_request", "id: "),
    ],
)
def test_the_servers_rules_are_its_own_words(
    style: Style, url: str, call: Call[SearchAnswer], code: str, words: str
) -> None:
    with pytest.raises(RequestRefusedError, match="request") as caught:
        style.ask(url, call)
    assert caught.value.code == code
    assert words in caught.value.detail


def same_hits(found: list[SearchAnswer], expected: list[SearchAnswer]) -> None:
    """The same items; an encoder's last bits depend on the texts that share its batch."""
    for one, other in zip(found, expected, strict=True):
        assert [hit.id for hit in one.hits] == [hit.id for hit in other.hits]
        scores = [hit.score for hit in other.hits]
        assert [hit.score for hit in one.hits] == pytest.approx(scores, abs=1e-5)


def test_threads_share_a_client(url: str, world: World) -> None:
    captions = world.captions[:12]
    with MeetClient(url) as client, ThreadPoolExecutor(8) as threads:
        alone = [client.search_text(caption, k=5) for caption in captions]
        together = list(threads.map(lambda text: client.search_text(text, k=5), captions))
    same_hits(together, alone)


def test_a_loop_shares_a_client(url: str, world: World) -> None:
    captions = world.captions[:12]

    async def ask_all() -> list[SearchAnswer]:
        async with AsyncMeetClient(url) as client:
            return await asyncio.gather(*(client.search_text(text, k=5) for text in captions))

    with MeetClient(url) as client:
        alone = [client.search_text(caption, k=5) for caption in captions]
    same_hits(asyncio.run(ask_all()), alone)


def test_a_thumbnail_is_a_picture(url: str) -> None:
    with MeetClient(url) as client:
        data = client.thumbnail("photo-07").data
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (16, 16)


@pytest.fixture(scope="module")
def local(index_root: Path) -> LocalIndex:
    return LocalIndex(index_root)
