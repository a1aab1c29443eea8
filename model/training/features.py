"""What the towers train on: regions or pixels of images, word ids or frozen word features."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.core.errors import UnsupportedInputError
from model.core.types import RowArray
from model.data.image_limits import ImageLimits
from model.data.images import load_image
from model.data.records import Collection
from model.data.rows import check_finite
from model.encoders.backbone import GridBackbone
from model.encoders.transformer_words import TransformerWords
from model.encoders.vocabulary import Vocabulary
from model.encoders.vse import pad_ids
from model.training.cache import cached, fingerprint
from model.training.pairs import Pairs

_IMAGES = 64
_TEXTS = 256


@runtime_checkable
class WordSource(Protocol):
    """Word features, or the ids they are made from, of captions by position."""

    def batch(self, rows: RowArray) -> tuple[Tensor, Tensor]:
        """Features (B, R, W) or ids (B, R), and which of them are words."""


@dataclass(frozen=True)
class WordIds:
    """A BiGRU's input."""

    ids: Sequence[Sequence[int]]

    @classmethod
    def of(cls, captions: Sequence[str], vocabulary: Vocabulary, max_words: int) -> "WordIds":
        """Ids of captions under a vocabulary."""
        return cls([vocabulary.ids(caption, max_words) for caption in captions])

    def batch(self, rows: RowArray) -> tuple[Tensor, Tensor]:
        """Ids (B, R) and their mask."""
        return pad_ids([self.ids[row] for row in rows])


@dataclass(frozen=True)
class WordStates:
    """Frozen word features of all captions, one after another without padding."""

    flat: NDArray[np.float16]  # (words of all captions, W)
    offsets: RowArray  # (T + 1,)

    def batch(self, rows: RowArray) -> tuple[Tensor, Tensor]:
        """Features (B, R, W) and their mask."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        valid = np.arange(lengths.max()) < lengths[:, None]  # (B, R)
        places = np.where(valid, starts[:, None] + np.arange(lengths.max()), 0)
        features = self.flat[places].astype(np.float32) * valid[..., None]
        return torch.from_numpy(features), torch.from_numpy(valid)


def image_features(
    pairs: Pairs, backbone: GridBackbone | None, cache: Path, *, frozen: bool, device: torch.device
) -> NDArray[np.floating]:
    """Regions (N, R, F) of the images, or pixels (N, 3, H, W) for a backbone that is trained.

    Raises:
        UnsupportedInputError: the collection has no regions and there is no backbone.
        DataFormatError: a region is not finite.
    """
    collection = pairs.collection
    if collection.regions is not None:
        check_finite(collection.regions, collection.name)
        return np.asarray(collection.regions[pairs.image_rows])
    if backbone is None:
        raise UnsupportedInputError(
            f"{collection.name} holds images, not regions: training needs a vision backbone"
        )
    everything = _all_images(collection, backbone, cache, frozen=frozen, device=device)
    return everything[np.searchsorted(collection.image_rows, pairs.image_rows)]


def _all_images(
    collection: Collection,
    backbone: GridBackbone,
    cache: Path,
    *,
    frozen: bool,
    device: torch.device,
) -> NDArray[np.float16]:
    rows = collection.image_rows
    blocks = [slice(i, min(i + _IMAGES, len(rows))) for i in range(0, len(rows), _IMAGES)]
    limits = ImageLimits()

    def block(index: int) -> NDArray[np.float16]:
        refs = [collection.records[row].image for row in rows[blocks[index]]]
        images = [load_image(ref, limits) for ref in refs if ref is not None]
        if frozen:
            return backbone.regions(images, device)
        return np.asarray(backbone.pixels(images).to(torch.float16).numpy())

    kind, views = ("regions", backbone.views) if frozen else ("pixels", 1)
    key = fingerprint(collection, kind, backbone.fingerprint(frozen=frozen), backbone.grid, views)
    label = f"{kind} of {collection.name}"
    return cached(cache / f"{kind}-{key}.npy", len(rows), blocks, block, label)


def word_states(
    pairs: Pairs, words: TransformerWords, cache: Path, fingerprint_of_words: str
) -> WordStates:
    """Frozen word features of the captions, cached."""
    collection = pairs.collection
    captions = collection.captions
    lengths = words.lengths(captions)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    starts = [*range(0, len(captions), _TEXTS), len(captions)]
    blocks = [slice(int(offsets[a]), int(offsets[b])) for a, b in pairwise(starts)]

    def block(index: int) -> NDArray[np.float16]:
        return _states(captions[starts[index] : starts[index + 1]], words)

    key = fingerprint(collection, fingerprint_of_words, words.max_words)
    path = cache / f"words-{key}.npy"
    flat = cached(path, int(offsets[-1]), blocks, block, f"words of {collection.name}")
    return _selected(flat, offsets, pairs.text_rows)


def _selected(flat: NDArray[np.float16], offsets: RowArray, rows: RowArray) -> WordStates:
    """Word states of some of a collection's captions."""
    if len(rows) == len(offsets) - 1:
        return WordStates(flat, offsets)
    lengths = offsets[rows + 1] - offsets[rows]
    own = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(own[-1]) + np.repeat(offsets[rows] - own[:-1], lengths)
    return WordStates(flat[places], own)


def _states(captions: Sequence[str], words: TransformerWords) -> NDArray[np.float16]:
    """States of a block of captions in their order; like lengths run together."""
    order = np.argsort([len(caption) for caption in captions], kind="stable")
    parts: list[NDArray[np.float16]] = [np.empty(0, np.float16)] * len(captions)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        with torch.inference_mode():
            features, valid = words([captions[row] for row in rows])
        for row, feature, mask in zip(rows, features, valid, strict=True):
            parts[row] = feature[mask].to(torch.float16).cpu().numpy()
    return np.concatenate(parts)
