"""Images of a shard: decoded side by side, a batch ahead of the encoder, with thumbnails."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from model.core.errors import DataFormatError, ImageRejectedError
from model.data.image_limits import ImageLimits
from model.data.images import load_image
from model.data.records import ImageRef

THUMBNAIL_SIDE = 256
THUMBNAIL_QUALITY = 80
WORKERS = 2


@dataclass(frozen=True)
class Picture:
    """A decoded image and its thumbnail, or why there is none."""

    image: Image.Image | None
    thumbnail: bytes = b""
    reason: str = ""


def load_pictures(
    refs: Sequence[ImageRef | None], batch_size: int, *, thumbnails: bool
) -> Iterator[list[Picture]]:
    """Batches of pictures in order; the next batch is being decoded while one is used."""
    limits = ImageLimits()
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: list[Future[Picture]] = []
        for start in range(0, len(refs), batch_size):
            batch = refs[start : start + batch_size]
            ahead = [pool.submit(_load, ref, limits, thumbnails=thumbnails) for ref in batch]
            if waiting:
                yield [one.result() for one in waiting]
            waiting = ahead
        yield [one.result() for one in waiting]


def thumbnail_of(image: Image.Image) -> bytes:
    """A WebP file at most THUMBNAIL_SIDE pixels wide and high."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY, method=2)
    return buffer.getvalue()


def _load(ref: ImageRef | None, limits: ImageLimits, *, thumbnails: bool) -> Picture:
    if ref is None:
        return Picture(None, reason="the record has no image")
    try:
        image = load_image(ref, limits)
    except (ImageRejectedError, DataFormatError) as error:
        return Picture(None, reason=str(error))
    return Picture(image, thumbnail_of(image) if thumbnails else b"")
