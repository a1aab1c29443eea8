"""Stage II's weights, chosen on pairs that the encoder has not seen.

A grid over the terms' weights and the hubness' temperature; the first of equals, in the order
of the grid, wins. Both directions share their weights: a few hundred held-out images cannot tell
two sets apart, and chosen apart they follow the noise.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from model.core.metrics import recall_at
from model.core.types import Direction, FloatArray, HalfArray, Modality, RankArray, RowArray
from model.rerankers.relationship import hubness, rank_term
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists, valid_counts

COMPLEMENTARITY = (0.0, 0.02, 0.05, 0.1, 0.2)
HUBNESS = (0.0, 0.25, 0.5, 0.75, 1.0)
TEMPERATURES = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class _Terms:
    """Every query against every candidate (Q, N), and which of them are true."""

    cosines: FloatArray
    rank_terms: FloatArray
    lists: HalfArray  # (N, z)
    true: list[RowArray]  # per query, its true candidates


def calibrate(
    held_out: Mapping[Modality, FloatArray],
    image_of_text: RowArray,
    bank: Mapping[Modality, FloatArray],
    z: int,
    calibrated_on: str,
) -> StageTwo:
    """Weights for held-out embeddings (N, D), (T, D) against a bank (B, D) per modality."""
    terms = [_terms(d, held_out, image_of_text, bank, z) for d in Direction]
    best = max(_grid(), key=lambda weights: sum(_value(t, weights) for t in terms))
    return StageTwo(weights=dict.fromkeys(Direction, best), calibrated_on=calibrated_on)


def _grid() -> Iterator[DirectionWeights]:
    for tau, beta, gamma in itertools.product(TEMPERATURES, COMPLEMENTARITY, HUBNESS):
        yield DirectionWeights(complementarity=beta, hubness=gamma, temperature=tau)


def _value(terms: _Terms, weights: DirectionWeights) -> float:
    """R@1 + R@5 + R@10 and the mean reciprocal rank, which tells near misses apart."""
    normaliser = weights.hubness * hubness(terms.lists, weights.temperature)
    scores = terms.cosines + weights.complementarity * terms.rank_terms - normaliser
    ranks = _true_ranks(scores, terms.true)
    return sum(recall_at(ranks)) + 100.0 * float(np.mean(1.0 / (1.0 + ranks)))


def _terms(
    direction: Direction,
    embeddings: Mapping[Modality, FloatArray],
    image_of_text: RowArray,
    bank: Mapping[Modality, FloatArray],
    z: int,
) -> _Terms:
    candidates = embeddings[direction.candidate]
    cosines = embeddings[direction.query] @ candidates.T
    lists = reverse_lists(candidates, bank[direction.query], z)
    if direction is Direction.TEXT_TO_IMAGE:
        true = [np.array([owner]) for owner in image_of_text]
    else:
        true = [np.flatnonzero(image_of_text == row) for row in range(len(cosines))]
    return _Terms(cosines, _rank_terms(cosines, lists), lists, true)


def _rank_terms(cosines: FloatArray, lists: HalfArray) -> FloatArray:
    """The rank term (Q, N): `reverse_ranks` of every query at once, by binary search."""
    own = cosines.astype(np.float16)
    ascending = lists[:, ::-1]
    terms = np.empty(cosines.shape, np.float32)
    for n, (values, entries) in enumerate(zip(ascending, valid_counts(lists), strict=True)):
        ranks = len(values) - np.searchsorted(values, own[:, n], side="right")
        terms[:, n] = rank_term(ranks.astype(np.int32), int(entries))
    return terms


def _true_ranks(scores: FloatArray, true: list[RowArray]) -> RankArray:
    """Rank (Q,) of each query's best true candidate."""
    best = np.array([scores[q, rows].max() for q, rows in enumerate(true)])
    return np.asarray(np.count_nonzero(scores > best[:, None], axis=1), np.int32)
