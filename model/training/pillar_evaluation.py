"""Recalls of the pillar re-ranker: as it is served, and as its released code evaluates."""

from collections.abc import Mapping

import numpy as np

from model.core.metrics import Recalls, ranks_of_pairs
from model.core.types import Direction, FloatArray, Frozen, Modality, RowArray
from model.rerankers.pillar.reranker import PillarReranker
from model.training.embedded import Embedded
from model.training.evaluation import Bank, base_ranks, list_ranks
from model.training.pillar_pools import Pool, PreparedPool

BLOCK = 256

Scores = Mapping[Direction, FloatArray]  # (Q, C), of each query's shortlist


class PillarEvaluation(Frozen):
    """Recalls of one split.

    `pillar` orders each query's shortlist and leaves the rest in its place: what is served. The
    averaged ones are the released evaluation: scores written over the base matrix in each
    direction, and the mean of both matrices; `bonus` is its control, a constant added for being
    listed, without learning. `inductive` is `pillar` with a bank for the background.
    """

    base: Recalls
    bonus: Recalls
    pillar: Recalls
    averaged: Recalls
    inductive: Recalls | None = None


def evaluate_pillar(
    split: Embedded, reranker: PillarReranker, bank: Bank | None = None
) -> PillarEvaluation:
    """Every measure of one split; `bank` adds the inductive protocol."""
    pool = PreparedPool.of(Pool(split), reranker.config)
    scores = pool_scores(pool, reranker)
    inductive = None
    if bank is not None:
        outside = PreparedPool.of(Pool(split, bank), reranker.config)
        inductive = served_recalls(outside, pool_scores(outside, reranker))
    return PillarEvaluation(
        base=Recalls.of(*base_ranks(split)),
        bonus=averaged_recalls(pool, bonus_scores(pool)),
        pillar=served_recalls(pool, scores),
        averaged=averaged_recalls(pool, scores),
        inductive=inductive,
    )


def pool_scores(pool: PreparedPool, reranker: PillarReranker) -> Scores:
    """Refined scores of every query's nearest candidates."""
    return {d: _direction_scores(pool, reranker, d) for d in Direction}


def _direction_scores(
    pool: PreparedPool, reranker: PillarReranker, direction: Direction
) -> FloatArray:
    every = np.arange(pool.queries(direction))
    return np.concatenate(
        [
            reranker.list_scores(
                direction, pool.lists(direction, pool.top(direction, every[i : i + BLOCK]))
            )[:, 1:]
            for i in range(0, len(every), BLOCK)
        ]
    )


def bonus_scores(pool: PreparedPool, bonus: float = 1.0) -> Scores:
    """The cosines of the shortlists and a constant: what listing alone is worth."""
    base = _base(pool.split)
    sides = {Direction.IMAGE_TO_TEXT: base, Direction.TEXT_TO_IMAGE: base.T}
    return {
        d: np.take_along_axis(sides[d], _shortlists(pool, d), axis=1) + np.float32(bonus)
        for d in Direction
    }


def served_recalls(pool: PreparedPool, scores: Scores) -> Recalls:
    """Each direction by its own scores: the shortlist in a new order, then the rest."""
    lists = {d: _ordered(_shortlists(pool, d), own) for d, own in scores.items()}
    return Recalls.of(*list_ranks(pool.split, lists))


def averaged_recalls(pool: PreparedPool, scores: Scores) -> Recalls:
    """The released evaluation: the mean of the base matrix overwritten in either direction."""
    by_image, by_text = _base(pool.split), _base(pool.split)
    for view, direction in (
        (by_image, Direction.IMAGE_TO_TEXT),
        (by_text.T, Direction.TEXT_TO_IMAGE),
    ):
        np.put_along_axis(view, _shortlists(pool, direction), scores[direction], axis=1)
    mean = np.asarray((by_image + by_text) / 2, np.float32)
    return Recalls.of(*ranks_of_pairs(mean, pool.split.image_of_text))


def _ordered(rows: RowArray, scores: FloatArray) -> RowArray:
    """Rows (Q, C) by (score, row), best first."""
    return np.take_along_axis(rows, np.lexsort((rows, -scores)), axis=1)


def _shortlists(pool: PreparedPool, direction: Direction) -> RowArray:
    return pool.top(direction, np.arange(pool.queries(direction))).shortlist


def _base(split: Embedded) -> FloatArray:
    """The cosines (N, T)."""
    matrix = split.embeddings[Modality.IMAGE] @ split.embeddings[Modality.TEXT].T
    return np.asarray(matrix, np.float32)
