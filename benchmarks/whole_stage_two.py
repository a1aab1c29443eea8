"""The default Stage II over a whole matrix of queries and candidates, without Stage I.

The terms are those that a search computes (`model/rerankers`), a matrix at a time: the cascade
that keeps everything gives the same ranks, more slowly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model.ann.halves import widened
from model.core.metrics import PairRanks, best_true_ranks
from model.core.types import Direction, FloatArray, HalfArray, RankArray
from model.heads.heads import Heads
from model.rerankers.pairs import PairBank
from model.rerankers.relationship import hubness, rank_term
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists, valid_counts
from model.training.embedded import Embedded
from model.training.evaluation import Bank


class Expanded(NamedTuple):
    """Cosines (Q, N) of candidates with the queries' expansions."""

    partners: FloatArray
    nearest: FloatArray


@dataclass(frozen=True)
class Asked:
    """One direction of a split at the precision of an artifact."""

    queries: FloatArray  # (Q, D)
    candidates: FloatArray  # (N, D), rounded to fp16
    cosines: FloatArray  # (Q, N)

    @classmethod
    def of(cls, split: Embedded, direction: Direction) -> "Asked":
        """The queries as they come, the candidates as they are stored."""
        way = split.one_way(direction)
        stored = way.candidates.astype(np.float16).astype(np.float32)
        return cls(way.queries, stored, way.queries @ stored.T)

    def lists(self, bank: FloatArray, z: int) -> HalfArray:
        """Reverse lists (N, z) of the candidates over a bank (B, D)."""
        return reverse_lists(self.candidates, bank.astype(np.float16), z)

    def expanded(self, direction: Direction, pairs: PairBank, heads: Heads) -> Expanded:
        """What a bank of pairs says, found as a search finds it."""
        head = heads.heads[direction.query]
        found = [
            pairs.expand(direction.query, query, head.query_hash_space(query))
            for query in self.queries
        ]
        partners, nearest, _ = (np.stack(place) for place in zip(*found, strict=True))
        return Expanded(partners @ self.candidates.T, nearest @ self.candidates.T)


@dataclass(frozen=True)
class WholeStageTwo:
    """Stage II over a split: what every bank and depth share, both directions."""

    split: Embedded
    heads: Heads
    stage_two: StageTwo
    asked: Mapping[Direction, Asked]

    @classmethod
    def of(cls, split: Embedded, heads: Heads, stage_two: StageTwo) -> "WholeStageTwo":
        """Nothing but the cosines yet."""
        return cls(split, heads, stage_two, {d: Asked.of(split, d) for d in Direction})

    def lists(self, bank: Bank | None, z: int) -> dict[Direction, HalfArray]:
        """Both directions' lists (N, z) over a bank, or over the split's own queries."""
        over = self.split.embeddings if bank is None else bank
        return {d: one.lists(np.asarray(over[d.query]), z) for d, one in self.asked.items()}

    def expanded(self, pairs: PairBank | None) -> dict[Direction, Expanded | None]:
        """Both directions' expansions, none without a bank of pairs."""
        return {
            d: None if pairs is None else one.expanded(d, pairs, self.heads)
            for d, one in self.asked.items()
        }

    def ranks(
        self,
        lists: Mapping[Direction, HalfArray],
        expansions: Mapping[Direction, Expanded | None],
        *,
        own_bank: bool,
    ) -> PairRanks:
        """Ranks of the true matches."""
        ranks = {}
        for direction, asked in self.asked.items():
            said = expansions[direction]
            weights = self.stage_two.of(direction, own_bank=own_bank, pairs=said is not None)
            scores = relationship_matrix(asked.cosines, lists[direction], weights, said)
            ranks[direction] = split_ranks(self.split, direction, scores)
        return PairRanks.of(ranks)


def split_ranks(split: Embedded, direction: Direction, scores: FloatArray) -> RankArray:
    """Ranks (Q,) of each query's best true match under scores (Q, N)."""
    way = split.one_way(direction)
    return best_true_ranks(scores, way.query_image[:, None] == way.candidate_image)


def relationship_matrix(
    cosines: FloatArray, lists: HalfArray, weights: DirectionWeights, said: Expanded | None
) -> FloatArray:
    """Scores (Q, N) of `relationship`, with cosines (Q, N) and the candidates' lists (N, z)."""
    ranks = rank_matrix(cosines, lists)
    scores = weights.complementarity * rank_term(ranks, valid_counts(lists))
    scores -= np.float32(weights.hubness) * hubness(lists, weights.temperature)
    scores += np.float32(weights.consistency) * cosines
    if said is not None:
        scores += np.float32(weights.expansion) * said.partners
        scores += np.float32(weights.feedback) * said.nearest
    return np.asarray(scores, np.float32)


def rank_matrix(cosines: FloatArray, lists: HalfArray) -> RankArray:
    """Reverse ranks (Q, N), 0 = best, of all queries at candidates with lists (N, z)."""
    own = cosines.astype(np.float16).astype(np.float32)
    ascending = np.ascontiguousarray(widened(lists)[:, ::-1])
    z = lists.shape[1]
    ranks = np.empty(cosines.shape, np.int32)
    for item, values in enumerate(ascending):
        ranks[:, item] = z - np.searchsorted(values, own[:, item], side="right")
    return ranks
