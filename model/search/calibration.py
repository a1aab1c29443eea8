"""Scores in [0, 1] that mean the same for every query, mode and index: shares of a background.

A hit's calibrated score is the share of the bank's items of its modality that are less similar
to the query than the hit is, by cosine. So it says how far a hit stands out from what is usual
for that query, not how likely it is to be right: where the gallery is much larger than the bank,
the first hits are all near 1.
"""

import numpy as np
from numpy.typing import NDArray

from model.ann.halves import widened
from model.core.types import FloatArray
from model.core.vectors import cosines

SAMPLE = 2048


class Background:
    """An even sample of a bank's items, which scores are compared with."""

    def __init__(self, bank: NDArray[np.floating]) -> None:
        """Take the bank (B, D); at most `SAMPLE` of it are kept, widened at first use."""
        self._bank = bank
        self._vectors: FloatArray | None = None

    def usual(self, queries: FloatArray) -> FloatArray:
        """What is usual for queries (Q, D): their cosines (Q, S) to the sample, ascending."""
        if self._vectors is None:
            count = min(SAMPLE, len(self._bank))
            rows = np.arange(count) * len(self._bank) // max(count, 1)
            self._vectors = widened(np.asarray(self._bank[rows]))
        return np.sort(cosines(self._vectors, queries), axis=-1)


def calibrated(usual: FloatArray, scores: FloatArray) -> FloatArray:
    """The share (C,) of the usual values (S,), ascending, below each cosine (C,)."""
    return (np.searchsorted(usual, scores) / len(usual)).astype(np.float32)
