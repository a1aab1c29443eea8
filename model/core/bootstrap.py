"""How far a figure may be chance: percentile intervals of the bootstrap over images.

Images are drawn with replacement, and with each all of its captions, for captions of one image
are no independent queries. The gallery stays whole: what is drawn is who asks. Rankings that
are drawn together are drawn alike, so a difference of two is paired (Efron and Tibshirani, An
Introduction to the Bootstrap, chapter 13).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.core.errors import InputError
from model.core.metrics import CUTS, PairRanks, Recalls
from model.core.types import Frozen

LEVEL = 95.0
DRAWS = 1000
BLOCK_VALUES = 1 << 22

DrawArray = NDArray[np.float64]


class Interval(Frozen):
    """A figure and the bounds of its 95 % percentile interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, draws: DrawArray) -> "Interval":
        """The interval of a figure that was drawn again (draws,)."""
        tail = (100.0 - LEVEL) / 2
        low, high = np.percentile(draws, [tail, 100.0 - tail])
        return cls(value=value, low=float(low), high=float(high))


def image_weights(n_images: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each draw takes each image: multinomial counts (draws, N) that sum to N."""
    taken = rng.integers(n_images, size=(draws, n_images))
    taken += n_images * np.arange(draws)[:, None]
    counts = np.bincount(taken.ravel(), minlength=draws * n_images)
    return counts.reshape(draws, n_images)


def weighted_rsums(
    rankings: Sequence[PairRanks],
    image_of_text: NDArray[np.integer],
    weights: NDArray[np.integer],
) -> DrawArray:
    """The rSum (rankings, draws) of queries that count as often as their image (draws, N).

    Images with more captions ask more often, as they do in the figure itself.
    """
    n_images = weights.shape[1]
    hits = [hit for ranks in rankings for hit in _hits(ranks, image_of_text, n_images)]
    captions = np.bincount(image_of_text, minlength=n_images)
    columns = np.stack([*hits, captions], axis=1).astype(np.float64)  # (N, 2 · rankings + 1)
    sums = (weights.astype(np.float64) @ columns).T
    return np.asarray(100.0 * (sums[:-1:2] / weights.sum(axis=1) + sums[1:-1:2] / sums[-1]))


def _hits(
    ranks: PairRanks, image_of_text: NDArray[np.integer], n_images: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many cuts each image makes (N,), and its captions together (N,)."""
    cuts = np.array(CUTS)[:, None]
    made = (ranks.i2t < cuts).sum(axis=0, dtype=np.float64)
    by_text = (ranks.t2i < cuts).sum(axis=0)  # (T,)
    return made, np.bincount(image_of_text, by_text, minlength=n_images).astype(np.float64)


def rsum_draws(
    rankings: Sequence[PairRanks],
    image_of_text: NDArray[np.integer],
    draws: int,
    seed: int | tuple[int, ...],
) -> DrawArray:
    """The rSum (rankings, draws) of each ranking, all under the same draws of images.

    Raises:
        InputError: there is nothing to draw.
    """
    if draws < 1:
        raise InputError(f"a bootstrap needs 1 draw or more, got {draws}")
    n_images = len(rankings[0].i2t)
    rng, step = np.random.default_rng(seed), max(1, BLOCK_VALUES // n_images)
    blocks = [
        weighted_rsums(
            rankings, image_of_text, image_weights(n_images, min(step, draws - start), rng)
        )
        for start in range(0, draws, step)
    ]
    return np.concatenate(blocks, axis=1)


def paired_difference(
    ranks: PairRanks,
    against: PairRanks,
    image_of_text: NDArray[np.integer],
    draws: int = DRAWS,
    seed: int | tuple[int, ...] = 0,
) -> Interval:
    """How much higher the rSum of one ranking is than another's, over the same images."""
    drawn = rsum_draws([ranks, against], image_of_text, draws, seed)
    value = Recalls.of(*ranks).rsum - Recalls.of(*against).rsum
    return Interval.of(value, drawn[0] - drawn[1])
