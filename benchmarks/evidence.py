"""What the rules of the comparison know about queries and candidates, worked out once for all.

A rule sees the whole matrix of cosines; what the queries' bank says about every candidate; and
what a bank of pairs says about every query. Which bank of queries that is, is the protocol: the
queries themselves (transductive), or the train split's (inductive).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.core.types import Direction, FloatArray, Modality, RankArray, RowArray
from model.core.vectors import l2_normalised
from model.training.embedded import Embedded

NEAREST = 500  # as many of a candidate's highest cosines to the bank are kept
SHARPNESS = (5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0)  # inverse temperatures that rules ask for
NEIGHBOURS = (5, 20)
PAIR_SHARPNESS = 10.0
BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class Sought:
    """One direction under both protocols.

    `expansions` holds, for each number of neighbours, the candidates' cosines (Q, N) to the
    partners of the query's nearest bank entries.
    """

    cosines: FloatArray  # (Q, N)
    is_true: NDArray[np.bool_]  # (Q, N)
    candidates: FloatArray  # (N, D)
    expansions: Mapping[int, FloatArray]

    @classmethod
    def of(cls, split: Embedded, pairs: Embedded, direction: Direction) -> "Sought":
        """The queries and candidates of a split, beside a bank of pairs."""
        way = split.one_way(direction)
        placed = expansions(way.queries, pairs, direction.query)
        return cls(
            way.queries @ way.candidates.T,
            way.query_image[:, None] == way.candidate_image,
            way.candidates,
            {k: place @ way.candidates.T for k, place in placed.items()},
        )


@dataclass(frozen=True)
class Evidence:
    """One direction under one protocol: what B bank entries say about each of N candidates.

    `reverse_ranks` counts the entries above the query's own cosine, `nearest` holds a candidate's
    highest cosines to the bank, `log_sums` log Σ exp(β·cosine) over all of it, and `activated`
    are the candidates that some entry finds first.
    """

    sought: Sought
    reverse_ranks: RankArray  # (Q, N), 0 = best
    nearest: FloatArray  # (N, at most NEAREST), descending
    log_sums: Mapping[float, FloatArray]  # (N,) for each β
    activated: NDArray[np.bool_]  # (N,)
    memo: dict[tuple[int, int], FloatArray] = field(default_factory=dict)

    @property
    def cosines(self) -> FloatArray:
        """The cosines (Q, N)."""
        return self.sought.cosines

    @classmethod
    def transductive(cls, sought: Sought) -> "Evidence":
        """The bank is the queries themselves: the very cosines, so none outranks itself."""
        by_candidate = np.ascontiguousarray(sought.cosines.T)
        return cls._over(sought, lambda rows: by_candidate[rows])

    @classmethod
    def inductive(cls, sought: Sought, bank: FloatArray) -> "Evidence":
        """The bank is given: entries (B, D) of the queries' modality."""
        return cls._over(sought, lambda rows: sought.candidates[rows] @ bank.T)

    @classmethod
    def _over(cls, sought: Sought, told: Callable[[slice], FloatArray]) -> "Evidence":
        """Read the candidates' cosines to the bank, `told` (rows, B) a block at a time."""
        n_items, n_bank = len(sought.candidates), told(slice(0, 1)).shape[1]
        ranks = np.empty(sought.cosines.shape, np.int32)
        nearest = np.empty((n_items, min(NEAREST, n_bank)), np.float32)
        sums = {beta: np.empty(n_items, np.float32) for beta in SHARPNESS}
        first = Firsts.of(n_bank)
        for rows in blocks(n_items, n_bank):
            values = told(rows)
            first.see(values, rows.start)
            values = np.sort(values, axis=1)  # ascending
            nearest[rows] = values[:, ::-1][:, : nearest.shape[1]]
            ranks[:, rows] = _counts_above(values, sought.cosines[:, rows])
            for beta, total in sums.items():
                total[rows] = log_sum_exp(beta * values)
        return cls(sought, ranks, nearest, sums, first.activated(n_items))


@dataclass
class Firsts:
    """Which candidate each of B bank entries finds first, while blocks of them go by."""

    best: FloatArray  # (B,)
    row: RowArray  # (B,)

    @classmethod
    def of(cls, n_bank: int) -> "Firsts":
        """Nothing found yet."""
        return cls(np.full(n_bank, -np.inf, np.float32), np.zeros(n_bank, np.int64))

    def see(self, values: FloatArray, start: int) -> None:
        """Take the cosines (rows, B) of the candidates from `start` on."""
        at = values.argmax(axis=0)
        highest = np.take_along_axis(values, at[None], axis=0)[0]
        better = highest > self.best
        self.best[better], self.row[better] = highest[better], start + at[better]

    def activated(self, n_items: int) -> NDArray[np.bool_]:
        """The candidates (N,) that some entry finds first."""
        return np.isin(np.arange(n_items), self.row)


def blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of rows so that none holds many more than BLOCK_VALUES values."""
    step = max(1, BLOCK_VALUES // max(1, width))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def log_sum_exp(values: FloatArray) -> FloatArray:
    """The logarithm of Σ exp of each row (N,) of values (N, B)."""
    highest = values.max(axis=1)
    return np.asarray(highest + np.log(np.exp(values - highest[:, None]).sum(axis=1)))


def expansions(queries: FloatArray, pairs: Embedded, modality: Modality) -> dict[int, FloatArray]:
    """Unit vectors (Q, D) for each number of neighbours: where a query's kin have their partners.

    The neighbours, found among all bank entries of the query's modality, weigh in by a softmax of
    ten times their cosines. A caption's partner is its image, an image's the mean of its captions.
    """
    bank, partners = pairs.embeddings[modality], _partners(pairs, modality)
    placed = {k: np.empty_like(queries) for k in NEIGHBOURS}
    for rows in blocks(len(queries), len(bank)):
        cosines = queries[rows] @ bank.T
        for k, out in placed.items():
            near = _top(cosines, k)  # (rows, k)
            shares = np.exp(PAIR_SHARPNESS * np.take_along_axis(cosines, near, axis=1))
            out[rows] = l2_normalised(np.einsum("qk,qkd->qd", shares, partners[near]))
    return placed


def _partners(pairs: Embedded, modality: Modality) -> FloatArray:
    """The partner (B, D) of each bank entry of a modality; zeros where there is none."""
    images, texts = pairs.embeddings[Modality.IMAGE], pairs.embeddings[Modality.TEXT]
    if modality is Modality.TEXT:
        known = (pairs.image_of_text >= 0)[:, None]
        return np.where(known, images[pairs.image_of_text], np.float32(0.0))
    sums = np.zeros_like(images)
    known = pairs.image_of_text >= 0
    np.add.at(sums, pairs.image_of_text[known], texts[known])
    counts = np.bincount(pairs.image_of_text[known], minlength=len(images))
    return np.asarray(sums / np.maximum(counts, 1)[:, None], np.float32)


def _top(values: FloatArray, k: int) -> RowArray:
    """Places (rows, k) of the highest of each row (rows, B), in any order."""
    k = min(k, values.shape[1])
    return np.argpartition(values, -k, axis=1)[:, -k:]


def _counts_above(ascending: FloatArray, own: FloatArray) -> RankArray:
    """How many of each candidate's values (rows, B) exceed each query's cosine (Q, rows)."""
    n_bank = ascending.shape[1]
    counts = [
        n_bank - np.searchsorted(values, cosines, side="right")
        for values, cosines in zip(ascending, own.T, strict=True)
    ]
    return np.stack(counts, axis=1).astype(np.int32)
