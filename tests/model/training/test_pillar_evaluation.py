import numpy as np
import pytest

from model.core.metrics import Recalls, ranks_of_pairs
from model.core.types import Direction, Modality
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.reranker import PillarReranker
from model.training.evaluation import base_ranks
from model.training.pillar_evaluation import (
    averaged_recalls,
    bonus_scores,
    evaluate_pillar,
    pool_scores,
    served_recalls,
)
from model.training.pillar_pools import Pool, PreparedPool
from tests.model.training.pillar_world import sibling_split

CONFIG = PillarConfig(width=16, heads=2)


@pytest.fixture(scope="module")
def pool() -> PreparedPool:
    return PreparedPool.of(Pool(sibling_split(0, images=60)), CONFIG)


def slow(
    pool: PreparedPool, scores: dict[Direction, np.ndarray], lift: float
) -> tuple[np.ndarray, np.ndarray]:
    """The base matrix (N, T) with each direction's scores written in, entry by entry."""
    split = pool.split.embeddings
    matrices = []
    for direction in (Direction.IMAGE_TO_TEXT, Direction.TEXT_TO_IMAGE):
        matrix = split[Modality.IMAGE] @ split[Modality.TEXT].T
        for query, row in enumerate(scores[direction]):
            queries, others = split[direction.query], split[direction.candidate]
            listed = np.argsort(-(others @ queries[query]), kind="stable")[: len(row)]
            for candidate, score in zip(listed, row, strict=True):
                image = direction is Direction.IMAGE_TO_TEXT
                place = (query, candidate) if image else (candidate, query)
                matrix[place] = score + lift
        matrices.append(matrix)
    return matrices[0], matrices[1]


def recalls(by_image: np.ndarray, by_text: np.ndarray, owners: np.ndarray) -> Recalls:
    return Recalls.of(ranks_of_pairs(by_image, owners)[0], ranks_of_pairs(by_text, owners)[1])


def test_both_evaluations_are_the_written_matrices(pool: PreparedPool) -> None:
    scores = dict(pool_scores(pool, PillarReranker.untrained(CONFIG, 0)))
    owners = pool.split.image_of_text
    assert served_recalls(pool, scores) == recalls(*slow(pool, scores, lift=9.0), owners)
    mean = np.mean(slow(pool, scores, lift=0.0), axis=0)
    assert averaged_recalls(pool, scores) == recalls(mean, mean, owners)


def test_cosines_in_the_place_of_scores_change_nothing(pool: PreparedPool) -> None:
    scores = bonus_scores(pool, bonus=0.0)
    assert served_recalls(pool, scores) == Recalls.of(*base_ranks(pool.split))
    assert averaged_recalls(pool, scores) == Recalls.of(*base_ranks(pool.split))


def test_a_constant_bonus_orders_mutual_candidates_first(pool: PreparedPool) -> None:
    """Served alone it changes nothing; averaged, who is listed both ways goes ahead."""
    scores = dict(bonus_scores(pool))
    assert served_recalls(pool, scores) == Recalls.of(*base_ranks(pool.split))
    mean = np.mean(slow(pool, scores, lift=0.0), axis=0)
    found = averaged_recalls(pool, scores)
    assert found == recalls(mean, mean, pool.split.image_of_text)


def test_a_bank_adds_the_inductive_protocol_and_nothing_else(pool: PreparedPool) -> None:
    reranker = PillarReranker.untrained(CONFIG, 0)
    bank = sibling_split(8, images=30).embeddings
    without = evaluate_pillar(pool.split, reranker)
    found = evaluate_pillar(pool.split, reranker, bank)
    assert without.inductive is None
    assert found.inductive is not None
    assert found.model_copy(update={"inductive": None}) == without
    assert found.base == Recalls.of(*base_ranks(pool.split))


def test_the_inductive_background_is_the_bank_and_never_the_split(pool: PreparedPool) -> None:
    bank = sibling_split(8, images=30).embeddings
    outside = PreparedPool.of(Pool(pool.split, bank), CONFIG)
    for direction in Direction:
        side = outside.sides[direction]
        np.testing.assert_array_equal(side.background, bank[direction.query])
        nearest = np.argmax(pool.split.embeddings[direction.query] @ side.background.T, axis=1)
        np.testing.assert_array_equal(outside.intra[direction][:, 0], nearest)
        assert not outside.transductive
