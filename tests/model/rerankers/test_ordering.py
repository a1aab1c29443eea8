import numpy as np

from model.core.types import HalfArray, RowArray
from model.rerankers.ordering import (
    UNKNOWN_RANK,
    AppliedRerank,
    by_consistency,
    by_reference,
    by_relationship,
)
from model.rerankers.relationship import relationship
from model.rerankers.weights import DirectionWeights


class Lists:
    """One list per row; remembers the rows that it was asked for."""

    def __init__(self, table: HalfArray) -> None:
        self.table = table
        self.asked: list[int] = []

    def lists(self, rows: RowArray) -> HalfArray:
        self.asked += rows.tolist()
        return self.table[rows]


def rows_and_cosines() -> tuple[RowArray, np.ndarray]:
    return np.array([4, 2, 0, 3]), np.array([0.5, 0.5, 0.25, 0.75], dtype=np.float32)


def test_consistency_orders_by_cosine_and_then_row() -> None:
    rows, cosines = rows_and_cosines()
    ranking = by_consistency(rows, cosines, 3)
    assert rows[ranking.places].tolist() == [3, 2, 4]
    assert ranking.scores.tolist() == [0.75, 0.5, 0.5]
    assert ranking.reverse_rank.tolist() == [UNKNOWN_RANK] * 3
    assert ranking.complementarity.tolist() == [0, 0, 0]
    assert ranking.applied is AppliedRerank.NONE


def test_the_reference_rule_orders_by_reverse_rank_alone() -> None:
    rows, cosines = rows_and_cosines()
    table = np.zeros((5, 3), dtype=np.float16)
    table[3] = [1.0, 1.0, 1.0]  # the best cosine, ranked last by its item
    table[4] = [1.0, 0.5, 0.5]
    ranking = by_reference(rows, cosines, Lists(table), 4)
    assert rows[ranking.places].tolist() == [2, 0, 4, 3]
    assert ranking.reverse_rank.tolist() == [0, 0, 1, 3]
    assert ranking.scores.tolist() == [2.0, 2.0, 1.5, 1.0]
    assert ranking.applied is AppliedRerank.REFERENCE


def test_the_reference_rule_leaves_the_16th_where_it_was_and_reads_15_lists() -> None:
    rows = np.arange(20)
    cosines = np.linspace(0.9, 0.1, 20).astype(np.float32)
    table = np.ones((20, 3), dtype=np.float16)
    table[[14, 15]] = 0.0  # both would rank the query first
    lists = Lists(table)
    ranking = by_reference(rows, cosines, lists, 20)
    assert rows[ranking.places].tolist() == [14, *range(14), *range(15, 20)]
    assert sorted(lists.asked) == list(range(15))
    assert ranking.reverse_rank.tolist() == [0] + [3] * 14 + [UNKNOWN_RANK] * 5
    assert (np.diff(ranking.scores) <= 0).all()


def test_fewer_hits_than_15_are_the_first_of_the_same_order() -> None:
    rng = np.random.default_rng(0)
    rows, cosines = np.arange(30), rng.random(30).astype(np.float32)
    lists = Lists(-np.sort(-rng.random((30, 8)), axis=1).astype(np.float16))
    whole = by_reference(rows, cosines, lists, 30)
    few = by_reference(rows, cosines, lists, 4)
    np.testing.assert_array_equal(few.places, whole.places[:4])
    np.testing.assert_array_equal(few.scores, whole.scores[:4])


def test_relationship_can_turn_the_order_by_cosine() -> None:
    rows, cosines = np.array([0, 1]), np.array([0.5, 0.4], dtype=np.float32)
    table = np.array([[0.9, 0.8], [0.3, 0.2]], dtype=np.float16)
    weights = DirectionWeights(consistency=1.0, complementarity=0.2, hubness=0.0)
    ranking = by_relationship(rows, cosines, relationship(cosines, table, weights), 2)
    assert rows[ranking.places].tolist() == [1, 0]
    np.testing.assert_allclose(ranking.scores, [0.6, 0.5], rtol=1e-6)
    np.testing.assert_allclose(ranking.consistency, [0.4, 0.5], rtol=1e-6)
    assert ranking.reverse_rank.tolist() == [0, 2]
    assert ranking.applied is AppliedRerank.RELATIONSHIP
