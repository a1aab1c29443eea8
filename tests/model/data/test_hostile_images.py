"""Images that are made to harm: bombs, files that are two things at once, and private metadata."""

import io
import struct
import tracemalloc
import zlib
from functools import cache

import numpy as np
import pytest
from PIL import Image

from index_builder.pictures import thumbnail_of
from model.core.errors import ImageRejectedError
from model.data.image_limits import ImageLimits
from model.data.images import decode_image

_LIMITS = ImageLimits()
_TOO_MANY = "at most 50000000 pixels"
_SECRET = b"51.4779 N, taken by somebody"


def _encoded(image: Image.Image, kind: str = "PNG", **save: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _png_with(chunk: bytes, *, late: bool = False) -> bytes:
    """A small PNG with one more chunk, before or behind its pixels."""
    whole = _encoded(Image.new("RGB", (8, 8), "red"))
    at = whole.rindex(b"IEND") - 4 if late else 33
    return whole[:at] + chunk + whole[at:]


@cache
def _zeros() -> bytes:
    """Forty megabytes of nothing, a thousandth of that packed."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(40)]
    return b"".join([*parts, packer.flush()])


def _gif(screen: int, frame: int) -> bytes:
    """A GIF whose screen and first frame say these sides."""
    head = struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    shown = b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0)
    return b"GIF89a" + head + shown + b"\x02\x02\x44\x01\x00;"


def _webp(side: int) -> bytes:
    """An animated WebP whose canvas says this side, with one frame of 4x4."""
    still = _encoded(Image.new("RGB", (4, 4)), "WEBP", lossless=True)[12:]
    canvas = struct.pack("<I", side - 1)[:3]
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas * 2
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    frame = bytes(6) + b"\3\0\0\3\0\0" + b"\1\0\0\0" + still
    body = extended + animation + b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _resized(kind: str, width: int, height: int) -> bytes:
    """A file of 16x16 pixels whose header says another size."""
    data = bytearray(_encoded(Image.new("RGB", (16, 16)), kind))
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    else:
        data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        *(_gif(8, 12_000), _gif(8, 65_535), _gif(65_535, 4), _gif(9000, 4)),
        *(_webp(7100), _webp(12_000), _webp(16_384)),
        *(_resized("JPEG", 65_000, 65_000), _resized("BMP", 60_000, 60_000)),
        _resized("BMP", 8000, -8000),
    ],
)
def test_a_size_above_the_limit_is_refused_before_memory_is_taken(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ImageRejectedError, match=_TOO_MANY):
            decode_image(data, _LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_limit_above_the_decoders_own_is_refused_by_name_all_the_same() -> None:
    limits = ImageLimits(max_pixels=10**10)
    for data in (_gif(8, 65_535), _webp(16_384)):
        with pytest.raises(ImageRejectedError, match="at most 10000000000 pixels, got more"):
            decode_image(data, limits)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("name", "head"), [(b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0")]
)
def test_a_packed_text_that_grows_a_thousandfold_is_refused(
    name: bytes, head: bytes, late: bool
) -> None:
    data = _png_with(_chunk(name, head + _zeros()), late=late)
    tracemalloc.start()
    try:
        with pytest.raises(ImageRejectedError, match=r"^the PNG file.* broken") as refused:
            decode_image(data, _LIMITS)
        assert "too large" in str(refused.value.__cause__)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_many_packed_texts_are_bounded_together() -> None:
    each = _chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes((1 << 20) - 100), 9))
    with pytest.raises(ImageRejectedError, match=r"^the PNG file's header is broken$") as refused:
        decode_image(_png_with(each * 80), _LIMITS)
    assert "Too much memory used in text chunks" in str(refused.value.__cause__)


def test_more_pixel_data_than_pixels_is_not_unpacked() -> None:
    head = _encoded(Image.new("RGB", (8, 8), "red"))[:33]
    data = head + _chunk(b"IDAT", _zeros()) + _chunk(b"IEND", b"")
    tracemalloc.start()
    try:
        assert decode_image(data, _LIMITS).size == (8, 8)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_many_frames_one_is_decoded(kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), (n % 256, 0, 0)) for n in range(400)]
    data = _encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    decoded = decode_image(data, ImageLimits(max_pixels=64 * 64))
    assert np.asarray(decoded)[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize(
    "other", [b"PK\3\4 an archive", b"<script>alert(1)</script>", b"%PDF-1.7", b"\xff\xd8\xff\xe0"]
)
def test_what_follows_an_image_is_not_looked_at(kind: str, other: bytes) -> None:
    data = _encoded(Image.effect_noise((16, 16), 60).convert("RGB"), kind)
    plain = decode_image(data, _LIMITS)
    assert decode_image(data + other, _LIMITS).tobytes() == plain.tobytes()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG is markup"),
        (b'<?xml version="1.0"?>\n<!-- GIF8 -->\n<SVG onload="alert(1)"/>', "SVG is markup"),
        (b"\xef\xbb\xbf  <svg/>", "SVG is markup"),
        (b"GIF <svg/>", "SVG is markup"),
        (b"II*\0" + bytes(60), "TIFF"),
        (b"MM\0*" + bytes(60), "TIFF"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\3\4", "ZIP"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\1\0", "ICO"),
    ],
)
def test_other_formats_are_refused_by_name(data: bytes, name: str) -> None:
    with pytest.raises(ImageRejectedError, match=rf"an image is a JPEG, .* got bytes .*{name}"):
        decode_image(data, _LIMITS)


def test_a_tiff_with_ten_thousand_frames_is_not_opened() -> None:
    with pytest.raises(ImageRejectedError, match="TIFF"):
        decode_image(_encoded(Image.new("RGB", (4, 4)), "TIFF"), _LIMITS)


def _private(kind: str) -> bytes:
    """A picture that tells where it was taken, in every way that its format knows."""
    exif = Image.Exif()
    exif[0x010E] = _SECRET.decode()
    exif[0x0112] = 6
    save: dict[str, object] = {"exif": exif, "xmp": b"<x:xmpmeta>" + _SECRET + b"</x:xmpmeta>"}
    save["icc_profile"] = b"\0" * 128 + _SECRET
    if kind == "JPEG":
        save["comment"] = _SECRET
    return _encoded(Image.effect_noise((32, 16), 60).convert("RGB"), kind, **save)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_metadata_ends_with_the_decoding(kind: str) -> None:
    data = _private(kind)
    assert _SECRET in data or kind == "PNG"  # PNG packs some of it
    image = decode_image(data, _LIMITS)
    assert image.size == (16, 32), "it was turned upright before"
    assert image.info == {}
    thumbnail = thumbnail_of(image)
    assert _SECRET not in thumbnail
    for name in (b"EXIF", b"XMP ", b"ICCP"):
        assert name not in thumbnail
    with Image.open(io.BytesIO(thumbnail)) as again:
        assert not dict(again.getexif())
        assert not {"exif", "xmp", "icc_profile", "comment"} & set(again.info)


def test_a_palette_with_a_transparent_colour_becomes_white_there() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 1)
    for kind in ("PNG", "GIF"):
        pixels = np.asarray(decode_image(_encoded(image, kind, transparency=1), _LIMITS))
        assert pixels[0, :2].tolist() == [[255, 255, 255], [255, 0, 0]]
