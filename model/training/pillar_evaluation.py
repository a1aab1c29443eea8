"""Recalls of the pillar re-ranker: as it is served, and as its released code evaluates."""

from collections.abc import Mapping

import numpy as np

from model.core.metrics import Recalls, ranks_of_pairs
from model.core.types import Direction, FloatArray, Frozen, Modality, RowArray
from model.rerankers.pillar.reranker import PillarReranker
from model.training.embedded import Embedded
from model.training.evaluation import Bank
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
        base=_recalls(split, *(2 * [_base(split)])),
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
    by_image, by_text = (_written(pool, scores, d, above=True) for d in _BOTH)
    return _recalls(pool.split, by_image, by_text)


def averaged_recalls(pool: PreparedPool, scores: Scores) -> Recalls:
    """The released evaluation: the mean of the base matrix overwritten in either direction."""
    by_image, by_text = (_written(pool, scores, d, above=False) for d in _BOTH)
    mean = np.asarray((by_image + by_text) / 2, np.float32)
    return _recalls(pool.split, mean, mean)


_BOTH = (Direction.IMAGE_TO_TEXT, Direction.TEXT_TO_IMAGE)


def _written(
    pool: PreparedPool, scores: Scores, direction: Direction, *, above: bool
) -> FloatArray:
    """The base matrix (N, T) with a direction's scores in it; `above` all others if asked."""
    matrix = _base(pool.split)
    view = matrix if direction is Direction.IMAGE_TO_TEXT else matrix.T
    lift = np.float32(3.0 if above else 0.0)  # cosines differ by 2 at most
    np.put_along_axis(view, _shortlists(pool, direction), scores[direction] + lift, axis=1)
    return matrix


def _shortlists(pool: PreparedPool, direction: Direction) -> RowArray:
    return pool.top(direction, np.arange(pool.queries(direction))).shortlist


def _base(split: Embedded) -> FloatArray:
    matrix = split.embeddings[Modality.IMAGE] @ split.embeddings[Modality.TEXT].T
    return np.asarray(matrix, np.float32)


def _recalls(split: Embedded, by_image: FloatArray, by_text: FloatArray) -> Recalls:
    i2t, _ = ranks_of_pairs(by_image, split.image_of_text)
    _, t2i = ranks_of_pairs(by_text, split.image_of_text)
    return Recalls.of(i2t, t2i)
