"""Embeddings of a whole split by any encoder; what costs minutes is cached and resumed."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.core.errors import DataFormatError
from model.core.types import FloatArray, InputKind, Modality
from model.data.images import ImageLimits, load_image
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
    """A VSE's images come from cached regions, which its training left behind."""
    vse = encoder.image if isinstance(encoder.image, VSEImageEncoder) else None
    if pairs.collection.regions is not None or vse is not None:
        encoder.require(InputKind.REGIONS)
        backbone = vse.parts.backbone if vse else None
        device = vse.device if vse else torch.device("cpu")
        regions = image_features(pairs, backbone, cache, frozen=True, device=device)
        return encoder.encode_regions(regions)
    encoder.require(InputKind.IMAGE)
    refs = [pairs.collection.records[row].image for row in pairs.image_rows]
    limits = ImageLimits()

    def block(rows: slice) -> FloatArray:
        return encoder.encode_images([load_image(ref, limits) for ref in refs[rows] if ref])

    return _cached(encoder, pairs, cache, Modality.IMAGE, len(refs), block)


def _cached(
    encoder: Encoder,
    pairs: Pairs,
    cache: Path,
    modality: Modality,
    count: int,
    compute: Callable[[slice], FloatArray],
) -> FloatArray:
    """Embeddings (count, D), kept under the encoder's digest and the rows that were taken."""
    taken = hashlib.sha256(pairs.image_rows.tobytes() + pairs.text_rows.tobytes()).hexdigest()
    key = fingerprint(pairs.collection, modality, encoder.identity.digest, taken)
    blocks = [slice(i, min(i + _BLOCK, count)) for i in range(0, count, _BLOCK)]
    stored: NDArray[np.float32] = cached(
        cache / f"{modality.value}-embeddings-{key}.npy",
        count,
        blocks,
        lambda i: compute(blocks[i]),
        f"{modality.value} embeddings of {pairs.collection.name}",
    )
    return np.array(stored)
