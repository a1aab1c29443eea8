"""The gallery's own items as queries, with what is true for them: how an index is measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.artifact.reader import Artifact
from model.core.types import Direction, FloatArray, HalfArray, RowArray
from model.core.vectors import l2_normalised


@dataclass(frozen=True)
class Queries:
    """Query embeddings (Q, D) and the true candidates: `count` rows from `first` on, or none."""

    embeddings: FloatArray
    first: RowArray  # (Q,)
    count: RowArray  # (Q,)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def paired(self) -> bool:
        """Whether every query has a true candidate."""
        return bool(len(self.count) and self.count.all())

    def part(self, start: int, stop: int) -> "Queries":
        """Some of the queries."""
        cut = slice(start, stop)
        return Queries(self.embeddings[cut], self.first[cut], self.count[cut])

    def is_true(self, rows: RowArray) -> NDArray[np.bool_]:
        """Which of the candidate rows (Q, C) are true for their query."""
        first, count = self.first[:, None], self.count[:, None]
        return np.asarray((rows >= first) & (rows < first + count))


def own_queries(artifact: Artifact, direction: Direction, sample: int, seed: int) -> Queries | None:
    """At most `sample` seeded items of the gallery, paired ones if any; else of the bank."""
    if direction.candidate not in artifact.sides:
        return None
    if direction.query in artifact.sides:
        side = artifact.side(direction.query)
        first, count = side.items.partners()
        pool = np.flatnonzero(count) if count.any() else np.arange(len(side))
        rows = _drawn(pool, sample, seed)
        return Queries(_float(side.embeddings, rows), first[rows], count[rows])
    bank = artifact.bank(direction.query)
    if bank is None:
        return None
    rows = _drawn(np.arange(len(bank)), sample, seed)
    return Queries(_float(bank, rows), np.full(len(rows), -1), np.zeros(len(rows), np.int64))


def _drawn(pool: RowArray, sample: int, seed: int) -> RowArray:
    drawn = np.random.default_rng(seed).choice(pool, min(sample, len(pool)), replace=False)
    return np.sort(drawn)


def _float(embeddings: HalfArray, rows: RowArray) -> FloatArray:
    return l2_normalised(np.asarray(embeddings[rows], dtype=np.float32))
