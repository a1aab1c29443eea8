"""Images from outside: refused before their pixels are decoded, or given as upright RGB."""

import io
import struct
import zlib
from collections.abc import Callable

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

Opener = Callable[[io.BytesIO], ImageFile.ImageFile]

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

    Raises:
        ImageRejectedError: too many bytes or pixels, too small, of another format, or broken.
    """
    if len(data) > limits.max_bytes:
        raise ImageRejectedError(f"an image has at most {limits.max_bytes} bytes, got more")
    image = _opened(data)
    _check_size(image, limits)
    try:
        image.load()
        return _upright(_as_rgb(image), _orientation(image))
    except _BROKEN as error:
        raise ImageRejectedError(f"the image is broken or cut short: {error}") from error


def _opened(data: bytes) -> ImageFile.ImageFile:
    """The image with its header read and no pixel decoded."""
    opener = next((one for sign, at, one in _OPENERS if data[at : at + len(sign)] == sign), None)
    if opener is None:
        raise ImageRejectedError(f"an image is a {_FORMATS} file, got {_what(data)}")
    try:
        return opener(io.BytesIO(data))
    except _BROKEN as error:
        raise ImageRejectedError(f"the image's header is broken: {error}") from error


def _what(data: bytes) -> str:
    if not data:
        return "no bytes"
    return f"bytes that begin with {data[:8]!r}"


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        limit = f"an image has at most {limits.max_pixels} pixels"
        raise ImageRejectedError(f"{limit}, got {width}x{height}")
    if min(width, height) < limits.min_side:
        limit = f"an image is at least {limits.min_side} pixels wide and high"
        raise ImageRejectedError(f"{limit}, got {width}x{height}")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Grey with 16 bits a pixel, which PIL would clip instead of scaling.
        eight_bits = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(eight_bits).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
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
