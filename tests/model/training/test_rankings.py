import numpy as np
import pytest

from model.core.metrics import first_true
from model.core.types import RowArray
from model.training import rankings
from model.training.rankings import OneWay, leading, true_ranks


def way_of(n_queries: int, n_candidates: int, n_images: int, seed: int = 0) -> OneWay:
    """Vectors of small whole numbers: products are exact and many are equal.

    No candidate belongs to the last image.
    """
    rng = np.random.default_rng(seed)
    queries, candidates = (
        rng.integers(-1, 2, (n, 3)).astype(np.float32) for n in (n_queries, n_candidates)
    )
    owners = rng.integers(n_images - 1, size=n_candidates)
    return OneWay(queries, candidates, np.arange(n_queries) % n_images, owners)


def some_lists(way: OneWay, count: int, seed: int = 1) -> RowArray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(len(way.candidates))[:count] for _ in way.queries])


def whole_orders(way: OneWay, listed: RowArray) -> RowArray:
    """What is listed, then the rest by (cosine, row), one query after another."""
    orders = []
    for query, first in zip(way.queries, listed, strict=True):
        by_cosine = np.lexsort((np.arange(len(way.candidates)), -(way.candidates @ query)))
        orders.append([*first, *(row for row in by_cosine if row not in first)])
    return np.array(orders)


def test_a_dropped_match_stands_behind_the_list_in_the_order_of_the_cosine() -> None:
    """By hand: one query along x; cosines of candidates 0 to 4 are 0.6, 1, 0.8, 0.8, 0."""
    candidates = np.array([[0.6, 0.8], [1, 0], [0.8, 0.6], [0.8, -0.6], [0, 1]], np.float32)
    listed = np.array([[4, 0]])
    for image, rank in ((4, 0), (0, 1), (1, 2), (2, 3), (3, 4)):
        way = OneWay(np.array([[1, 0]], np.float32), candidates, np.array([image]), np.arange(5))
        assert true_ranks(way, listed).tolist() == [rank]
    assert leading(way, listed, 4).tolist() == [[4, 0, 1, 2]]


@pytest.mark.parametrize("count", [1, 7, 19, 20])
def test_ranks_are_those_of_the_whole_order(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rankings, "BLOCK_VALUES", 60)  # three queries at a time
    way = way_of(11, 20, 6)
    listed = some_lists(way, count)
    expected = first_true(way.true(whole_orders(way, listed)))
    assert true_ranks(way, listed).tolist() == expected.tolist()
    assert (expected == 20).any()  # a query without any true match ranks behind all


@pytest.mark.parametrize(("count", "depth"), [(0, 6), (4, 9), (9, 4), (4, 99)])
def test_leading_rows_are_those_of_the_whole_order(count: int, depth: int) -> None:
    way = way_of(5, 12, 4, seed=2)
    listed = some_lists(way, count)
    found = leading(way, listed, depth)
    assert found.tolist() == whole_orders(way, listed)[:, :depth].tolist()


def test_a_match_that_stage_one_dropped_never_ranks_within_the_list() -> None:
    way = way_of(40, 30, 6, seed=3)
    listed = some_lists(way, 8)
    missed = ~way.true(listed).any(axis=1)
    assert missed.any()
    assert (true_ranks(way, listed)[missed] >= 8).all()
