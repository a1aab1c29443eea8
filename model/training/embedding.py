"""Embeddings of a whole split by any encoder, with features cached where they cost minutes."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.core.errors import UnsupportedInputError
from model.core.types import FloatArray, InputKind, Modality
from model.data.images import ImageLimits, load_image
from model.encoders.protocols import Encoder
from model.encoders.vse import VSEImageEncoder
from model.training.features import image_features
from model.training.pairs import Pairs

_BLOCK = 64


def embed_pairs(encoder: Encoder, pairs: Pairs, cache: Path) -> dict[Modality, FloatArray]:
    """Unit embeddings of the images (N, D) and captions (T, D) of a split.

    Raises:
        UnsupportedInputError: the encoder takes neither images nor the regions given.
    """
    captions = list(pairs.captions)
    texts = [
        encoder.encode_texts(captions[i : i + 512])
        for i in tqdm(range(0, len(captions), 512), desc=f"captions of {pairs.collection.name}")
    ]
    return {Modality.IMAGE: _images(encoder, pairs, cache), Modality.TEXT: np.concatenate(texts)}


def _images(encoder: Encoder, pairs: Pairs, cache: Path) -> FloatArray:
    vse = encoder.image if isinstance(encoder.image, VSEImageEncoder) else None
    if pairs.collection.regions is not None or vse is not None:
        encoder.require(InputKind.REGIONS)
        backbone = vse.parts.backbone if vse else None
        device = vse.device if vse else torch.device("cpu")
        regions = image_features(pairs, backbone, cache, frozen=True, device=device)
        return encoder.encode_regions(regions)
    encoder.require(InputKind.IMAGE)
    return _plain_images(encoder, pairs)


def _plain_images(encoder: Encoder, pairs: Pairs) -> FloatArray:
    refs = [pairs.collection.records[row].image for row in pairs.image_rows]
    blocks: list[NDArray[np.float32]] = []
    limits = ImageLimits()
    for start in tqdm(range(0, len(refs), _BLOCK), desc=f"images of {pairs.collection.name}"):
        images = [load_image(ref, limits) for ref in refs[start : start + _BLOCK] if ref]
        blocks.append(encoder.encode_images(images))
    if not blocks:
        raise UnsupportedInputError(f"{pairs.collection.name} holds no images to encode")
    return np.concatenate(blocks)
