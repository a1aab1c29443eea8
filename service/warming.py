"""Makes the first searches of an opened index as fast as the later ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.artifact.reader import Artifact
from model.core.types import InputKind
from model.encoders.protocols import Encoder

PAGE_BYTES = 4096
BLOCK_BYTES = 64 << 20
# Of a larger index the rest is read when it is asked for: it may not fit into memory.
MOST_BYTES = 2 << 30


def touch(artifact: Artifact) -> int:
    """Bring mapped arrays into memory, what every search reads first; how many bytes."""
    touched = 0
    for array in _mapped(artifact):
        plain = np.asarray(array).reshape(-1).view(np.uint8)[: MOST_BYTES - touched]
        for start in range(0, len(plain), BLOCK_BYTES):
            plain[start : start + BLOCK_BYTES : PAGE_BYTES].sum()
        touched += len(plain)
    return touched


def _mapped(artifact: Artifact) -> Iterator[NDArray[Any]]:
    sides = artifact.sides.values()
    yield from (side.pq_codes for side in sides)
    yield from artifact.banks.values()
    yield from (side.reverse_lists for side in sides if side.reverse_lists is not None)
    yield from (side.embeddings for side in sides)
    yield from (side.contexts for side in sides if side.contexts is not None)


def encode_first(encoder: Encoder) -> None:
    """Let an encoder do what it only does once."""
    if InputKind.TEXT in encoder.identity.accepts:
        encoder.encode_texts(["a picture"])
    if InputKind.IMAGE in encoder.identity.accepts:
        encoder.encode_images([Image.new("RGB", (224, 224))])
