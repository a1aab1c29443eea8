"""Scores in [0, 1] that mean the same for every query, mode and index: shares of a background.

A hit's calibrated score is the share of the bank's items of its modality that are less similar
to the query than the hit is, by cosine. So it says how far a hit stands out from what is usual
for that query, not how likely it is to be right: where the gallery is much larger than the bank,
the first hits are all near 1.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.ann.halves import widened
from model.core.types import FloatArray
from model.core.vectors import cosines

SAMPLE = 2048
ROUNDING = 2.0**-24  # of one float32 operation


@dataclass(frozen=True)
class Usual:
    """What is usual for a query: how near it is to each item of a sample of the bank.

    One matrix product says that for many queries, but not to the last bits: these depend on who
    shares it. So it only tells which items are surely below a score; the others are compared by
    the cosines that hits have.
    """

    query: FloatArray  # (D,)
    sample: FloatArray  # (S, D)
    near: FloatArray  # (S,), off by at most `slack` from the cosines
    slack: float

    def shares(self, scores: FloatArray) -> FloatArray:
        """The share (C,) of the sample that is below each cosine (C,) of an item."""
        exact = self._from(scores.min(initial=np.inf))
        exact.sort()
        below = len(self.sample) - len(exact) + exact.searchsorted(scores)
        return (below / len(self.sample)).astype(np.float32)

    def _from(self, lowest: np.float32) -> FloatArray:
        """All cosines to the sample that are not below one, and maybe some that are."""
        places = np.flatnonzero(self.near >= lowest - self.slack)
        if not self.slack:
            return self.near.take(places)
        few = 2 * len(places) < len(self.sample)
        return cosines(self.sample.take(places, axis=0) if few else self.sample, self.query)


class Background:
    """An even sample of a bank's items, which scores are compared with."""

    def __init__(self, bank: NDArray[np.floating]) -> None:
        """Take the bank (B, D); at most `SAMPLE` of it are kept, widened at first use."""
        self._bank = bank
        self._sample: FloatArray | None = None
        self._longest = 0.0

    def usual(self, queries: FloatArray) -> list[Usual]:
        """What is usual for each query (Q, D)."""
        sample = self._sample if self._sample is not None else self._widened()
        if len(queries) == 1:  # for one query the product is no faster
            return [Usual(queries[0], sample, cosines(sample, queries[0]), 0.0)]
        # By torch: numpy's threads would wait for each other in a server that is busy.
        near = torch.from_numpy(queries) @ torch.from_numpy(sample).T
        lengths = np.sqrt(np.einsum("qd,qd->q", queries, queries))
        # Any order of summing D products is off by at most D roundings of |q|·|b|; two such
        # sums are compared, and as much again covers what is left out here.
        slack = 4 * queries.shape[1] * ROUNDING * self._longest * lengths
        parts = zip(queries, near.numpy(), slack.tolist(), strict=True)
        return [Usual(query, sample, row, bound) for query, row, bound in parts]

    def _widened(self) -> FloatArray:
        count = min(SAMPLE, len(self._bank))
        rows = np.arange(count) * len(self._bank) // max(count, 1)
        sample = widened(np.asarray(self._bank[rows]))
        self._longest = float(np.linalg.norm(sample, axis=1).max(initial=0.0))
        self._sample = sample
        return sample
