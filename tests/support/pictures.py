"""Image files that no camera makes."""

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def huge_png(side: int) -> bytes:
    """A valid black PNG of `side` by `side` pixels, one bit each, in few bytes."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)  # a filter byte, then the pixels
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
