"""What a search gives back: a page of hits, and what every stage made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.core.types import FloatArray, Interval, RankArray, RowArray
from model.rerankers.ordering import AppliedRerank
from model.search.calibration import calibrated
from model.search.listing import Listed, joined
from model.search.options import SearchOptions
from model.search.picking import Picked, Picker


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
class Times:
    """How long the stages of a search took, and when each of them was done.

    Of what is done at once for several searches each has its share of the milliseconds.
    """

    milliseconds: Mapping[str, float]  # hash, pq, rerank
    spans: Mapping[str, Interval]


@dataclass(frozen=True)
class Ranking:
    """One query's hits, best first, and what the cascade did for them."""

    rows: RowArray  # (k,)
    scores: FloatArray  # (k,), non-increasing
    rerank: AppliedRerank
    milliseconds: Mapping[str, float]  # hash, pq, rerank; what is done at once is shared
    explanation: Explanation | None = None
    offset: int = 0  # hits of the query that come before
    calibrated: FloatArray | None = None  # (k,), in [0, 1]
    duplicates: Sequence[RowArray] | None = None  # what each hit stands for, best first
    spans: Mapping[str, Interval] = field(default_factory=dict)  # when each stage was done


def ranking_of(
    options: SearchOptions,
    parts: Sequence[tuple[Listed, Picked]],
    picker: Picker,
    applied: AppliedRerank,
    times: Times,
) -> Ranking:
    """The page of the hits that was asked for."""
    hits = joined([listed.at(picked.places) for listed, picked in parts])
    page = hits.at(np.arange(min(options.offset, len(hits)), len(hits)))
    stands_for = [rows for _, picked in parts for rows in picked.duplicates]
    return Ranking(
        page.rows,
        page.scores,
        applied,
        times.milliseconds,
        _explanation(page) if options.explain else None,
        options.offset,
        None if picker.usual is None else calibrated(picker.usual, page.consistency),
        None if options.collapse is None else stands_for[options.offset :],
        times.spans,
    )


def _explanation(page: Listed) -> Explanation:
    stage_one = page.candidates
    return Explanation(
        hamming_distance=stage_one.distances,
        pq_score=stage_one.pq_scores,
        consistency=page.consistency,
        reverse_rank=page.reverse_rank,
        complementarity=page.complementarity,
        expansion=page.expansion,
        rank_after_hash=stage_one.hash_ranks,
        rank_after_pq=stage_one.pq_ranks,
        rank_after_rerank=page.ranks,
    )
