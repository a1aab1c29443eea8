"""The field's metrics: R@K in both directions and rSum in percent, median and mean rank."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.core.types import Direction, Frozen, RankArray

CUTS = (1, 5, 10)
SHORT = {Direction.IMAGE_TO_TEXT: "i2t", Direction.TEXT_TO_IMAGE: "t2i"}
BLOCK_VALUES = 1 << 24


class PairRanks(NamedTuple):
    """Rank (0 = best) of every query's best true match: of images (N,) and of captions (T,)."""

    i2t: RankArray
    t2i: RankArray

    @classmethod
    def of(cls, ranks: Mapping[Direction, RankArray]) -> "PairRanks":
        """The ranks of both directions, each found by itself."""
        return cls(ranks[Direction.IMAGE_TO_TEXT], ranks[Direction.TEXT_TO_IMAGE])


class Recalls(Frozen):
    """R@1, R@5, R@10 in percent, image to text and text to image, and their sum."""

    i2t: tuple[float, float, float]
    t2i: tuple[float, float, float]
    rsum: float

    @classmethod
    def of(cls, i2t: RankArray, t2i: RankArray) -> "Recalls":
        """Recalls from the rank (0 = best) of the best true match of every query."""
        forward, backward = recall_at(i2t), recall_at(t2i)
        return cls(i2t=forward, t2i=backward, rsum=sum(forward) + sum(backward))

    @classmethod
    def mean(cls, parts: "Sequence[Recalls]") -> "Recalls":
        """The mean over folds, as MS-COCO 1K reports it."""
        i2t = np.mean([part.i2t for part in parts], axis=0)
        t2i = np.mean([part.t2i for part in parts], axis=0)
        return cls(i2t=tuple(i2t), t2i=tuple(t2i), rsum=float(i2t.sum() + t2i.sum()))


class RankSummary(Frozen):
    """Median and mean rank of the best true match, 1 = best as the field counts."""

    median: float
    mean: float

    @classmethod
    def of(cls, ranks: RankArray) -> "RankSummary":
        """The summary of ranks (Q,), 0 = best; a median between two ranks is rounded down."""
        return cls(median=float(np.floor(np.median(ranks)) + 1), mean=float(ranks.mean() + 1))

    @classmethod
    def average(cls, parts: "Sequence[RankSummary]") -> "RankSummary":
        """The mean over folds of either figure."""
        return cls(
            median=float(np.mean([part.median for part in parts])),
            mean=float(np.mean([part.mean for part in parts])),
        )


class RankSummaries(Frozen):
    """Rank summaries of both directions."""

    i2t: RankSummary
    t2i: RankSummary

    @classmethod
    def average(cls, parts: Sequence[PairRanks]) -> "RankSummaries":
        """The mean over folds; of a single part its own figures."""
        return cls(
            i2t=RankSummary.average([RankSummary.of(part.i2t) for part in parts]),
            t2i=RankSummary.average([RankSummary.of(part.t2i) for part in parts]),
        )


def recall_at(ranks: RankArray) -> tuple[float, float, float]:
    """R@1, R@5, R@10 in percent of ranks (Q,), 0 = best."""
    r1, r5, r10 = (100.0 * float(np.mean(ranks < cut)) for cut in CUTS)
    return r1, r5, r10


def first_true(is_true: NDArray[np.bool_]) -> RankArray:
    """Rank (Q,) of the first true candidate of lists (Q, C); C where none is listed."""
    found = is_true.any(axis=1)
    return np.asarray(np.where(found, is_true.argmax(axis=1), is_true.shape[1]), np.int32)


def best_true_ranks(similarities: NDArray[np.floating], is_true: NDArray[np.bool_]) -> RankArray:
    """Rank (Q,) of the best true candidate in full rows (Q, N), without sorting them.

    Equal values go to the lower index, as a stable sort gives them. A row without a true
    candidate ranks N, behind all.
    """
    masked = np.where(is_true, similarities, -np.inf)
    at = masked.argmax(axis=1)[:, None]
    value = np.take_along_axis(masked, at, axis=1)
    tied = (similarities == value) & (np.arange(similarities.shape[1]) < at)
    above = similarities > value
    return np.asarray(above.sum(axis=1) + tied.sum(axis=1), np.int32)


def ranks_of_pairs(
    similarities: NDArray[np.floating], image_of_text: NDArray[np.integer]
) -> PairRanks:
    """Ranks of images (N,) and captions (T,) from a full matrix (N, T).

    Image to text takes the best of an image's true captions, of which there may be any number.
    """
    owners, images = np.asarray(image_of_text), np.arange(len(similarities))
    return PairRanks(
        i2t=_blockwise(similarities, images, owners), t2i=_blockwise(similarities.T, owners, images)
    )


def _blockwise(
    similarities: NDArray[np.floating],
    image_of_query: NDArray[np.integer],
    image_of_candidate: NDArray[np.integer],
) -> RankArray:
    """Ranks (Q,) of a matrix (Q, N); no more than a block of it is ever copied."""
    ranks = np.empty(len(similarities), np.int32)
    step = max(1, BLOCK_VALUES // max(1, similarities.shape[1]))
    for start in range(0, len(similarities), step):
        rows = slice(start, start + step)
        is_true = image_of_candidate == image_of_query[rows, None]
        ranks[rows] = best_true_ranks(np.ascontiguousarray(similarities[rows]), is_true)
    return ranks
