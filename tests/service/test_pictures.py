"""Pictures on the wire: turned upright, hostile ones refused, sources that stay in the gallery."""

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.data.image_limits import ImageLimits
from model.data.images import decode_image
from model.data.records import ImageRef
from model.encoders.opening import open_encoder
from service.engine import SearchEngine
from service.errors import NoImageError
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import problem
from tests.service.world import World, make_index, make_world

pytestmark = pytest.mark.anyio
I2T = "/search/image-to-text"
BUNDLED = Path(__file__).resolve().parents[2] / "model/bundled/scenes"
PRIVATE = "private-word-of-a-camera"


def photo(turn: Image.Transpose | None, orientation: int) -> bytes:
    """A picture of 8x8 tiles, as JPEG keeps them whole, turned, with an EXIF orientation."""
    tiles = np.random.default_rng(4).integers(0, 256, (12, 8, 3), np.uint8)
    image = Image.fromarray(tiles.repeat(8, axis=0).repeat(8, axis=1))
    image = image if turn is None else image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, PRIVATE
    file = io.BytesIO()
    image.save(file, "JPEG", quality=98, subsampling=0, exif=exif)
    return file.getvalue()


def test_a_turned_photo_is_embedded_as_the_upright_one() -> None:
    encoder = open_encoder(BUNDLED)
    assert encoder.image is not None
    shots = ((None, 1), (Image.Transpose.ROTATE_90, 6), (Image.Transpose.ROTATE_90, 1))
    images = [decode_image(photo(*shot), ImageLimits()) for shot in shots]
    upright, turned, lying = encoder.encode_images(images)
    assert upright @ turned > 0.999 > 0.99 > upright @ lying


async def test_metadata_of_a_query_is_never_echoed(client: httpx.AsyncClient) -> None:
    for data in (photo(None, 1), photo(None, 1)[:-2000]):
        answer = await client.post(I2T, files={"image": data}, data={"explain": "true"})
        assert PRIVATE not in answer.text
        assert answer.status_code in {200, 422}


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"II*\0" + bytes(60),
    ],
)
async def test_a_drawing_by_any_name_is_refused(client: httpx.AsyncClient, data: bytes) -> None:
    file = ("photo.png", data, "image/png")
    document = problem(await client.post(I2T, files={"image": file}), 422, "image_rejected")
    assert "JPEG, PNG, WebP, GIF or BMP" in document["detail"]


async def test_a_picture_is_told_by_its_bytes_and_not_by_its_name(
    client: httpx.AsyncClient, world: World
) -> None:
    file = ("drawing.svg", world.image_path(3).read_bytes(), "image/svg+xml")
    assert (await client.post(I2T, files={"image": file})).status_code == 200


# Sources: an index whose items name files that are none of the gallery's.


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A real picture beside the gallery."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "outside.png")
    return tmp_path / "outside.png"


def with_source(engine: SearchEngine, path: Path) -> SearchEngine:
    """The engine, whose every image says that it was built from this file."""
    hostile = SearchEngine(engine.artifact, engine.encoder, engine.cascade)
    found = engine.item
    hostile.item = lambda item_id: replace(found(item_id), image=ImageRef(path))  # type: ignore[method-assign]
    return hostile


Escape = Callable[[World, Path], Path]
ESCAPES: dict[str, Escape] = {
    "absolute": lambda _, outside: outside,
    "system": lambda *_: Path("/etc/passwd"),
    "climbing": lambda world, outside: world.directory / os.path.relpath(outside, world.directory),
    "device": lambda *_: Path("/dev/zero"),
    "folder": lambda world, _: world.directory,
    "nul": lambda world, _: world.directory / "0.png\0.png",
    "long": lambda world, _: world.directory / ("x" * 5000),
}


@pytest.mark.parametrize("name", list(ESCAPES))
async def test_a_source_outside_the_gallery_is_not_shown(
    engine: SearchEngine, open_client: OpenClient, world: World, outside: Path, name: str
) -> None:
    hostile = with_source(engine, ESCAPES[name](world, outside))
    async with open_client(hostile) as client:
        answer = await client.get("/items/photo-07/image", params={"size": "full"})
    document = problem(answer, 404, "no_image")
    assert str(outside.parent) not in document["detail"]


async def test_links_out_of_the_gallery_and_in_circles_are_not_followed(
    engine: SearchEngine, world: World, outside: Path
) -> None:
    out, circle = world.directory / "out.png", world.directory / "circle.png"
    folder, inner = world.directory / "folder", world.directory / "inner.png"
    pipe = world.directory / "pipe.png"
    out.symlink_to(outside)
    circle.symlink_to(circle)
    folder.symlink_to(outside.parent)
    inner.symlink_to(world.image_path(3).name)
    os.mkfifo(pipe)
    try:
        for path in (out, circle, folder / "outside.png", pipe):
            with pytest.raises(NoImageError, match="no source file inside"):
                with_source(engine, path).original("photo-07")
        shown = with_source(engine, inner).original("photo-07")
        assert shown.data == world.image_path(3).read_bytes()
    finally:
        for path in (out, circle, folder, inner, pipe):
            path.unlink()


async def test_an_index_on_disk_that_names_foreign_files_shows_none_of_them(
    tmp_path: Path, encoder_source: Path, open_client: OpenClient, outside: Path
) -> None:
    """Paths as the builder would write them: relative, climbing, absolute, and a link."""
    small = make_world(tmp_path / "gallery" / "images")
    shutil.copy(outside, small.directory.parent / "beside.png")
    (small.directory / "2.png").unlink()
    (small.directory / "2.png").symlink_to(outside)
    kept = (small.directory / "3.png").read_bytes()
    root = make_index(tmp_path / "root", replace_paths(small), encoder_source, thumbnails=False)
    async with open_client(SearchEngine.open(root)) as client:
        for row in (0, 1, 2, 3):
            answer = await client.get(f"/items/{quote(small.ids[row], safe='')}/image")
            if row == INSIDE:
                assert answer.content == kept
            else:
                assert (answer.status_code, answer.json()["code"]) == (404, "no_image")


INSIDE = 3


def replace_paths(world: World) -> World:
    """The world, two of whose images lie elsewhere."""
    elsewhere = {0: world.directory / "../beside.png", 1: world.directory.parent / "beside.png"}

    class Elsewhere(World):
        def image_path(self, row: int) -> Path:
            return elsewhere.get(row, super().image_path(row))

    return Elsewhere(world.directory, world.ids, world.captions)


HOSTILE = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(["..", ".", "", "etc", "passwd", "0.png", "\0", "~"]), max_size=8).map(
        "/".join
    ),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=HOSTILE)
def test_no_path_leads_out_of_its_folder(world: World, words: str) -> None:
    try:
        found = ImageRef(world.directory / words).inside(world.directory)
    except UnicodeEncodeError:  # a path that the file system has no name for
        return
    if found is not None:
        assert found.path.parent == world.directory.resolve()
        assert found.read_bytes()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=HOSTILE)
async def test_no_id_from_outside_becomes_a_path(client: httpx.AsyncClient, words: str) -> None:
    item = quote(words.encode("utf-8", "replace"), safe="")
    for path in (f"/items/{item}", f"/items/{item}/image?size=full"):
        answer = await client.get(path)
        assert answer.status_code in {200, 404}, path
        if answer.is_error:
            assert json.loads(answer.text)["code"] in {"unknown_item", "no_image", "not_found"}
