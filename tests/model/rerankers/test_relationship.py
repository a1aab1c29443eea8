import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.core.types import Direction, HalfArray
from model.rerankers.relationship import hubness, rank_term, relationship
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import PADDING


def lists_of(seed: int, count: int, entries: int, z: int) -> HalfArray:
    values = np.random.default_rng(seed).uniform(-1, 1, (count, entries)).astype(np.float16)
    lists = np.full((count, z), PADDING, dtype=np.float16)
    lists[:, :entries] = -np.sort(-values, axis=1)
    return lists


def test_the_rank_term_by_hand() -> None:
    ranks = np.array([0, 1, 3, 7], dtype=np.int32)
    # log2(1 + r) / log2(1 + 7) = 0, 1/3, 2/3, 1
    np.testing.assert_allclose(rank_term(ranks, 7), [1, 2 / 3, 1 / 3, 0], atol=1e-6)


def test_a_shorter_list_measures_its_ranks_against_its_own_entries() -> None:
    ranks = np.array([3, 3, 1, 0], dtype=np.int32)
    entries = np.array([3, 15, 1, 0], dtype=np.int32)
    np.testing.assert_allclose(rank_term(ranks, entries), [0, 0.5, 0, 0], atol=1e-6)


@given(z=st.integers(1, 300))
def test_the_rank_term_falls_from_one_to_zero(z: int) -> None:
    term = rank_term(np.arange(z + 1, dtype=np.int32), z)
    assert term[0] == 1.0
    assert term[-1] == pytest.approx(0.0, abs=1e-6)
    assert (np.diff(term) < 0).all()


def test_hubness_by_hand() -> None:
    lists = np.array([[0.5, 0.25], [0.5, PADDING], [PADDING, PADDING]], dtype=np.float16)
    two = 0.1 * math.log((math.exp(5) + math.exp(2.5)) / 2)
    np.testing.assert_allclose(hubness(lists, 0.1), [two, 0.5, 0.0], rtol=1e-5)


@given(
    seed=st.integers(0, 2**32 - 1),
    entries=st.integers(1, 20),
    temperature=st.sampled_from([0.01, 0.1, 1.0, 50.0]),
)
def test_hubness_is_the_soft_maximum_of_the_entries_alone(
    seed: int, entries: int, temperature: float
) -> None:
    lists = lists_of(seed, 6, entries, 20)
    exact = lists[:, :entries].astype(np.float64)
    expected = temperature * np.log(np.exp((exact - 1) / temperature).mean(axis=1)) + 1
    found = hubness(lists, temperature)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found <= exact.max(axis=1) + 1e-4).all()
    assert (found >= exact.mean(axis=1) - 1e-4).all()


def test_scores_by_hand() -> None:
    lists = np.array([[0.75, 0.5, 0.25]] * 2, dtype=np.float16)
    weights = DirectionWeights(consistency=2.0, complementarity=10.0, hubness=0.0, temperature=0.1)
    terms = relationship(np.array([0.6, 0.1], dtype=np.float32), lists, weights)
    assert terms.reverse_rank.tolist() == [1, 3]
    np.testing.assert_allclose(terms.complementarity, [5.0, 0.0], atol=1e-5)  # 1 - log 2 / log 4
    np.testing.assert_allclose(terms.scores, [6.2, 0.2], rtol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), entries=st.integers(1, 12))
def test_scores_are_the_weighted_sum_of_the_features(seed: int, entries: int) -> None:
    rng = np.random.default_rng(seed)
    lists, cosines = lists_of(seed, 9, entries, 12), rng.uniform(-1, 1, 9).astype(np.float32)
    weights = DirectionWeights(consistency=0.8, complementarity=0.3, hubness=0.6, temperature=0.2)
    terms = relationship(cosines, lists, weights)
    ranks = [
        (row > value).sum() for row, value in zip(lists, cosines.astype(np.float16), strict=True)
    ]
    assert terms.reverse_rank.tolist() == ranks
    by_rank = rank_term(terms.reverse_rank, np.full(9, entries))
    expected = 0.8 * cosines + 0.3 * by_rank - 0.6 * hubness(lists, 0.2)
    np.testing.assert_allclose(terms.scores, expected, atol=1e-5)
    np.testing.assert_allclose(
        terms.scores - np.float32(0.8) * cosines, terms.complementarity, atol=1e-5
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_a_candidates_terms_do_not_depend_on_its_neighbours(seed: int) -> None:
    lists = lists_of(seed, 33, 17, 17)
    cosines = np.random.default_rng(seed).uniform(-1, 1, 33).astype(np.float32)
    together = relationship(cosines, lists, DirectionWeights())
    for row in (0, 13, 32):
        alone = relationship(cosines[row : row + 1], lists[row : row + 1], DirectionWeights())
        assert alone.scores[0] == together.scores[row]


def test_weights_survive_json_and_refuse_a_temperature_of_zero() -> None:
    stage_two = StageTwo(
        weights={d: DirectionWeights(hubness=i) for i, d in enumerate(Direction)},
        calibrated_on="train",
    )
    assert StageTwo.model_validate_json(stage_two.model_dump_json()) == stage_two
    with pytest.raises(ValidationError, match="temperature"):
        DirectionWeights(temperature=0.0)


def test_default_weights_cover_both_directions() -> None:
    assert set(StageTwo().weights) == set(Direction)
