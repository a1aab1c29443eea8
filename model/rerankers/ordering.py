"""Stage II's orders over queries' candidates, one function a mode."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np

from model.ann.selection import along, top_positions
from model.core.types import FloatArray, RankArray, RowArray
from model.rerankers.reference import DEPTH, reference_positions
from model.rerankers.relationship import Relationship, rank_term
from model.reverse_lists.compute import reverse_ranks, valid_counts
from model.reverse_lists.layers import ReverseListSource

UNKNOWN_RANK = -1
LISTED = np.float32(2.0)  # lifts refined cosines above all others


class AppliedRerank(StrEnum):
    """What Stage II really did: the mode asked for, or cosine alone where lists are missing."""

    RELATIONSHIP = "relationship"
    REFERENCE = "reference"
    PILLAR = "pillar"
    LEARNED = "learned"
    NONE = "none"
    CONSISTENCY_ONLY = "consistency_only"


@dataclass(frozen=True)
class Reranked:
    """Hits (..., k) in their final order; `places` are their positions among the candidates.

    Where no list was read the reverse rank is -1 and complementarity 0; without a bank of pairs
    expansion is 0.
    """

    places: RowArray
    scores: FloatArray
    consistency: FloatArray
    reverse_rank: RankArray
    complementarity: FloatArray
    expansion: FloatArray
    applied: AppliedRerank

    @classmethod
    def stacked(cls, parts: Sequence["Reranked"]) -> "Reranked":
        """Hits (Q, k) of queries whose hits (k,) were found one after another."""
        names = [field.name for field in fields(cls) if field.name != "applied"]
        columns = {name: np.stack([getattr(part, name) for part in parts]) for name in names}
        return cls(**columns, applied=parts[0].applied)


def by_consistency(
    rows: RowArray, cosines: FloatArray, k: int, applied: AppliedRerank = AppliedRerank.NONE
) -> Reranked:
    """The best k candidates (..., C) by (cosine, row)."""
    places = top_positions(cosines, rows, k)
    found = along(cosines, places)
    unknown = np.full(places.shape, UNKNOWN_RANK, dtype=np.int32)
    nothing = np.zeros(places.shape, dtype=np.float32)
    return Reranked(places, found, found, unknown, nothing, nothing, applied)


def by_relationship(rows: RowArray, cosines: FloatArray, terms: Relationship, k: int) -> Reranked:
    """The best k candidates (..., C) by (consistency + complementarity + expansion, row)."""
    places = top_positions(terms.scores, rows, k)
    scores = along(terms.scores, places)
    return _as_related(terms, cosines, places, scores, AppliedRerank.RELATIONSHIP)


def by_learned(
    rows: RowArray,
    cosines: FloatArray,
    related: Relationship,
    first: RowArray,
    learned: FloatArray,
    k: int,
) -> Reranked:
    """The best k by learned scores of the shortlist, the first places by relationship.

    What was not scored stays behind in its order, and its scores below all others.
    """
    listed, rest = first[: len(learned)], first[len(learned) :]
    moved = top_positions(learned, rows[listed], len(learned))
    behind = related.scores[rest] - related.scores[rest].max(initial=-np.inf)
    places = np.concatenate([listed[moved], rest])[:k]
    scores = np.concatenate([learned[moved], behind + learned.min(initial=np.inf)])[:k]
    return _as_related(related, cosines, places, scores, AppliedRerank.LEARNED)


def _as_related(
    terms: Relationship,
    cosines: FloatArray,
    places: RowArray,
    scores: FloatArray,
    applied: AppliedRerank,
) -> Reranked:
    return Reranked(
        places,
        scores.astype(np.float32),
        along(cosines, places),
        along(terms.reverse_rank, places),
        along(terms.complementarity, places),
        along(terms.expansion, places),
        applied,
    )


def by_reference(
    rows: RowArray, cosines: FloatArray, source: ReverseListSource, k: int
) -> Reranked:
    """The best k by the released rule over the order by (cosine, row).

    Only the top 15 lists are read: nothing else can move. These score 1 + rank term, from 1 to
    2, the others their cosine, so that scores fall with the order.
    """
    first = top_positions(cosines, rows, max(k, DEPTH))
    top = first[:DEPTH]
    lists = source.lists(rows[top])
    ranks = reverse_ranks(lists, cosines[top])
    terms = rank_term(ranks, valid_counts(lists))
    moved = reference_positions(ranks)
    places = np.concatenate([top[moved], first[DEPTH:]])[:k]
    known = slice(min(k, len(top)))
    reverse_rank = np.full(len(places), UNKNOWN_RANK, dtype=np.int32)
    complementarity = np.zeros(len(places), dtype=np.float32)
    scores = np.minimum(cosines[places], np.float32(1.0))
    reverse_rank[known], complementarity[known] = ranks[moved][known], terms[moved][known]
    scores[known] = 1.0 + complementarity[known]
    return Reranked(
        places,
        scores,
        cosines[places],
        reverse_rank,
        complementarity,
        np.zeros_like(complementarity),
        AppliedRerank.REFERENCE,
    )


def by_pillars(
    rows: RowArray, cosines: FloatArray, first: RowArray, refined: FloatArray, k: int
) -> Reranked:
    """The best k by the refined cosines of the shortlist, the first places by (cosine, row).

    These score 2 + refined cosine, from 1 to 3, the others their cosine, so that scores fall
    with the order.
    """
    listed, terms = first[: len(refined)], np.clip(refined, -1.0, 1.0)
    moved = top_positions(refined, rows[listed], len(refined))
    places = np.concatenate([listed[moved], first[len(refined) :]])[:k]
    known = slice(min(k, len(refined)))
    complementarity = np.zeros(len(places), dtype=np.float32)
    complementarity[known] = terms[moved][known]
    scores = np.minimum(cosines[places], np.float32(1.0))
    scores[known] = LISTED + complementarity[known]
    return Reranked(
        places,
        scores,
        cosines[places],
        np.full(len(places), UNKNOWN_RANK, dtype=np.int32),
        complementarity,
        np.zeros_like(complementarity),
        AppliedRerank.PILLAR,
    )
