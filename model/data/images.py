"""Images from outside: refused before their pixels are decoded, or given as upright RGB."""

import io
import struct
import zlib
from typing import TypeAlias

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from model.core.errors import ImageRejectedError
from model.data.image_limits import ImageLimits
from model.data.records import ImageRef

Opener: TypeAlias = type[ImageFile.ImageFile]

# The decoders are named one by one: no registry, so nobody's import can add a format, and none of
# the size warnings that PIL's own opening gives before the limits here are asked.
_OPENERS: tuple[tuple[bytes, int, Opener], ...] = (
    (b"\xff\xd8\xff", 0, JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", 0, PngImagePlugin.PngImageFile),
    (b"WEBP", 8, WebPImagePlugin.WebPImageFile),
    (b"GIF8", 0, GifImagePlugin.GifImageFile),
    (b"BM", 0, BmpImagePlugin.BmpImageFile),
)
_FORMATS = "JPEG, PNG, WebP, GIF or BMP"

# What else is recognised, for the error to name it.
_REFUSED = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%PDF-", "PDF"),
    (b"PK\3\4", "ZIP"),
    (b"\0\0\1\0", "ICO"),
)
_MARKUP_BYTES = 1024

# What Pillow itself says of sizes; its limits are not the ones here, and may be met before them.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# What the decoders raise on broken bytes.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    NotImplementedError,
    OverflowError,
    struct.error,
    zlib.error,
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(ref: ImageRef, limits: ImageLimits) -> Image.Image:
    """The image that a record names, as `decode_image` gives it.

    Raises:
        DataFormatError: the file cannot be read.
        ImageRejectedError: it holds no image that the limits allow.
    """
    return decode_image(ref.read_bytes(limits.max_bytes + 1), limits)


def decode_image(data: bytes, limits: ImageLimits) -> Image.Image:
    """The image, or the first frame, as upright RGB; what is transparent becomes white.

    Nothing but pixels comes back: no EXIF, no colour profile, no text. What follows the image in
    its file is not looked at.

    Raises:
        ImageRejectedError: too many bytes or pixels, too small, of another format, or broken.
    """
    if len(data) > limits.max_bytes:
        raise ImageRejectedError(f"an image has at most {limits.max_bytes} bytes, got more")
    image = _opened(data, limits)
    _check_size(image.size, limits)
    try:
        image.load()
        upright = _upright(_as_rgb(image), _orientation(image))
    except _BOMBS as error:
        raise _too_large(limits, "more") from error
    except _BROKEN as error:
        raise ImageRejectedError(f"the {image.format} file is broken or cut short") from error
    upright.info.clear()
    return upright


def _opened(data: bytes, limits: ImageLimits) -> ImageFile.ImageFile:
    """The image with its header read and no pixel decoded."""
    opener = next((one for sign, at, one in _OPENERS if data[at : at + len(sign)] == sign), None)
    if opener is None:
        raise ImageRejectedError(f"an image is a {_FORMATS} file, got {_what(data)}")
    if opener is WebPImagePlugin.WebPImageFile and data[12:16] == b"VP8X":
        # The decoder takes memory for the whole canvas while it opens the file.
        _check_size(_canvas(data), limits)
    try:
        return opener(io.BytesIO(data))
    except _BOMBS as error:
        raise _too_large(limits, "more") from error
    except _BROKEN as error:
        raise ImageRejectedError(f"the {opener.format} file's header is broken") from error


def _canvas(data: bytes) -> tuple[int, int]:
    """Width and height of an extended WebP file."""
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    return width, height


def _what(data: bytes) -> str:
    if not data:
        return "no bytes"
    shown = f"bytes that begin with {data[:8]!r}"
    if b"<svg" in data[:_MARKUP_BYTES].lower():
        return f"{shown}: SVG is markup that can hold scripts, send the picture it draws"
    name = next((name for sign, name in _REFUSED if data.startswith(sign)), None)
    if data[4:8] == b"ftyp":
        name = "HEIC, AVIF or a video"
    return shown if name is None else f"{shown}: {name}"


def _too_large(limits: ImageLimits, got: str) -> ImageRejectedError:
    return ImageRejectedError(f"an image has at most {limits.max_pixels} pixels, got {got}")


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise _too_large(limits, f"{width}x{height}")
    if min(width, height) < limits.min_side:
        limit = f"an image is at least {limits.min_side} pixels wide and high"
        raise ImageRejectedError(f"{limit}, got {width}x{height}")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Grey with 16 bits a pixel, which PIL would clip instead of scaling.
        eight_bits = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(eight_bits).convert("RGB")
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        ground = Image.new("RGB", layer.size, "white")
        ground.paste(layer, mask=layer.getchannel("A"))
        return ground
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where there is none, or none that can be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN:
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)
