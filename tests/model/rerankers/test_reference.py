from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.core.metrics import Recalls, first_true
from model.core.types import Direction
from model.rerankers.reference import (
    FILTERED,
    column_ranks,
    filtered,
    reference_order,
    reference_positions,
)

GOLDEN = Path(__file__).parents[2] / "golden"
CAPTIONS = 5


def golden_similarities(direction: Direction) -> np.ndarray:
    arrays = np.load(GOLDEN / "reference_rerank.npz", allow_pickle=False)
    queries = arrays[f"{direction.query}_embeddings"]
    similarities: np.ndarray = queries @ arrays[f"{direction.candidate}_embeddings"].T
    return similarities


def short(direction: Direction) -> str:
    return "t2i" if direction is Direction.TEXT_TO_IMAGE else "i2t"


def test_only_the_top_moves_and_ties_keep_their_order() -> None:
    ranks = np.array([2, 1, 2, 0, 0])
    assert reference_positions(ranks, depth=4).tolist() == [3, 1, 0, 2, 4]
    assert reference_positions(ranks[:2]).tolist() == [1, 0]


def test_the_filtered_matrix_by_hand() -> None:
    similarities = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    matrix = filtered(similarities, np.array([[2, 0], [1, 2]]))
    np.testing.assert_allclose(matrix, [[0.1, FILTERED, 0.3], [FILTERED, 0.5, 0.6]])


@given(seed=st.integers(0, 2**32 - 1), n_queries=st.integers(1, 12), n_items=st.integers(1, 600))
def test_column_ranks_count_who_is_ahead_of_the_query(
    seed: int, n_queries: int, n_items: int
) -> None:
    rng = np.random.default_rng(seed)
    similarities = rng.integers(0, 4, (n_queries, n_items)) / 4  # many ties
    rows = np.argsort(rng.random((n_queries, n_items)), axis=1)[:, :5]
    ranks = column_ranks(similarities, rows)
    for query, columns in enumerate(rows):
        for place, column in enumerate(columns):
            values, own = similarities[:, column], similarities[query, column]
            ahead = (values > own).sum() + (values[:query] == own).sum()
            assert ranks[query, place] == ahead


@pytest.mark.parametrize("direction", list(Direction))
def test_the_order_is_the_released_codes(direction: Direction) -> None:
    expected = np.load(GOLDEN / "reference_rerank.npz")[f"order_{short(direction)}"]
    order = reference_order(golden_similarities(direction))
    np.testing.assert_array_equal(order, expected)


def best_ranks(direction: Direction) -> np.ndarray:
    """Ranks of the whole cascade: the ids kept by Stage I, then the rule on what is left."""
    kept = np.load(GOLDEN / "stage_one.npz")[f"pq_kept_{short(direction)}"]
    order = reference_order(filtered(golden_similarities(direction), kept))
    queries = np.arange(len(order))[:, None]
    if direction is Direction.TEXT_TO_IMAGE:
        return first_true(order == queries // CAPTIONS)
    return first_true(order // CAPTIONS == queries)


def test_recalls_of_the_whole_cascade_are_the_released_codes() -> None:
    arrays = np.load(GOLDEN / "reference_rerank.npz", allow_pickle=False)
    recalls = Recalls.of(
        *(best_ranks(d) for d in (Direction.IMAGE_TO_TEXT, Direction.TEXT_TO_IMAGE))
    )
    np.testing.assert_allclose(recalls.i2t, arrays["cascade_recalls_i2t"])
    np.testing.assert_allclose(recalls.t2i, arrays["cascade_recalls_t2i"])
