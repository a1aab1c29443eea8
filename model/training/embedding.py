"""Embeddings of a whole split by any encoder; what costs minutes is cached and resumed."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.core.errors import DataFormatError
from model.core.types import FloatArray, InputKind, Modality
from model.data.image_limits import ImageLimits
from model.data.images import load_image
from model.encoders.protocols import Encoder
from model.encoders.vse import VSEImageEncoder
from model.training.cache import cached, fingerprint
from model.training.features import image_features
from model.training.pairs import Pairs

_BLOCK = 64


def embed_pairs(encoder: Encoder, pairs: Pairs, cache: Path) -> dict[Modality, FloatArray]:
    """Unit embeddings of the images (N, D) and captions (T, D) of a split.

    Raises:
        UnsupportedInputError: the encoder takes neither images nor the regions given.
        DataFormatError: there are no images, or no captions.
    """
    name = pairs.collection.name
    if not len(pairs.image_rows) or not pairs.captions:
        raise DataFormatError(f"{name} needs images and captions, one of the two is missing")
    return {
        Modality.IMAGE: _images(encoder, pairs, cache),
        Modality.TEXT: _texts(encoder, pairs, cache),
    }


def _texts(encoder: Encoder, pairs: Pairs, cache: Path) -> FloatArray:
    def block(rows: slice) -> FloatArray:
        return encoder.encode_texts(pairs.captions[rows])

    return _cached(encoder, pairs, cache, Modality.TEXT, len(pairs.captions), block)


def _images(encoder: Encoder, pairs: Pairs, cache: Path) -> FloatArray:
    """Embeddings (N, D) from regions where the collection has them or the encoder makes them."""
    if pairs.collection.regions is not None or isinstance(encoder.image, VSEImageEncoder):
        return _of_regions(encoder, pairs, cache)
    encoder.require(InputKind.IMAGE)
    refs = [pairs.collection.records[row].image for row in pairs.image_rows]
    limits = ImageLimits()

    def block(rows: slice) -> FloatArray:
        return encoder.encode_images([load_image(ref, limits) for ref in refs[rows] if ref])

    return _cached(encoder, pairs, cache, Modality.IMAGE, len(refs), block)


def _of_regions(encoder: Encoder, pairs: Pairs, cache: Path) -> FloatArray:
    """A VSE's own regions are cached too: its training left them behind.

    Given regions are part of the key by their values, for records of such a collection do not say
    which file they come from; made ones follow from the images and the encoder.
    """
    encoder.require(InputKind.REGIONS)
    vse = encoder.image if isinstance(encoder.image, VSEImageEncoder) else None
    given = pairs.collection.regions is not None

    @lru_cache(maxsize=1)
    def regions() -> NDArray[np.floating]:
        backbone = vse.parts.backbone if vse else None
        device = vse.device if vse else torch.device("cpu")
        return image_features(pairs, backbone, cache, frozen=True, device=device)

    def block(rows: slice) -> FloatArray:
        return encoder.encode_regions(regions()[rows])

    digest = _digest(regions()) if given else ""
    return _cached(encoder, pairs, cache, Modality.IMAGE, len(pairs.image_rows), block, digest)


def _digest(values: NDArray[np.floating]) -> str:
    """A digest of an array (N, ...): its type, shape and values."""
    total = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
    for start in range(0, len(values), _BLOCK):
        total.update(np.ascontiguousarray(values[start : start + _BLOCK]).data)
    return total.hexdigest()


def _cached(
    encoder: Encoder,
    pairs: Pairs,
    cache: Path,
    modality: Modality,
    count: int,
    compute: Callable[[slice], FloatArray],
    *also: str,
) -> FloatArray:
    """Embeddings (count, D), kept under the encoder's digest, the rows taken and `also`."""
    taken = hashlib.sha256(pairs.image_rows.tobytes() + pairs.text_rows.tobytes()).hexdigest()
    key = fingerprint(pairs.collection, modality, encoder.identity.digest, taken, *also)
    blocks = [slice(i, min(i + _BLOCK, count)) for i in range(0, count, _BLOCK)]
    stored: NDArray[np.float32] = cached(
        cache / f"{modality.value}-embeddings-{key}.npy",
        count,
        blocks,
        lambda i: compute(blocks[i]),
        f"{modality.value} embeddings of {pairs.collection.name}",
    )
    return np.array(stored)
