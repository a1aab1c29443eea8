import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.core.errors import ImageRejectedError
from model.data.image_limits import ImageLimits
from model.data.images import decode_image, load_image
from model.data.records import ImageRef
from tests.model.data.conftest import ImageBytes

_LIMITS = ImageLimits()


def _encoded(image: Image.Image, kind: str = "PNG", **save: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def _png_header(width: int, height: int) -> bytes:
    """A PNG that says its size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_each_accepted_format_gives_rgb(image_bytes: ImageBytes, kind: str) -> None:
    image = decode_image(image_bytes((8, 6), kind=kind), _LIMITS)
    assert (image.mode, image.size) == ("RGB", (8, 6))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_each_png_mode_gives_rgb(image_bytes: ImageBytes, mode: str) -> None:
    assert decode_image(image_bytes(mode=mode, kind="PNG"), _LIMITS).mode == "RGB"


def test_cmyk_gives_rgb() -> None:
    image = decode_image(_encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"), _LIMITS)
    red, green, blue = np.asarray(image)[0, 0]
    assert (red > 200, green < 60, blue < 60) == (True, True, True)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    grey = Image.fromarray(np.full((4, 4), 32_768, np.uint16))
    assert np.asarray(decode_image(_encoded(grey), _LIMITS))[0, 0].tolist() == [128, 128, 128]


def test_what_is_transparent_becomes_white() -> None:
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    pixels = np.asarray(decode_image(_encoded(image), _LIMITS))
    assert pixels[0].tolist() == [[255, 255, 255], [255, 0, 0]]


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        *((1, (0, 0)), (2, (0, 2)), (3, (1, 2)), (4, (1, 0))),
        *((5, (0, 0)), (6, (0, 1)), (7, (2, 1)), (8, (2, 0)), (99, (0, 0))),
    ],
)
def test_exif_orientation_is_undone(orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (3, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.asarray(decode_image(_encoded(image, exif=exif), _LIMITS))[..., 0]
    assert pixels[corner] == 255
    assert pixels.shape == ((3, 2) if 5 <= orientation <= 8 else (2, 3))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(decode_image(data, _LIMITS))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got no bytes"),
        (b"just a text", "an image is a JPEG, .* got bytes that begin with b'just a t'"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "got bytes that begin with b'<svg xml'"),
        (b"%PDF-1.7", "an image is a JPEG"),
        (b"II*\0" + bytes(60), "an image is a JPEG"),
        (b"\xff\xd8\xff\xe0", "^the JPEG file's header is broken$"),
        (b"\x89PNG\r\n\x1a\n", "^the PNG file's header is broken$"),
        (b"RIFF\0\0\0\0WEBP", "^the WEBP file's header is broken$"),
        (b"GIF89a" + bytes(4), "^the GIF file's header is broken$"),
        (b"BM" + bytes(10), "^the BMP file's header is broken$"),
        (_png_header(1, 1), "at least 2 pixels wide and high, got 1x1"),
        (_png_header(5000, 1), "at least 2 pixels wide and high, got 5000x1"),
        (_png_header(30_000, 30_000), "at most 50000000 pixels, got 30000x30000"),
        (_png_header(12_000, 12_000), "at most 50000000 pixels, got 12000x12000"),
        (_png_header(2000, 2000), "^the PNG file is broken or cut short$"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageRejectedError, match=message):
        decode_image(data, _LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_an_image_cut_short_is_refused(kind: str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    data = _encoded(Image.fromarray(noise), kind)
    rule = f"^the {kind} file( is broken or cut short|'s header is broken)$"
    with pytest.raises(ImageRejectedError, match=rule):
        decode_image(data[: len(data) // 2], _LIMITS)


def test_too_many_bytes_are_refused_before_they_are_looked_at() -> None:
    with pytest.raises(ImageRejectedError, match="at most 10 bytes"):
        decode_image(bytes(11), ImageLimits(max_bytes=10))


def test_a_giant_file_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "giant.jpg").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageRejectedError, match="at most 20971520 bytes"):
        load_image(ImageRef(tmp_path / "giant.jpg"), _LIMITS)


# PIL tells of damaged EXIF blocks and goes on.
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]))
def test_damaged_bytes_give_an_image_or_the_named_error(data: st.DataObject, kind: str) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (9, 7, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    save = {"exif": exif} if kind in {"JPEG", "PNG", "WEBP"} else {}
    whole = bytearray(_encoded(Image.fromarray(noise), kind, **save))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(whole), ImageLimits(max_pixels=100_000))
    except ImageRejectedError:
        return
    assert image.mode == "RGB"
