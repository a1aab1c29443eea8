"""The field's metrics: R@K in both directions and rSum, in percent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.core.types import Frozen, RankArray

CUTS = (1, 5, 10)


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


def recall_at(ranks: RankArray) -> tuple[float, float, float]:
    """R@1, R@5, R@10 in percent of ranks (Q,), 0 = best."""
    r1, r5, r10 = (100.0 * float(np.mean(ranks < cut)) for cut in CUTS)
    return r1, r5, r10


def first_true(is_true: NDArray[np.bool_]) -> RankArray:
    """Rank (Q,) of the first true candidate of lists (Q, C); C where none is listed."""
    found = is_true.any(axis=1)
    return np.asarray(np.where(found, is_true.argmax(axis=1), is_true.shape[1]), np.int32)


def ranks_of_pairs(
    similarities: NDArray[np.floating], image_of_text: NDArray[np.integer]
) -> tuple[RankArray, RankArray]:
    """Ranks, image to text (N,) and text to image (T,), from a full matrix (N, T).

    Image to text takes the best of an image's true captions. Equal values go to the lower
    index, as a stable sort gives them.
    """
    by_text = np.argsort(-similarities, axis=1, kind="stable")
    i2t = first_true(image_of_text[by_text] == np.arange(len(similarities))[:, None])
    by_image = np.argsort(-similarities.T, axis=1, kind="stable")
    t2i = first_true(by_image == np.asarray(image_of_text)[:, None])
    return i2t, t2i
