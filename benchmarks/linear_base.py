"""A linear base encoder in a minute: canonical correlations of mean regions and bags of words.

Weak on purpose, and quick enough to be fitted once per fold: re-rankers are measured over it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.core.errors import InputError
from model.core.types import FloatArray, Modality
from model.core.vectors import l2_normalised
from model.training.embedded import Embedded
from model.training.pairs import Pairs
from model.training.pillar_pools import Pool

Moment = NDArray[np.floating]

MIN_WORD_COUNT = 5
RIDGE_IMAGE, RIDGE_TEXT = 0.1, 1.0
FIT_ROWS = 4096
CAPTIONS_A_BANK = 2  # of each image: enough for neighbours, half the arithmetic of all five


@dataclass(frozen=True)
class Words:
    """Captions as unit tf-idf vectors (T, V)."""

    columns: dict[str, int]
    weights: FloatArray  # (V,)

    @classmethod
    def of(cls, captions: Sequence[str]) -> "Words":
        """The words that occur in enough captions."""
        counts = Counter(word for caption in captions for word in set(_words(caption)))
        kept = sorted(word for word, count in counts.items() if count >= MIN_WORD_COUNT)
        idf = np.log(len(captions) / np.array([counts[word] for word in kept]))
        return cls({word: i for i, word in enumerate(kept)}, idf.astype(np.float32))

    def vectors(self, captions: Sequence[str]) -> FloatArray:
        """Vectors (T, V) of captions; words that are not known do not count."""
        found = np.zeros((len(captions), len(self.columns)), np.float32)
        for row, caption in enumerate(captions):
            for word in _words(caption):
                if word in self.columns:
                    found[row, self.columns[word]] += 1
        return l2_normalised(np.asarray(np.log1p(found) * self.weights, np.float32))


@dataclass(frozen=True)
class LinearBase:
    """Two linear maps to one space."""

    words: Words
    means: dict[Modality, FloatArray]
    maps: dict[Modality, FloatArray]

    @classmethod
    def fit(cls, pooled: FloatArray, captions: Sequence[str], owners: np.ndarray) -> "LinearBase":
        """Regularised CCA of mean regions (N, F) with captions (T,) of images `owners` (T,)."""
        words = Words.of(captions)
        image_mean = pooled[owners].mean(axis=0)
        moments = _moments(pooled - image_mean, words, captions, owners)
        roots = [
            np.linalg.cholesky(_ridged(moments.image, RIDGE_IMAGE)),
            np.linalg.cholesky(_ridged(moments.text, RIDGE_TEXT)),
        ]
        between = np.linalg.solve(roots[1], np.linalg.solve(roots[0], moments.cross).T).T
        left, strengths, right = np.linalg.svd(between, full_matrices=False)
        maps = {
            Modality.IMAGE: np.linalg.solve(roots[0].T, left) * strengths,
            Modality.TEXT: np.linalg.solve(roots[1].T, right.T) * strengths,
        }
        means = {Modality.IMAGE: image_mean, Modality.TEXT: moments.text_mean}
        return cls(words, _single(means), _single(maps))

    def embed(self, pooled: FloatArray, captions: Sequence[str], owners: np.ndarray) -> Embedded:
        """Unit embeddings of images (N, F) and captions (T,)."""
        seen = {Modality.IMAGE: pooled, Modality.TEXT: self.words.vectors(captions)}
        mapped = {m: (seen[m] - self.means[m]) @ self.maps[m] for m in Modality}
        return Embedded({m: l2_normalised(v) for m, v in _single(mapped).items()}, owners)


@dataclass(frozen=True)
class Features:
    """A split: mean regions (N, F), captions (T,) and each caption's image (T,)."""

    pooled: FloatArray
    captions: tuple[str, ...]
    owners: np.ndarray

    @classmethod
    def of(cls, pairs: Pairs) -> "Features":
        """The features of a collection with regions.

        Raises:
            InputError: it has none.
        """
        regions = pairs.collection.regions
        if regions is None:
            raise InputError(f"a linear base needs regions, {pairs.collection.name} has none")
        pooled = np.asarray(regions[pairs.image_rows], np.float32).mean(axis=1)
        return cls(pooled, pairs.captions, pairs.image_of_text)

    def taken(self, images: np.ndarray) -> "Features":
        """The images (ascending rows) with their captions."""
        texts = np.flatnonzero(np.isin(self.owners, images))
        captions = tuple(self.captions[row] for row in texts)
        return Features(self.pooled[images], captions, np.searchsorted(images, self.owners[texts]))

    def fit(self) -> LinearBase:
        """A base fitted to all of them."""
        return LinearBase.fit(self.pooled, self.captions, self.owners)

    def embedded(self, base: LinearBase) -> Embedded:
        """What a base makes of them."""
        return base.embed(self.pooled, self.captions, self.owners)


def cross_fitted(train: Features, folds: int, seed: int, *, banks: bool) -> list[Pool]:
    """A pool per fold, embedded by a base that saw the other folds alone.

    With `banks` each is surrounded by what its base was fitted to, as a query of a service is.
    """
    order = np.random.default_rng(seed).permutation(len(train.pooled))
    return [_fold(train, np.sort(part), banks=banks) for part in np.array_split(order, folds)]


def _fold(train: Features, images: np.ndarray, *, banks: bool) -> Pool:
    rest = train.taken(np.setdiff1d(np.arange(len(train.pooled)), images))
    base = rest.fit()
    split = train.taken(images).embedded(base)
    return Pool(split, bank_of(rest.embedded(base)) if banks else None)


def bank_of(seen: Embedded) -> dict[Modality, FloatArray]:
    """A bank of a split: every image, with its first captions."""
    turn = np.arange(len(seen.image_of_text)) - np.searchsorted(
        seen.image_of_text, seen.image_of_text
    )
    texts = seen.embeddings[Modality.TEXT][turn < CAPTIONS_A_BANK]
    return {Modality.IMAGE: seen.embeddings[Modality.IMAGE], Modality.TEXT: texts}


@dataclass(frozen=True)
class _Moments:
    image: Moment
    text: Moment
    cross: Moment
    text_mean: Moment


def _moments(
    centred: FloatArray, words: Words, captions: Sequence[str], owners: np.ndarray
) -> _Moments:
    """Second moments over the pairs, a block of captions at a time."""
    width, count = len(words.columns), len(captions)
    text, cross = np.zeros((width, width)), np.zeros((centred.shape[1], width))
    total = np.zeros(width)
    for start in range(0, count, FIT_ROWS):
        block = words.vectors(captions[start : start + FIT_ROWS])
        total += block.sum(axis=0)
        text += block.T @ block
        cross += centred[owners[start : start + FIT_ROWS]].T @ block
    mean = total / count
    image = centred[owners].T @ centred[owners] / count
    # The images are centred, so the cross moment needs no correction.
    return _Moments(image, text / count - np.outer(mean, mean), cross / count, mean)


def _ridged(moment: Moment, ridge: float) -> Moment:
    load = ridge * float(np.trace(moment)) / len(moment)
    return moment + load * np.eye(len(moment))


def _single(arrays: Mapping[Modality, Moment]) -> dict[Modality, FloatArray]:
    return {modality: array.astype(np.float32) for modality, array in arrays.items()}


def _words(caption: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", caption.lower())
