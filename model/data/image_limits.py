"""What an image may be; apart from the decoders, for those who only publish the numbers."""

from model.core.types import Frozen


class ImageLimits(Frozen):
    """What an image may be at most, and at least."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    min_side: int = 2
