"""A stretch of a ranking: its rows and scores, and on request what every stage made of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from model.core.types import FloatArray, RankArray, RowArray
from model.rerankers.ordering import UNKNOWN_RANK, Reranked
from model.search.stage_one import Candidates


@dataclass(frozen=True)
class Explanation:
    """Every stage's view of the hits, each array (k,) in the order of the hits, rank 0 = best.

    Without reverse lists, and in mode `none`, the reverse rank is -1 and complementarity 0. In
    mode `reference` complementarity is the rank term, which alone orders the top 15; in mode
    `pillar`, which reads no lists, it is the refined cosine, which alone orders the network's
    shortlist, and 0 behind that. Expansion is what a bank of pairs adds, 0 without one. Hits
    behind the candidates of Stage II have been seen by cosine alone.
    """

    hamming_distance: RankArray
    pq_score: FloatArray
    consistency: FloatArray
    reverse_rank: RankArray
    complementarity: FloatArray
    expansion: FloatArray
    rank_after_hash: RankArray
    rank_after_pq: RankArray
    rank_after_rerank: RankArray


@dataclass(frozen=True)
class Listed:
    """Candidates (C,) of a query in their final order, best first."""

    rows: RowArray
    scores: FloatArray
    consistency: FloatArray
    explained: Callable[[RowArray], Explanation]  # of some places

    def __len__(self) -> int:
        """C."""
        return len(self.rows)


def reranked(
    rows: RowArray,
    final: Reranked,
    query: int,
    told: Callable[[RowArray], Candidates],
) -> Listed:
    """A query's candidates in the order of Stage II; `told` is what Stage I says of some."""

    def explained(places: RowArray) -> Explanation:
        return _explanation(
            told(final.places[query][places]),
            final.consistency[query][places],
            final.reverse_rank[query][places],
            final.complementarity[query][places],
            final.expansion[query][places],
            places,
        )

    return Listed(rows, final.scores[query], final.consistency[query], explained)


def behind(candidates: Candidates, cosines: FloatArray, before: Listed) -> Listed:
    """Candidates by cosine (C,), descending, whose scores go on below those before."""
    lowest = before.scores.min(initial=np.inf)
    lift = max(0.0, cosines[0] - lowest) if len(cosines) else 0.0
    scores = np.minimum(cosines - lift, lowest)  # the first may be rounded to above it

    def explained(places: RowArray) -> Explanation:
        unknown = np.full(len(places), UNKNOWN_RANK, dtype=np.int32)
        nothing = np.zeros(len(places), dtype=np.float32)
        ranks = len(before) + places
        return _explanation(
            candidates.at(places), cosines[places], unknown, nothing, nothing, ranks
        )

    return Listed(candidates.rows, scores.astype(np.float32), cosines, explained)


def joined(parts: Sequence[Explanation]) -> Explanation:
    """Stretches behind one another as one."""
    names = [one.name for one in fields(Explanation)]
    return Explanation(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def _explanation(
    stage_one: Candidates,
    consistency: FloatArray,
    reverse_rank: RankArray,
    complementarity: FloatArray,
    expansion: FloatArray,
    ranks: RowArray,
) -> Explanation:
    return Explanation(
        hamming_distance=stage_one.distances,
        pq_score=stage_one.pq_scores,
        consistency=consistency,
        reverse_rank=reverse_rank,
        complementarity=complementarity,
        expansion=expansion,
        rank_after_hash=stage_one.hash_ranks,
        rank_after_pq=stage_one.pq_ranks,
        rank_after_rerank=ranks.astype(np.int32),
    )
