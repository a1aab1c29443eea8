"""A stretch of a ranking with what every stage made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from model.core.types import FloatArray, RankArray, RowArray
from model.rerankers.ordering import UNKNOWN_RANK, Reranked
from model.search.stage_one import Candidates


@dataclass(frozen=True)
class Listed:
    """Candidates (C,) in their final order, best first; ranks are places in the whole ranking."""

    candidates: Candidates
    ranks: RankArray
    scores: FloatArray
    consistency: FloatArray
    reverse_rank: RankArray
    complementarity: FloatArray
    expansion: FloatArray

    @classmethod
    def reranked(cls, candidates: Candidates, final: Reranked) -> "Listed":
        """Candidates in the order of Stage II."""
        return cls(
            candidates,
            np.arange(len(final.places), dtype=np.int32),
            final.scores,
            final.consistency,
            final.reverse_rank,
            final.complementarity,
            final.expansion,
        )

    @classmethod
    def behind(cls, candidates: Candidates, cosines: FloatArray, before: "Listed") -> "Listed":
        """Candidates by cosine (C,), descending, whose scores go on below those before."""
        count = len(cosines)
        unknown = np.full(count, UNKNOWN_RANK, dtype=np.int32)
        nothing = np.zeros(count, dtype=np.float32)
        lowest = before.scores.min(initial=np.inf)
        lift = max(0.0, cosines[0] - lowest) if count else 0.0
        scores = np.minimum(cosines - lift, lowest)  # the first may be rounded to above it
        ranks = np.arange(len(before), len(before) + count, dtype=np.int32)
        return cls(candidates, ranks, scores.astype(np.float32), cosines, unknown, nothing, nothing)

    @property
    def rows(self) -> RowArray:
        """Rows (C,)."""
        return self.candidates.rows

    def __len__(self) -> int:
        """C."""
        return len(self.ranks)

    def at(self, places: RowArray) -> "Listed":
        """Some of them."""
        first, *others = (getattr(self, one.name) for one in fields(self))
        return Listed(first.at(places), *(values[places] for values in others))


def joined(parts: Sequence[Listed]) -> Listed:
    """Stretches behind one another as one."""
    if len(parts) == 1:
        return parts[0]
    candidates = [part.candidates for part in parts]
    return Listed(
        Candidates(*(_column(candidates, one.name) for one in fields(Candidates))),
        *(_column(parts, one.name) for one in fields(Listed)[1:]),
    )


def _column(parts: Sequence[object], name: str) -> Any:  # noqa: ANN401 - arrays of any kind
    return np.concatenate([getattr(part, name) for part in parts])
